"""Csr: the one sparse matrix form of the package."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor


@dataclass(frozen=True)
class Csr:
    """A sparse float32 matrix of shape ``[num_rows, num_cols]`` in compressed row form.

    Row i of an adjacency lists the nodes that node i aggregates from::

        rowptr  0  2  2  3        row 0 owns entries 0 and 1, row 1 none, row 2 entry 2
        col     1  2  0
        value   .5 .5 1.
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
    """Cache of facts about where the entries are, such as its longest rows; filled by products."""
    formats: dict[torch.dtype, Tensor] = field(default_factory=dict, repr=False, compare=False)
    """Cache of the values in other number formats."""

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
        """Convert from SciPy: duplicates are summed, and indices are int32 below 2^31 entries.

        ``matrix`` stays as it is.
        """
        matrix = sp.csr_matrix(matrix, dtype=np.float32)
        if not matrix.has_canonical_format:
            matrix = matrix.copy()  # SciPy would sort the arrays of the argument, which others may share
            matrix.sum_duplicates()
        index = np.int32 if matrix.nnz < 2**31 else np.int64
        return cls(
            torch.from_numpy(matrix.indptr.astype(index)),
            torch.from_numpy(matrix.indices.astype(index)),
            torch.from_numpy(matrix.data),
            matrix.shape[1],
        )

    def to_scipy(self) -> sp.csr_matrix:
        """The same matrix for SciPy; arrays are shared where SciPy allows."""
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
        """Split by entry: a matrix of the ``chosen`` ones (bool ``[num_entries]``) and one of the rest.

        Both keep the shape.
        """
        # num_chosen[e]: chosen entries in front of entry e, which is where row starts move to
        num_chosen = torch.zeros(self.num_entries + 1, dtype=self.rowptr.dtype, device=self.rowptr.device)
        torch.cumsum(chosen, 0, dtype=self.rowptr.dtype, out=num_chosen[1:])
        rowptr = num_chosen[self.rowptr.to(torch.int64)]
        return (
            Csr(rowptr, self.col[chosen], self.value[chosen], self.num_cols),
            Csr(self.rowptr - rowptr, self.col[~chosen], self.value[~chosen], self.num_cols),
        )

    def to(self, device: torch.device) -> Csr:
        """The same matrix on ``device``."""
        return Csr(self.rowptr.to(device), self.col.to(device), self.value.to(device), self.num_cols)

    def value_as(self, dtype: torch.dtype) -> Tensor:
        """The values in number format ``dtype``, converted once and kept."""
        if dtype == self.value.dtype:
            return self.value
        if dtype not in self.formats:
            self.formats[dtype] = self.value.to(dtype)
        return self.formats[dtype]

    def with_value(self, value: Tensor) -> Csr:
        """The same structure with other values."""
        return replace(self, value=value, formats={})
