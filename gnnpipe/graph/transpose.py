"""The transpose of a sparse matrix, some of its rows at a time, and whether it is the matrix itself."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp

from gnnpipe.graph.blocks import BLOCK_ENTRIES, Rows, offsets, row_blocks
from gnnpipe.graph.csr import Csr

# The transpose is made in this many pieces: each takes another pass over the columns of the matrix, and a
# piece with its copies takes a quarter of the matrix's memory.
PIECES = 8


def is_symmetric(matrix: Csr) -> bool:
    """Whether a matrix and its transpose agree to the last bit; holds a piece of the transpose at a time.

    Args:
        matrix: rows are sorted by column, and no entry occurs twice.
    """
    if matrix.num_rows != matrix.num_cols:
        return False
    rowptr = matrix.rowptr.numpy()
    # most directed graphs are told here, before any entry is moved
    if not np.array_equal(column_sizes(matrix), np.diff(rowptr)):
        return False
    col, value = matrix.col.numpy(), matrix.value.numpy()
    for start, rows in transposed_pieces(matrix):
        first = int(rowptr[start])
        last = first + len(rows.col)
        if not (np.array_equal(rows.col, col[first:last]) and np.array_equal(rows.value, value[first:last])):
            return False
    return True


def column_sizes(matrix: Csr) -> np.ndarray:
    """int64 ``[num_cols]``: number of entries of each column."""
    sizes = np.zeros(matrix.num_cols, dtype=np.int64)
    # counted in blocks, as `bincount` makes 64-bit copies
    for ids in matrix.col.split(max(BLOCK_ENTRIES, matrix.num_cols)):
        sizes += np.bincount(ids.numpy(), minlength=matrix.num_cols)
    return sizes


def transposed_pieces(matrix: Csr, *, entries: bool = False) -> Iterator[tuple[int, Rows]]:
    """The rows of the transpose in order, each sorted by column; entries of one place stay in their order.

    Args:
        matrix: any matrix.
        entries: whether to tell the number that each entry has in the matrix.

    Yields:
        the number of a piece's first row, and its rows.
    """
    rowptr = offsets(column_sizes(matrix))
    most = max(BLOCK_ENTRIES, int(rowptr[-1]) // PIECES)
    start = 0
    while start < matrix.num_cols:
        stop = int(np.searchsorted(rowptr, rowptr[start] + most, side="right")) - 1
        stop = min(max(stop, start + 1), matrix.num_cols)
        piece = _piece(matrix, start, stop, int(rowptr[stop] - rowptr[start]), entries=entries)
        yield start, piece
        start = stop


def _piece(matrix: Csr, start: int, stop: int, num_entries: int, *, entries: bool) -> Rows:
    """Rows ``[start, stop)`` of the transpose: these columns of the matrix, turned."""
    # entries in these columns, in the order of their rows; of each its value, or else its number
    col, content = np.empty(num_entries, np.int32), np.empty(num_entries, np.int64 if entries else np.float32)
    rowptr = np.zeros(matrix.num_rows + 1, dtype=np.int64 if num_entries >= 2**31 else np.int32)
    done = 0
    for first_row, last_row, rows in row_blocks(matrix):
        shifted = rows.col - start
        # without a sign, columns in front of `start` are large numbers: one comparison is enough
        chosen = np.flatnonzero(shifted.view(f"u{shifted.itemsize}") < stop - start)
        rowptr[first_row + 1 : last_row + 1] = done + np.searchsorted(chosen, rows.rowptr[1:])
        last = int(rowptr[last_row])
        col[done:last] = shifted[chosen]
        content[done:last] = chosen + int(matrix.rowptr[first_row]) if entries else rows.value[chosen]
        done = last
    columns = sp.csr_matrix((content, col, rowptr), shape=(matrix.num_rows, stop - start), copy=False)
    turned = columns.tocsc()
    if not entries:
        return Rows(turned.indptr, turned.indices, turned.data)
    return Rows(turned.indptr, turned.indices, matrix.value.numpy()[turned.data], turned.data)
