"""Locality orders: chunks in a line, such that edges reach few chunks far."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import reverse_cuthill_mckee

from gnnpipe.graph.csr import Csr
from gnnpipe.graph.partition import cut_order, partition, undirected_structure

# METIS takes seconds for each number of chunks on a large graph, and its chunks are seldom the narrowest.
MOST_METIS_CHUNKS = 64


@dataclass(frozen=True)
class LocalCut:
    """Chunks numbered along a line."""

    chunk: np.ndarray
    """int ``[num_nodes]``: of each node."""
    width: int
    """The farthest that an edge reaches, in chunks; nothing that a chunk reads, either way, is farther."""
    method: str
    """``line-given`` (the nodes' own order), ``line-rcm`` (reverse Cuthill-McKee on nodes), or ``line-metis``
    (METIS, then reverse Cuthill-McKee on its chunks)."""


class Locality:
    """The orders of one graph, from which chunks of any number are cut.

    Args:
        adjacency: directions are ignored: backward reads along the same edges.
        cost: work of each node; chunks get equally much of it.
    """

    def __init__(self, adjacency: Csr, cost: np.ndarray) -> None:
        self._adjacency, self._cost = adjacency, cost
        self._structure = undirected_structure(adjacency)
        self._orders = {
            "line-given": np.arange(adjacency.num_rows),
            "line-rcm": reverse_cuthill_mckee(self._structure, symmetric_mode=True),
        }

    def cut(self, num_chunks: int) -> LocalCut:
        """The narrowest of the cuts into ``num_chunks``."""
        return min(self._cuts(num_chunks), key=lambda cut: cut.width)

    def _cuts(self, num_chunks: int) -> Iterator[LocalCut]:
        for method, order in self._orders.items():
            chunk = cut_order(order, num_chunks, self._cost)
            yield LocalCut(chunk, self._width(chunk), method)
        if num_chunks > MOST_METIS_CHUNKS:
            return
        groups = partition(self._adjacency, num_chunks, self._cost).assignment
        reader, owner = self._edges
        between = sp.csr_matrix(
            (np.ones(len(reader)), (groups[reader], groups[owner])), shape=(num_chunks, num_chunks)
        )
        place = np.empty(num_chunks, dtype=np.int64)
        place[reverse_cuthill_mckee(between, symmetric_mode=True)] = np.arange(num_chunks)
        yield LocalCut(place[groups], self._width(place[groups]), "line-metis")

    @property
    def _edges(self) -> tuple[np.ndarray, np.ndarray]:
        matrix = self._structure
        return np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr)), matrix.indices

    def _width(self, chunk: np.ndarray) -> int:
        reader, owner = self._edges
        return int(np.abs(chunk[reader] - chunk[owner]).max(initial=0))
