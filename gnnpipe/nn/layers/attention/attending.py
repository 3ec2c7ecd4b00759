"""Shared by the layers that attend to their neighbours.

Every node i weighs its sources j, for each head, by a softmax of logits that depend on both ends:

    alpha_ij = exp(e_ij - logsumexp_i),  logsumexp_i = log sum_j exp(e_ij),  z_i = sum_j alpha_ij x_j

In training both ends find their own gradient. With G the gradient of z,

    of e_ij:  alpha_ij (<G_i, x_j> - c_i),  c_i = <G_i, z_i>

so that a source j needs of its readers no more than rows ``[G_i, c_i | logsumexp_i, ...]`` to make alpha_ij
and all gradients of ``x_j`` again.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gnnpipe import ops
from gnnpipe.graph.csr import Csr
from gnnpipe.nn.blocks.edges import Edges
from gnnpipe.nn.layer import Layer, zeros
from gnnpipe.nn.running import Gathers, InputRows, SavedInput, WrittenOut, grad_of
from gnnpipe.ops.heads import HeadEdges


class Attention(Layer):
    """A layer whose output is the weighted sum of its neighbours' rows, in several heads.

    The adjacency says which edges there are; weights of edges are not read.

    Args:
        in_features: columns of the input rows.
        heads: number of heads.
        head_width: columns of a head.
        generator: draws the weights; by default PyTorch's own.
        edge_dim: columns of the features of edges; 0 if the layer reads none.
        concat: whether heads stand side by side in the output; otherwise it is their mean.
        bias: whether a bias is added.
        negative_slope: slope of the LeakyReLU of the logits below 0.
        sparse_input: whether the input rows are sparse features.
        relu: whether a ReLU ends the layer.
    """

    is_linear = False
    normalization = "loops"
    fp32_tables = True  # exponentials of bf16 are too coarse

    def __init__(
        self,
        in_features: int,
        heads: int,
        head_width: int,
        generator: torch.Generator | None = None,
        *,
        edge_dim: int = 0,
        concat: bool = True,
        bias: bool = True,
        negative_slope: float = 0.2,
        sparse_input: bool = False,
        relu: bool = True,
    ) -> None:
        super().__init__()
        self.in_features, self.heads, self.head_width = in_features, heads, head_width
        self.columns = heads * head_width
        self.out_features = self.columns if concat else head_width
        self.edge_dim, self.concat, self.negative_slope = edge_dim, concat, negative_slope
        self.reads_edges = edge_dim > 0
        self.sparse_input, self.relu = sparse_input, relu
        self.bias: nn.Parameter | None
        self.register_parameter("bias", zeros(self.out_features) if bias else None)

    def by_head(self, rows: Tensor) -> Tensor:
        """``[n, columns]`` as ``[n, heads, head_width]``."""
        return rows.view(-1, self.heads, self.head_width)

    def features_of(self, edges: Edges) -> Tensor:
        """Features of edges, ``[num_entries, edge_dim]``; raises ValueError if they have none."""
        if edges.attr is None:
            raise ValueError(
                f"edge_dim ({self.edge_dim}): the graph has no features of edges; use edge_dim=0"
            )
        return edges.attr

    def update(self, z: Tensor, carry: object, h0: object) -> Tensor:
        """Put the heads side by side or take their mean, add the bias and activate."""
        out = z if self.concat else self.by_head(z).mean(dim=1)
        out = out if self.bias is None else out + self.bias
        return F.relu(out) if self.relu else out


def attention_weights(heads: int, head_width: int, generator: torch.Generator | None) -> nn.Parameter:
    """``[heads, head_width]``, drawn uniformly as `glorot` draws weights of that shape."""
    bound = (6.0 / (heads + head_width)) ** 0.5
    return nn.Parameter(torch.empty(heads, head_width).uniform_(-bound, bound, generator=generator))


def per_head(attention: Tensor) -> Tensor:
    """The matrix ``[heads * head_width, heads]`` by which rows have their products with each head's weights
    ``[heads, head_width]``; a product with it is several times faster than one by one and summed."""
    heads, width = attention.shape
    matrix = attention.new_zeros(heads, width, heads)
    matrix.diagonal(dim1=0, dim2=2).copy_(attention.t())
    return matrix.view(heads * width, heads)


def add_products(gradient: Tensor, rows: Tensor, factors: Tensor) -> None:
    """Add to the gradient of weights that rows are multiplied with, head by head.

    Args:
        gradient: ``[heads, head_width]``.
        rows: ``[n, heads * head_width]``.
        factors: gradient of the products, ``[n, heads]``.
    """
    # all pairs of heads: still faster than a product of each head's columns
    pairs = (factors.t() @ rows).view(len(gradient), *gradient.shape)
    gradient.add_(pairs.diagonal(dim1=0, dim2=1).t())


@dataclass(frozen=True)
class Piece:
    """Consecutive rows with their edges, few enough that a row for each edge stays in the cache."""

    rows: slice
    """Rows, counted from the first of the `Edges`."""
    entries: slice
    """Entries of the matrix."""
    target: Tensor
    """int64: row of each entry, counted from the first of these."""
    rowptr: Tensor
    """int64: where the entries of each row begin."""

    def sum(self, rows: Tensor) -> Tensor:
        """Sum ``[entries, columns]`` of each row's edges."""
        order = torch.arange(len(rows), device=rows.device)
        return F.embedding_bag(order, rows, self.rowptr, mode="sum", include_last_offset=True)


def pieces(matrix: Csr) -> list[Piece]:
    """Cut a matrix's rows such that each piece has a certain number of entries, or one row; made once."""
    if "pieces" not in matrix.structure:
        rowptr, most = matrix.rowptr.to(torch.int64), ops.of(matrix.rowptr.device).entries_at_once
        found, start, ends = [], 0, rowptr.cpu()
        while start < matrix.num_rows:
            last = int(torch.searchsorted(ends, ends[start] + most, right=True)) - 1
            stop = min(max(last, start + 1), matrix.num_rows)
            here = rowptr[start : stop + 1] - rowptr[start]
            target = torch.repeat_interleave(torch.arange(stop - start, device=here.device), here.diff())
            entries = slice(int(ends[start]), int(ends[stop]))
            found.append(Piece(slice(start, stop), entries, target, here))
            start = stop
        matrix.structure["pieces"] = found
    cut: list[Piece] = matrix.structure["pieces"]
    return cut


@dataclass(frozen=True)
class Softmax:
    """A softmax over the entries of each (row, head)."""

    weights: Tensor
    """By entry; not divided by ``total`` yet, as fewer divisions do afterwards."""
    total: Tensor
    """``[num_rows, heads]``; 1 for a row without entries."""
    logsumexp: Tensor
    """``[num_rows, heads]``; 0 for a row without entries."""

    @classmethod
    def of(cls, logits: Tensor, edges: HeadEdges) -> Softmax:
        """The softmax of logits by entry, which are overwritten."""
        ceilings = ops.of(logits.device).ceilings(logits, edges.rowptr)
        common = ceilings.numel() == 1
        weights = logits.sub_(ceilings if common else edges.spread(ceilings)).exp_()
        total = edges.sum(weights)
        empty = total == 0
        total = total + empty
        ceilings = ceilings if common else ceilings.view_as(total)
        return cls(weights, total, (total.log() + ceilings).masked_fill_(empty, 0.0))

    def mean(self, rows: Tensor) -> Tensor:
        """Divide sums with the weights, ``[num_rows, heads * width]``, by their total, in place."""
        heads = self.total.shape[1]
        rows.unflatten(1, (heads, rows.shape[1] // heads)).div_(self.total.unsqueeze(2))
        return rows


def softmax_again(logits: Tensor, logsumexp: Tensor) -> Tensor:
    """The weights of a softmax by entry, whose logits are overwritten.

    Args:
        logits: by entry. They may come from newer rows than those of the sum: no weight gets above 1.
        logsumexp: by entry.
    """
    return logits.sub_(logsumexp).exp_().clamp_(max=1.0)


@dataclass
class SavedAttention(SavedInput):
    """Dropped input rows, aggregate and logsumexp, and what the own end adds to the logits."""

    z: Tensor = field(init=False)
    logsumexp: Tensor = field(init=False)
    own: Tensor = field(init=False)
    """The rows that `Layer.message` hands over: its own end's part of the logits."""
    own_gradient: Tensor = field(init=False)
    """Gradient of ``own``, once the rows of the gradient table are written."""


A = TypeVar("A", bound=Attention)
S = TypeVar("S", bound=SavedAttention)


class AttentionRunner(WrittenOut[A, S], Gathers[S]):
    """Runner of a layer that attends.

    Args:
        layer: the layer.
        rows: origin of its input rows.
    """

    def __init__(self, layer: A, rows: InputRows) -> None:
        super().__init__(layer)
        self._rows = rows
        self.aggregated = layer.columns
        self.weighed = layer.columns + layer.heads
        # logits, weights and their gradients by entry; edges are worked on piece by piece where they are rows
        self.numbers_per_edge = 10.0 * layer.heads
        self.gradient_width = self.padded_gradient()

    @abstractmethod
    def padded_gradient(self) -> int:
        """Columns of the rows of the gradient table."""

    def forward_update(self, saved: S, z: Tensor, h0: object, out: Tensor) -> None:
        layer = self.layer
        rows = z if layer.concat else layer.by_head(z).mean(dim=1)
        if layer.bias is None:
            out.copy_(rows)
        else:
            torch.add(rows, layer.bias, out=out)
        if layer.relu:
            out.relu_()

    def backward_update(self, saved: S, gradient: Tensor, z_gradient: Tensor, h0_gradient: object) -> None:
        layer = self.layer
        if layer.bias is not None:
            grad_of(layer.bias).add_(gradient.sum(dim=0))
        if layer.concat:
            z_gradient.copy_(gradient)
        else:
            layer.by_head(z_gradient).copy_(gradient.unsqueeze(1)).div_(layer.heads)

    def back_through_dropout(self, saved: S, h_gradient: Tensor) -> None:
        """Differentiate the dropout of the input rows, and the ReLU in front of it if there is one."""
        if self._rows == "relu":
            saved.back(h_gradient)
        else:
            h_gradient.copy_(saved.drop(h_gradient))

    @property
    def dropped_columns(self) -> int:
        """Floats a row in the dropped rows that are kept; sparse ones are counted with the features."""
        return 0 if self.layer.sparse_input else self.layer.in_features
