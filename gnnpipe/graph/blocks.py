"""Rows of a sparse matrix, one block after the other: passes over a graph need memory for a block only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gnnpipe.graph.csr import Csr

# Entries of a block. Its arrays take a few megabytes: little beside a graph that is worth blocks, and enough
# that the steps outside of NumPy's loops cost nothing.
BLOCK_ENTRIES = 2**16


@dataclass(frozen=True)
class Rows:
    """Some rows of a sparse matrix."""

    rowptr: np.ndarray
    """int64 ``[num_rows + 1]``, from 0 on: row i owns entries ``rowptr[i]:rowptr[i + 1]``."""
    col: np.ndarray
    """int ``[num_entries]``: the column of each entry."""
    value: np.ndarray
    """float ``[num_entries]``."""
    entry: np.ndarray | None = None
    """int64 ``[num_entries]``: the entry of the matrix that each is, -1 for none; None where nobody asks."""

    def taken(self, index: np.ndarray, rowptr: np.ndarray) -> Rows:
        """Some of these entries, as rows that begin at ``rowptr``."""
        entry = None if self.entry is None else self.entry[index]
        return Rows(rowptr, self.col[index], self.value[index], entry)

    @property
    def row(self) -> np.ndarray:
        """int64 ``[num_entries]``: the row of each entry, counted inside the block."""
        return np.repeat(np.arange(len(self.rowptr) - 1), np.diff(self.rowptr))

    @property
    def rise(self) -> bool:
        """Whether columns rise inside every row, so that rows are sorted and no entry occurs twice."""
        rises = self.col[1:] > self.col[:-1]
        # nothing has to rise from the last entry of a row to the first one of the next
        starts = self.rowptr[1:-1]
        rises[starts[(starts > 0) & (starts < len(self.col))] - 1] = True
        return bool(rises.all())


def blocks(rowptr: np.ndarray) -> Iterator[tuple[int, int]]:
    """Cut rows into ranges ``[start, stop)`` of at most `BLOCK_ENTRIES` entries and rows.

    A row of more entries is a range of its own.

    Args:
        rowptr: int ``[num_rows + 1]``: row i owns entries ``rowptr[i]:rowptr[i + 1]``.
    """
    start, num_rows, num_entries = 0, len(rowptr) - 1, int(rowptr[-1])
    while start < num_rows:
        # a number of the array's own type: NumPy would convert the whole array for any other
        most = rowptr.dtype.type(min(int(rowptr[start]) + BLOCK_ENTRIES, num_entries))
        stop = int(np.searchsorted(rowptr, most, side="right")) - 1
        stop = min(max(stop, start + 1), start + BLOCK_ENTRIES, num_rows)
        yield start, stop
        start = stop


def row_blocks(matrix: Csr) -> Iterator[tuple[int, int, Rows]]:
    """All rows in order, as ``(start, stop, rows)``; entries are shared with the matrix."""
    rowptr, col, value = (part.numpy() for part in (matrix.rowptr, matrix.col, matrix.value))
    for start, stop in blocks(rowptr):
        first, last = int(rowptr[start]), int(rowptr[stop])
        yield (
            start,
            stop,
            Rows(rowptr[start : stop + 1].astype(np.int64) - first, col[first:last], value[first:last]),
        )


def edge_blocks(matrix: Csr) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows and columns of all entries, block by block."""
    for start, _, rows in row_blocks(matrix):
        yield rows.row + start, rows.col


def offsets(sizes: np.ndarray) -> np.ndarray:
    """int64 ``[len(sizes) + 1]``: sums of all sizes in front of each, and of all."""
    total = np.zeros(len(sizes) + 1, dtype=np.int64)
    np.cumsum(sizes, out=total[1:])
    return total


def picked_rows(matrix: Csr, rows: np.ndarray, *, entries: bool = False) -> Rows:
    """Copy of some rows of a matrix, in the order given; with the numbers of ``entries`` if asked for."""
    rowptr, col, value = (part.numpy() for part in (matrix.rowptr, matrix.col, matrix.value))
    start = rowptr[rows].astype(np.int64)
    size = rowptr[rows + 1] - start
    at = offsets(size)
    # entry k of a row stands at start + k, and goes to at + k
    index = np.repeat(start - at[:-1], size)
    index += np.arange(len(index))
    return Rows(at, col[index], value[index], index if entries else None)


def picked_blocks(matrix: Csr, order: np.ndarray) -> Iterator[Rows]:
    """All rows of a matrix in another order, block by block."""
    for start, stop in blocks(offsets(np.diff(matrix.rowptr.numpy())[order])):
        yield picked_rows(matrix, order[start:stop])


def picked_dense(rows: Tensor, order: Tensor, dtype: torch.dtype) -> Iterator[Tensor]:
    """All rows of a dense tensor in another order and number format, block by block."""
    width = max(rows[:1].numel(), 1)
    # larger blocks than those of edges: a row takes no room beside itself, and PyTorch's threads meet at the
    # end of each block
    for ids in order.split(max(16 * BLOCK_ENTRIES // width, 1)):
        yield rows[ids].to(dtype)
