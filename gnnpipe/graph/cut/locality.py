"""Locality orders: chunks along a line, so that each chunk reads only chunks near it.

    chunk   0 === 1 === 2 === 3 === 4        width 1: every edge stays in a chunk or joins neighbours
                  +-----------+              width 2: an edge joins chunks 1 and 3

With a lookahead of at least the width, a pipeline reads no stale row.

Several parts are strips of the same line, which is folded at their ends. So chunks that lie side by side have
numbers that are as close as before, and parts exchange rows at the folds only:

    part 0    chunk 0 === 1 === 2 === 3
                                      |
    part 1    chunk 0 === 1 === 2 === 3
                    |
    part 2    chunk 0 === 1 === 2 === 3
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import reverse_cuthill_mckee

from gnnpipe.graph.csr import Csr
from gnnpipe.graph.cut.partition import cut_order, partition
from gnnpipe.graph.cut.structure import Structure

# Above this METIS is not tried: it takes seconds for each number of chunks on a large graph, and its chunks
# are seldom the narrowest.
MOST_METIS_CHUNKS = 64


@dataclass(frozen=True)
class LocalCut:
    """Chunks numbered along a line, in each part of it."""

    part: np.ndarray
    """int ``[num_nodes]``: part of each node."""
    chunk: np.ndarray
    """int ``[num_nodes]``: chunk of each node inside its part."""
    width: int
    """Largest distance, in chunks, between the ends of an edge: neither pass reads farther."""
    shares: np.ndarray
    """float ``[num_chunks]``: work of each chunk, over all parts, in units of the mean chunk's."""
    method: str
    """``line-given`` (the nodes' own order), ``line-rcm`` (reverse Cuthill-McKee on nodes), or ``line-metis``
    (METIS, then reverse Cuthill-McKee on its chunks)."""


class Locality:
    """Locality orders of one graph, made once and cut into any number of chunks.

    Args:
        graph: adjacency, or its structure; directions are ignored, as the backward pass reads along the same
            edges.
        cost: ``[num_nodes]``: work of each node; each chunk gets the same total.
    """

    def __init__(self, graph: Csr | Structure, cost: np.ndarray) -> None:
        self._cost = cost
        self._structure = graph if isinstance(graph, Structure) else Structure.of(graph)
        # data sets often come in an order that is local already, such as that of a mesh's generator
        self._orders = {
            "line-given": np.arange(self._structure.num_rows),
            "line-rcm": reverse_cuthill_mckee(self._structure.to_scipy(), symmetric_mode=True),
        }

    def cut(self, num_chunks: int, num_parts: int = 1) -> LocalCut:
        """The cut into ``num_chunks`` chunks of each part with the smallest width; no part is empty while
        nodes suffice.

        Chunks have equal work. Where a graph is wider in some places than in others, that of one part may be
        cut into larger chunks there, if edges then join neighbours only.
        """
        lines = self._lines(num_chunks * num_parts, uneven=num_parts == 1)
        cuts = (self._folded(place, num_chunks, method) for method, place in lines)
        narrowest = next(cuts)
        while narrowest.width > 1 and (cut := next(cuts, None)) is not None:
            narrowest = min(narrowest, cut, key=lambda found: found.width)
        return narrowest

    def _folded(self, place: np.ndarray, num_chunks: int, method: str) -> LocalCut:
        """Fold a line, on which each node has a place, into parts of ``num_chunks`` places each."""
        part, place = np.divmod(place, num_chunks)
        chunk = np.where(part % 2 == 0, place, num_chunks - 1 - place)
        work = np.bincount(chunk, weights=self._cost, minlength=num_chunks)
        return LocalCut(part, chunk, self._width(chunk), work / work.mean(), method)

    def _lines(self, num_chunks: int, *, uneven: bool) -> Iterator[tuple[str, np.ndarray]]:
        """Methods, and the place on the line of each node's chunk."""
        # an order of the nodes, cut into ranges of equal cost
        for method, order in self._orders.items():
            yield method, cut_order(order, num_chunks, self._cost)
        for method, order in self._orders.items() if uneven else ():
            bounds = near_bounds(self._farthest(order), np.cumsum(self._cost[order]), num_chunks)
            if bounds is not None:
                place = np.empty(len(order), dtype=np.int64)
                place[order] = np.repeat(np.arange(num_chunks), np.diff(bounds))
                yield method, place
        if num_chunks > MOST_METIS_CHUNKS:
            return
        # METIS numbers its groups at random. Line them up: reverse Cuthill-McKee on the graph that has the
        # groups as nodes gives neighbours numbers that lie close.
        group = partition(self._structure, num_chunks, self._cost, allow_empty=False).assignment
        num_edges = np.zeros(num_chunks * num_chunks)
        for reader, owner in self._structure.edges():
            num_edges += np.bincount(group[reader] * num_chunks + group[owner], minlength=len(num_edges))
        group_graph = sp.csr_matrix(num_edges.reshape(num_chunks, num_chunks))
        position = np.empty(num_chunks, dtype=np.int64)
        position[reverse_cuthill_mckee(group_graph, symmetric_mode=True)] = np.arange(num_chunks)
        yield "line-metis", position[group]

    def _farthest(self, order: np.ndarray) -> np.ndarray:
        """int ``[num_nodes]``: the last position in an order that an edge joins with one up to each."""
        position = np.empty(len(order), dtype=np.int64)
        position[order] = np.arange(len(order))
        farthest = np.arange(len(order))
        for reader, owner in self._structure.edges():
            ends = position[reader], position[owner]
            np.maximum.at(farthest, np.minimum(*ends), np.maximum(*ends))
        return np.maximum.accumulate(farthest)

    def _width(self, chunk: np.ndarray) -> int:
        """Width of a cut, as in `LocalCut`."""
        return max(
            (
                int(np.abs(chunk[reader] - chunk[owner]).max(initial=0))
                for reader, owner in self._structure.edges()
            ),
            default=0,
        )


def near_bounds(farthest: np.ndarray, running: np.ndarray, num_chunks: int) -> np.ndarray | None:
    """Cut an order into chunks such that every edge stays in a chunk or joins neighbours.

    A chunk ends behind all nodes that the chunk in front of it reaches, and has a least amount of work, which
    is made as large as the number of chunks allows:

        # reaches ---------->|           chunk 1 has to hold all that chunk 0 reaches
        # chunk 0 | chunk 1     | chunk 2 ...

    Args:
        farthest: ``[num_nodes]``, ascending: the last position that an edge joins with one up to each.
        running: ``[num_nodes]``: sum of the work up to each position.
        num_chunks: number of chunks.

    Returns:
        ``[num_chunks + 1]``: the first node of each chunk, and the number of nodes; None if there is no such
        cut into that many chunks.
    """
    low, high = 0.0, float(running[-1]) / num_chunks
    best = _grown(farthest, running, low)
    if len(best) <= num_chunks:
        return None
    for _ in range(NUM_HALVINGS):
        middle = (low + high) / 2
        bounds = _grown(farthest, running, middle)
        if len(bounds) > num_chunks:
            best, low = bounds, middle
        else:
            high = middle
    while len(best) > num_chunks + 1:  # join the two neighbours with the least work
        work = np.diff(running[best[1:] - 1], prepend=0.0)
        best = np.delete(best, int(np.argmin(work[:-1] + work[1:])) + 1)
    return best


# Halvings of the interval in which the least work of a chunk is looked for.
NUM_HALVINGS = 20


def _grown(farthest: np.ndarray, running: np.ndarray, least: float) -> np.ndarray:
    """Bounds of chunks that each end as early as the rule of `near_bounds` lets them."""
    num_nodes, bounds = len(farthest), [0]
    while bounds[-1] < num_nodes:
        start = bounds[-1]
        done, reached = (float(running[start - 1]), int(farthest[start - 1]) + 1) if start else (0.0, 0)
        full = int(np.searchsorted(running, done + least)) + 1
        bounds.append(min(max(full, reached, start + 1), num_nodes))
    return np.array(bounds)
