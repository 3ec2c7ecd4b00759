"""Feature rows of a chunk, dense or sparse, and their product with a weight."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gnnpipe import ops
from gnnpipe.graph.csr import Csr


@dataclass(frozen=True)
class SparseRows:
    """Rows of a sparse feature matrix, with their transpose for the gradient of the weight.

    Dropout changes the values only: ``permutation`` carries them over to the transpose, whose structure is
    made once.
    """

    matrix: Csr
    """``[num_rows, num_features]``."""
    row: Tensor
    """int64 ``[num_entries]``: row of each entry."""
    transpose: Csr
    """``[num_features, num_rows]``; its values are those of ``matrix`` in the order ``permutation``."""
    permutation: Tensor
    """int64 ``[num_entries]``: for each entry of ``transpose``, its index among the entries of ``matrix``."""

    @classmethod
    def from_csr(cls, matrix: Csr) -> SparseRows:
        """Prepare rows; done once for all epochs."""
        counts = (matrix.rowptr[1:] - matrix.rowptr[:-1]).to(torch.int64)
        row = torch.repeat_interleave(torch.arange(matrix.num_rows, device=counts.device), counts)
        # sorted by column, and by row inside a column: the entries of the transpose in order
        permutation = torch.argsort(matrix.col, stable=True)
        index = matrix.col.dtype
        colptr = torch.zeros(matrix.num_cols + 1, dtype=index, device=counts.device)
        colptr[1:] = torch.bincount(matrix.col, minlength=matrix.num_cols).cumsum(0).to(index)
        transpose = Csr(colptr, row[permutation].to(index), matrix.value[permutation], matrix.num_rows)
        return cls(matrix, row, transpose, permutation)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.matrix.num_rows, self.matrix.num_cols

    @property
    def value(self) -> Tensor:
        """float32 ``[num_entries]``."""
        return self.matrix.value

    @property
    def col(self) -> Tensor:
        """``[num_entries]``: column of each entry."""
        return self.matrix.col

    def with_value(self, value: Tensor) -> SparseRows:
        """The same structure with other values."""
        transpose = self.transpose.with_value(value[self.permutation])
        return replace(self, matrix=self.matrix.with_value(value), transpose=transpose)

    def times(self, weight: Tensor) -> Tensor:
        """``rows @ weight``: ``[num_rows, out]``."""
        return ops.of(weight.device).pull(self.matrix, weight)

    def transpose_times(self, right: Tensor) -> Tensor:
        """``rows^T @ right``: ``[num_features, out]``."""
        return ops.of(right.device).pull(self.transpose, right.contiguous())


FeatureRows = Tensor | SparseRows


def project(rows: FeatureRows, weight: Tensor, out: Tensor | None = None) -> Tensor:
    """``rows @ weight``: ``[num_rows, in] @ [in, out]``, for dense and sparse rows.

    Args:
        rows: dense or sparse rows.
        weight: dense weight.
        out: tensor to write the product to; autograd then sees nothing of it.
    """
    if out is not None:
        if isinstance(rows, SparseRows):
            return out.copy_(rows.times(weight))
        return torch.mm(rows, weight, out=out)
    if isinstance(rows, SparseRows):
        return _SparseProduct.apply(weight, rows)
    return rows @ weight


class _SparseProduct(torch.autograd.Function):
    """Sparse rows times a weight; the gradient of the weight is the transposed product."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, weight: Tensor, rows: SparseRows) -> Tensor:
        ctx.rows = rows  # type: ignore[attr-defined]
        return rows.times(weight)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[Tensor, None]:
        return ctx.rows.transpose_times(grads[0]), None  # type: ignore[attr-defined]
