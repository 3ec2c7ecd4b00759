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
        nodes suffice."""
        lines = self._lines(num_chunks * num_parts)
        cuts = (self._folded(place, num_chunks, method) for method, place in lines)
        return min(cuts, key=lambda cut: cut.width)

    def _folded(self, place: np.ndarray, num_chunks: int, method: str) -> LocalCut:
        """Fold a line, on which each node has a place, into parts of ``num_chunks`` places each."""
        part, place = np.divmod(place, num_chunks)
        chunk = np.where(part % 2 == 0, place, num_chunks - 1 - place)
        return LocalCut(part, chunk, self._width(chunk), method)

    def _lines(self, num_chunks: int) -> Iterator[tuple[str, np.ndarray]]:
        """Methods, and the place on the line of each node's chunk."""
        # an order of the nodes, cut into ranges of equal cost
        for method, order in self._orders.items():
            yield method, cut_order(order, num_chunks, self._cost)
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

    def _width(self, chunk: np.ndarray) -> int:
        """Width of a cut, as in `LocalCut`."""
        return max(
            (
                int(np.abs(chunk[reader] - chunk[owner]).max(initial=0))
                for reader, owner in self._structure.edges()
            ),
            default=0,
        )
