"""The one sparse matrix form."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor


@dataclass(frozen=True)
class Csr:
    """A sparse float32 matrix of shape ``[num_rows, num_cols]``, row by row.

    Row i of an adjacency lists the nodes that node i aggregates from.
    """

    rowptr: Tensor
    """int ``[num_rows + 1]``: row i owns entries ``rowptr[i]:rowptr[i + 1]``."""
    col: Tensor
    """int ``[num_entries]``: the column of each entry."""
    value: Tensor
    """float32 ``[num_entries]``."""
    num_cols: int
    """Number of columns."""
    structure: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """What products have found out once about where its entries are, such as its longest rows."""
    formats: dict[torch.dtype, Tensor] = field(default_factory=dict, repr=False, compare=False)
    """Values in other formats, converted once."""

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return self.rowptr.numel() - 1

    @property
    def num_entries(self) -> int:
        """Number of stored entries."""
        return self.col.numel()

    @property
    def nbytes(self) -> int:
        """Bytes of the three arrays."""
        return self.rowptr.nbytes + self.col.nbytes + self.value.nbytes

    @classmethod
    def from_scipy(cls, matrix: sp.csr_matrix) -> Csr:
        """Convert; duplicates are summed, and 32-bit indices are used wherever they suffice."""
        matrix = sp.csr_matrix(matrix, dtype=np.float32)
        matrix.sum_duplicates()
        index = np.int32 if matrix.nnz < 2**31 else np.int64
        return cls(
            torch.from_numpy(matrix.indptr.astype(index)),
            torch.from_numpy(matrix.indices.astype(index)),
            torch.from_numpy(matrix.data),
            matrix.shape[1],
        )

    def to_scipy(self) -> sp.csr_matrix:
        """The same matrix for scipy; the arrays are shared where scipy allows."""
        return sp.csr_matrix(
            (self.value.numpy(), self.col.numpy(), self.rowptr.numpy()), shape=(self.num_rows, self.num_cols)
        )

    def rows(self, start: int, stop: int) -> Csr:
        """Rows ``[start, stop)``; entries are shared with this matrix, not copied."""
        first, last = int(self.rowptr[start]), int(self.rowptr[stop])
        return Csr(
            self.rowptr[start : stop + 1] - first, self.col[first:last], self.value[first:last], self.num_cols
        )

    def split(self, chosen: Tensor) -> tuple[Csr, Csr]:
        """Entries that are ``chosen`` (bool ``[num_entries]``), and the rest, in the same shape."""
        counted = torch.zeros(self.num_entries + 1, dtype=self.rowptr.dtype, device=self.rowptr.device)
        torch.cumsum(chosen, 0, dtype=self.rowptr.dtype, out=counted[1:])
        rowptr = counted[self.rowptr.to(torch.int64)]
        return (
            Csr(rowptr, self.col[chosen], self.value[chosen], self.num_cols),
            Csr(self.rowptr - rowptr, self.col[~chosen], self.value[~chosen], self.num_cols),
        )

    def to(self, device: torch.device) -> Csr:
        """The same matrix on ``device``."""
        return Csr(self.rowptr.to(device), self.col.to(device), self.value.to(device), self.num_cols)

    def value_as(self, dtype: torch.dtype) -> Tensor:
        """The values in a table's format, converted once."""
        if dtype == self.value.dtype:
            return self.value
        if dtype not in self.formats:
            self.formats[dtype] = self.value.to(dtype)
        return self.formats[dtype]

    def with_value(self, value: Tensor) -> Csr:
        """The same structure with other values."""
        return replace(self, value=value, formats={})
