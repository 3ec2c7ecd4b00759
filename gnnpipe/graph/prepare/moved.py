"""Matrices whose rows are moved: made whole in memory, or block by block in a file.

In a file a dense matrix is one tensor, ``name``, and a sparse one four: ``name.rowptr`` and so on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gnnpipe.files.writing import TensorWriter
from gnnpipe.graph.blocks import Rows, offsets, picked_blocks, picked_dense
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.transpose import column_sizes, transposed_pieces


@dataclass(frozen=True)
class MovedDense:
    """A dense matrix, or a vector, in another order."""

    rows: Tensor
    order: Tensor
    """int64 ``[num_rows]``: old row of each new row."""
    dtype: torch.dtype
    """Number format of the result."""

    def whole(self) -> Tensor:
        """The result in memory."""
        result = torch.empty(self.rows.shape, dtype=self.dtype)
        done = 0
        for block in picked_dense(self.rows, self.order, self.dtype):
            result[done : done + len(block)] = block
            done += len(block)
        return result

    def shapes(self, name: str) -> dict[str, Tensor]:
        """Tensors without content, as `gnnpipe.files.writing.new_tensors` wants them."""
        return {name: torch.empty(self.rows.shape, dtype=self.dtype, device="meta")}

    def write(self, file: TensorWriter, name: str) -> None:
        """Write the result."""
        for block in picked_dense(self.rows, self.order, self.dtype):
            file.append(name, block)


@dataclass(frozen=True)
class MovedSparse:
    """A sparse matrix whose rows are made block by block."""

    sizes: np.ndarray
    """int ``[num_rows]``: number of entries of each row."""
    num_cols: int
    """Number of columns."""
    blocks: Callable[[], Iterator[Rows]]
    """Makes all rows in order."""
    entries: str | None = None
    """Name of the tensor with the number that each entry has in the matrix it comes from; None for none."""

    @property
    def _num_entries(self) -> int:
        return int(self.sizes.sum())

    @property
    def _index(self) -> torch.dtype:
        """Number format of rowptr and col."""
        return torch.int32 if self._num_entries < 2**31 else torch.int64

    def whole(self) -> Csr:
        """The result in memory."""
        return self.whole_with_entries()[0]

    def whole_with_entries(self) -> tuple[Csr, Tensor | None]:
        """The result in memory, and the numbers of its entries."""
        rowptr = torch.from_numpy(offsets(self.sizes)).to(self._index)
        col, value = torch.empty(self._num_entries, dtype=self._index), torch.empty(self._num_entries)
        entry = None if self.entries is None else torch.empty(self._num_entries, dtype=torch.int64)
        done = 0
        for rows in self.blocks():
            stop = done + len(rows.col)
            col[done:stop], value[done:stop] = torch.from_numpy(rows.col), torch.from_numpy(rows.value)
            if entry is not None and rows.entry is not None:
                entry[done:stop] = torch.from_numpy(rows.entry)
            done = stop
        return Csr(rowptr, col, value, self.num_cols), entry

    def shapes(self, name: str) -> dict[str, Tensor]:
        """Tensors without content, as `gnnpipe.files.writing.new_tensors` wants them."""
        numbers = torch.empty(self._num_entries, dtype=torch.int64, device="meta")
        return {
            f"{name}.rowptr": torch.empty(len(self.sizes) + 1, dtype=self._index, device="meta"),
            f"{name}.col": torch.empty(self._num_entries, dtype=self._index, device="meta"),
            f"{name}.value": torch.empty(self._num_entries, device="meta"),
            f"{name}.num_cols": torch.empty((), dtype=torch.int64, device="meta"),
            **({} if self.entries is None else {self.entries: numbers}),
        }

    def write(self, file: TensorWriter, name: str) -> None:
        """Write the result."""
        file.append(f"{name}.rowptr", torch.from_numpy(offsets(self.sizes)).to(self._index))
        file.append(f"{name}.num_cols", torch.tensor(self.num_cols))
        for rows in self.blocks():
            file.append(f"{name}.col", torch.from_numpy(rows.col).to(self._index))
            file.append(f"{name}.value", torch.from_numpy(rows.value))
            if self.entries is not None and rows.entry is not None:
                file.append(self.entries, torch.from_numpy(rows.entry))


def moved(rows: Tensor | Csr, order: Tensor) -> MovedDense | MovedSparse:
    """Rows in another order, as float32.

    Args:
        rows: dense or sparse rows.
        order: int64 ``[num_rows]``: old row of each new row.
    """
    if isinstance(rows, Tensor):
        return MovedDense(rows, order, torch.float32)
    ids = order.numpy()
    sizes = np.diff(rows.rowptr.numpy())[ids]
    return MovedSparse(sizes, rows.num_cols, lambda: picked_blocks(rows, ids))


def turned(matrix: Csr, entries: str | None = None) -> MovedSparse:
    """The transpose of a matrix; its rows are sorted by column.

    Args:
        matrix: any matrix.
        entries: as in `MovedSparse`.
    """
    return MovedSparse(
        column_sizes(matrix),
        matrix.num_rows,
        lambda: (rows for _, rows in transposed_pieces(matrix, entries=entries is not None)),
        entries,
    )


def pack(name: str, matrix: Tensor | Csr) -> dict[str, Tensor]:
    """The tensors of a file that hold a matrix."""
    if isinstance(matrix, Tensor):
        return {name: matrix}
    num_cols = torch.tensor(matrix.num_cols)
    parts = {"rowptr": matrix.rowptr, "col": matrix.col, "value": matrix.value, "num_cols": num_cols}
    return {f"{name}.{part}": tensor for part, tensor in parts.items()}


def unpack(name: str, tensors: dict[str, Tensor]) -> Tensor | Csr:
    """The matrix that the tensors of a file hold."""
    if name in tensors:
        return tensors[name]
    rowptr, col, value, num_cols = (
        tensors[f"{name}.{part}"] for part in ("rowptr", "col", "value", "num_cols")
    )
    return Csr(rowptr, col, value, int(num_cols))
