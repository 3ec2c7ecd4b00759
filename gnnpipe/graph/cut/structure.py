"""Structure: the edges of a graph without directions, self loops and weights, which cuts are made from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch

from gnnpipe.graph.blocks import blocks, edge_blocks, offsets, picked_rows, row_blocks
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.transpose import is_symmetric, transposed_pieces


@dataclass(frozen=True)
class Structure:
    """Every edge of a graph in both directions, without self loops."""

    indptr: np.ndarray
    """int ``[num_nodes + 1]``: node i owns entries ``indptr[i]:indptr[i + 1]``."""
    indices: np.ndarray
    """int ``[num_entries]``: the neighbours of each node, ascending; shared with the adjacency where that has
    the same edges."""

    @property
    def num_rows(self) -> int:
        """Number of nodes."""
        return len(self.indptr) - 1

    @property
    def num_entries(self) -> int:
        """Number of edges, each counted from both ends."""
        return len(self.indices)

    @classmethod
    def of(cls, adjacency: Csr) -> Structure:
        """The structure of an adjacency."""
        pattern = _without_loops(adjacency)
        if not is_symmetric(_csr(pattern)):
            pattern = _in_both_directions(pattern)
        return pattern

    def inside(self, nodes: np.ndarray) -> Structure:
        """The edges among some nodes, which are numbered from 0 on.

        Args:
            nodes: ascending node ids.
        """
        if len(nodes) == self.num_rows:
            return self
        local = np.full(self.num_rows, -1, dtype=np.int32)
        local[nodes] = np.arange(len(nodes))
        matrix = _csr(self)
        sizes = np.diff(self.indptr)[nodes]
        found = _Growing(len(nodes), int(sizes.sum()), self.indices.dtype)
        for start, stop in blocks(offsets(sizes)):
            rows = picked_rows(matrix, nodes[start:stop])
            col = local[rows.col]
            kept = col >= 0
            found.add(offsets(kept)[rows.rowptr], col[kept])
        return found.done()

    def edges(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Both ends of every edge, in both directions, block by block."""
        return edge_blocks(_csr(self))

    def to_scipy(self) -> sp.csr_matrix:
        """The same for SciPy; all values are 1."""
        return _ones(self.indptr, self.indices, (self.num_rows, self.num_rows))


class _Growing:
    """A structure that is made block by block, of at most ``most`` entries.

    Memory behind the last entry is never touched, so it is not taken.
    """

    def __init__(self, num_rows: int, most: int, index: np.dtype) -> None:
        # ids of nodes may be 32-bit numbers where there are more entries than those can count
        self._indptr = np.zeros(num_rows + 1, np.int32 if most < 2**31 else np.int64)
        self._indices = np.empty(most, index)
        self._num_rows = 0

    def add(self, rowptr: np.ndarray, col: np.ndarray) -> None:
        """Append rows; ``rowptr`` starts from 0."""
        first, last = self._num_rows, self._num_rows + len(rowptr) - 1
        begin = int(self._indptr[first])
        self._indptr[first + 1 : last + 1] = begin + rowptr[1:]
        self._indices[begin : begin + len(col)] = col
        self._num_rows = last

    def done(self) -> Structure:
        """The finished structure."""
        return Structure(self._indptr, self._indices[: self._indptr[-1]])


def _csr(structure: Structure) -> Csr:
    """The structure as a matrix of ones that take no memory."""
    one = torch.ones(1).expand(len(structure.indices))
    indptr, indices = torch.from_numpy(structure.indptr), torch.from_numpy(structure.indices)
    return Csr(indptr, indices, one, structure.num_rows)


def _without_loops(adjacency: Csr) -> Structure:
    """The entries of an adjacency off its diagonal, ascending, each once; the adjacency's own if they are so
    already."""
    if all(
        rows.rise and not (rows.col == rows.row + start).any() for start, _, rows in row_blocks(adjacency)
    ):
        return Structure(adjacency.rowptr.numpy(), adjacency.col.numpy())
    index = adjacency.col.numpy().dtype
    found = _Growing(adjacency.num_rows, adjacency.num_entries, index)
    for start, stop, rows in row_blocks(adjacency):
        kept = rows.col != rows.row + start
        ones = np.ones(np.count_nonzero(kept), np.int8)
        entries = ones, (rows.row[kept], rows.col[kept])
        # conversion from coordinates sorts, and merges what is repeated
        matrix = sp.coo_matrix(entries, shape=(stop - start, adjacency.num_cols)).tocsr()
        found.add(matrix.indptr, matrix.indices)
    return found.done()


def _in_both_directions(pattern: Structure) -> Structure:
    """Add the reverse of every edge."""
    matrix = _csr(pattern)
    found = _Growing(pattern.num_rows, 2 * matrix.num_entries, pattern.indices.dtype)
    for start, turned in transposed_pieces(matrix):
        for first, last in blocks(turned.rowptr):
            begin, end = turned.rowptr[first], turned.rowptr[last]
            there = matrix.rows(start + first, start + last)
            shape = (last - first, pattern.num_rows)
            back = _ones(turned.rowptr[first : last + 1] - begin, turned.col[begin:end], shape)
            both = sp.csr_matrix(_ones(there.rowptr.numpy(), there.col.numpy(), shape) + back)
            found.add(both.indptr, both.indices)
    return found.done()


def _ones(rowptr: np.ndarray, col: np.ndarray, shape: tuple[int, int]) -> sp.csr_matrix:
    return sp.csr_matrix((np.ones(len(col), np.int8), col, rowptr), shape=shape)
