"""What every layer is: a message, an aggregation that the engine does, and an update."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gnnpipe.nn.dropout import Dropout
from gnnpipe.nn.features import FeatureRows, SparseRows

Drop = Callable[[FeatureRows], FeatureRows]


@dataclass
class RowsPass:
    """Some rows on their way through a layer, and what is kept of them from forward to backward."""

    x: Tensor | None
    """Where the rows to aggregate go, ``[n, width]``: these rows of the layer's table, where they stand until
    the next epoch. Written as float32; a table of another type is written behind the layer's back, unless
    the layer only drops (`Layer.only_drops`). None for a layer that aggregates nothing."""
    drop: Dropout
    kept: tuple[Any, ...] = ()
    """Whatever the layer needs besides."""
    products: list[WeightProduct] | None = None
    """Where gradients of weights are left to be computed; see `WeightProduct`."""

    def owe(self, weight: nn.Parameter, left: FeatureRows, right: Tensor, scale: float = 1.0) -> None:
        """Leave ``scale * left^T @ right`` to be added to a weight's gradient."""
        assert self.products is not None
        assert weight.grad is not None
        self.products.append(WeightProduct(weight.grad, left, right, scale))


@dataclass(frozen=True)
class WeightProduct:
    """A gradient of a weight that nobody waits for: ``gradient += scale * left^T @ right``.

    It is computed when the gradient of the input rows has left for the stage before, which does wait.
    """

    gradient: Tensor
    left: FeatureRows
    right: Tensor
    scale: float

    def add(self) -> None:
        """Compute it."""
        if isinstance(self.left, SparseRows):
            self.gradient.add_(self.left.transpose_times(self.right), alpha=self.scale)
        else:
            left = self.left.to(self.right.dtype)  # a table's rows, perhaps of fewer bits
            self.gradient.addmm_(left.t(), self.right, alpha=self.scale)


@dataclass(frozen=True)
class WayBack:
    """What a layer keeps of a chunk on the way back, in floats a row; for the memory estimate."""

    keeps: Literal["no", "products", "chunk"]
    """How long it keeps the gradient of its output rows: only while it is differentiated itself, until
    products of weights are computed, or until the chunk has left the stage."""
    owed: int = 0
    """What products hold beside that gradient and what was saved."""
    owed_of_tables: int = 0
    """The same where tables have fewer bits: their rows as floats."""
    held: int = 0
    """What is kept besides until the chunk has left the stage."""


class Layer(nn.Module):
    """A layer with a linear aggregation: ``x, carry = message(h)``, ``z = A @ x``, ``update(z, carry, h0)``.

    `message` and `update` define the layer, row by row. Inference runs them as they are. Training runs the
    four methods behind them, on any consecutive rows of a chunk. Here they differentiate the definition with
    autograd; a layer with a simple derivative writes it out, which saves most of the small operations and
    more than half of the memory, and tests hold it to what autograd finds.

    A layer that ends in a ReLU and has written its derivative out does not keep its output to see what the
    ReLU let through: the layer behind reads that off the rows it drops, see `Dropout.back`.
    """

    width: int | None = None
    """Columns of ``x``, the rows that are aggregated; None for a layer that aggregates nothing."""
    only_drops = False
    """Whether `forward_message` writes dropped rows and nothing else, which `Dropout.into` does in any
    format."""
    in_features: int
    """Columns of the input."""
    out_features: int
    """Columns of the output."""

    def message(self, h: FeatureRows, drop: Drop) -> tuple[Tensor | None, Tensor | None]:
        """Rows to aggregate, ``[n, width]``, and rows that `update` needs besides.

        Args:
            h: input rows ``[n, in_features]``.
            drop: dropout of this layer for these nodes; the identity in evaluation.
        """
        raise NotImplementedError

    def update(self, z: Tensor | None, carry: Tensor | None, h0: Tensor | None) -> Tensor:
        """Output rows ``[n, out_features]``.

        Args:
            z: aggregated rows ``[n, width]``, or None if the layer aggregates nothing.
            carry: what `message` handed over.
            h0: the initial rows ``[n, hidden]`` of models that have them.
        """
        raise NotImplementedError

    def begin_epoch(self) -> None:
        """The weights are this epoch's, and their gradients are about to add up."""
        for weight in self.parameters():
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)

    def forward_message(self, rows: RowsPass, h: FeatureRows) -> None:
        """`message` of input rows ``[n, in_features]``, into ``rows.x``."""
        leaf = h.detach().requires_grad_() if isinstance(h, Tensor) else h
        with torch.enable_grad():
            x, carry = self.message(leaf, rows.drop)
        if rows.x is not None:
            assert x is not None
            rows.x.copy_(x.detach())
        rows.kept = (leaf, x, carry)

    def forward_update(self, rows: RowsPass, z: Tensor | None, h0: Tensor | None, out: Tensor) -> None:
        """`update`, into ``out``; ``z`` may be overwritten, ``h0`` not."""
        leaf, x, carry = rows.kept
        inputs = [None if item is None else item.detach().requires_grad_() for item in (z, carry, h0)]
        with torch.enable_grad():
            made = self.update(*inputs)
        out.copy_(made.detach())
        rows.kept = (leaf, x, carry, *inputs, made)

    def backward_update(
        self, rows: RowsPass, gradient: Tensor, z_gradient: Tensor | None, h0_gradient: Tensor | None
    ) -> None:
        """Differentiate `update`; gradients of weights add up.

        Args:
            rows: as `forward_update` left them.
            gradient: of the output rows; 0 where a ReLU made them 0, but for initial rows. The layer may
                overwrite it.
            z_gradient: where that of the aggregated rows goes; None if nobody wants it.
            h0_gradient: that of the initial rows is added here.
        """
        leaf, x, carry, z, carry_leaf, h0, made = rows.kept
        torch.autograd.backward(made, gradient)
        if z_gradient is not None:
            z_gradient.copy_(z.grad)
        if h0_gradient is not None:
            h0_gradient.add_(h0.grad)
        rows.kept = (leaf, x, carry, None if carry_leaf is None else carry_leaf.grad)

    def backward_message(self, rows: RowsPass, x_gradient: Tensor | None, h_gradient: Tensor | None) -> None:
        """Differentiate `message`; gradients of weights add up.

        Args:
            rows: as `backward_update` left them.
            x_gradient: of ``rows.x``; None where none was wanted. The layer may overwrite it.
            h_gradient: where that of the input rows goes; None for features. If they come out of a ReLU, it
                is 0 where they are.
        """
        leaf, x, carry, carry_gradient = rows.kept
        pairs = [(x, x_gradient), (carry, carry_gradient)]
        found = [(end, gradient) for end, gradient in pairs if end is not None and gradient is not None]
        if found:
            torch.autograd.backward([end for end, _ in found], [gradient for _, gradient in found])
        if h_gradient is not None:
            h_gradient.copy_(leaf.grad)

    def saved_columns(self) -> int:
        """Floats a row that are kept from forward to backward beside the table; for the memory estimate."""
        raise NotImplementedError

    def way_back(self) -> WayBack:
        """What is kept on the way back; here what autograd does."""
        return WayBack("chunk", held=self.width or 0)

    def carried_columns(self) -> int:
        """Floats a row that `message` makes for `update`, in evaluation."""
        return 0

    def forgotten_columns(self) -> int:
        """Of those, what `forget` lets go of."""
        return 0

    def forget(self, rows: RowsPass) -> None:
        """After `forward_update`: let go of what `recall` makes again without aggregating; here nothing."""

    def recall(self, rows: RowsPass, h: FeatureRows, out: Tensor | None) -> None:
        """Before `backward_update`: make again what `forget` let go of.

        Args:
            rows: as `forget` left them.
            h: the input rows.
            out: where the output rows go once more, bit for bit the same; None if nobody needs them.
        """

    def returns_gradient(self, number: int) -> bool:
        """Whether the aggregated rows want a gradient, as everything does but features.

        Args:
            number: the layer's position in the stack.
        """
        return self.width is not None


class Convolution(Layer):
    """What layers share whose linear map may come before or after the aggregation.

    It comes before where that makes the aggregated rows narrower, or where the input rows are sparse.

    Args:
        in_features: columns of the input rows.
        out_features: columns of the output rows.
        sparse_input: whether the input rows are sparse features.
        relu: whether a ReLU ends the layer (not the last one).
    """

    def __init__(self, in_features: int, out_features: int, *, sparse_input: bool, relu: bool) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.sparse_input = sparse_input
        self.transform_first = sparse_input or out_features < in_features
        self.only_drops = not self.transform_first
        self.width = out_features if self.transform_first else in_features
        self.bias = zeros(out_features)
        self.relu = relu

    def returns_gradient(self, number: int) -> bool:
        """See `Layer.returns_gradient`."""
        return number > 0 or self.transform_first

    def dropped_columns(self) -> int:
        """Dropped rows that are kept beside the table's; sparse ones are counted with the features."""
        return self.in_features if self.transform_first and not self.sparse_input else 0

    def activated(self, out: Tensor) -> Tensor:
        """``act(out)``."""
        return F.relu(out) if self.relu else out

    def bias_backward(self, gradient: Tensor) -> None:
        """Add up the gradient of the bias; that of the rows is the same before the activation as behind."""
        assert self.bias.grad is not None
        self.bias.grad.add_(gradient.sum(dim=0))


def glorot(in_features: int, out_features: int, generator: torch.Generator) -> nn.Parameter:
    """A weight ``[in_features, out_features]`` drawn uniformly as Glorot and Bengio (2010) say.

    In memory an output's numbers stand together, as do those of its gradient: products with few outputs, such
    as the classes, take half to an eighth of the time then, and others as long as otherwise.
    """
    bound = (6.0 / (in_features + out_features)) ** 0.5
    weight = torch.empty(in_features, out_features).uniform_(-bound, bound, generator=generator)
    return nn.Parameter(weight.t().contiguous().t())


def zeros(num_features: int) -> nn.Parameter:
    """A bias ``[num_features]``."""
    return nn.Parameter(torch.zeros(num_features))
