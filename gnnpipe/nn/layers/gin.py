"""The graph isomorphism network."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gnnpipe.nn.features import FeatureRows, project
from gnnpipe.nn.layer import Drop, Layer, glorot, zeros
from gnnpipe.nn.layers.convolution import (
    AggregateFirst,
    Convolution,
    SavedAggregate,
    SavedProduct,
    TransformFirst,
    add_bias_gradient,
)
from gnnpipe.nn.layers.wrappers.extras import PLAIN, Extras
from gnnpipe.nn.running import InputRows, Kept, grad_of


class GinLayer(Convolution):
    """``h' = act(norm(ReLU(s W + b) W_out + b_out + skip(x)))``, ``s = (1 + eps) x + sum(x of neighbours)``.

    arXiv 1810.00826; ``x = dropout(h)``, eps is learnt, and begins at 0. Weights of edges multiply the rows
    that come over them. The first product may come before the sum, as for other convolutions.
    Shapes: ``[n, in_features] -> [n, out_features]``.

    Args: as `Convolution`.
    """

    drawn = ("weight",)
    cost_kind, normalization = "gin", "none"
    weight: nn.Parameter

    def __init__(
        self,
        in_features: int,
        out_features: int,
        generator: torch.Generator | None = None,
        *,
        sparse_input: bool = False,
        relu: bool = True,
        extras: Extras = PLAIN,
    ) -> None:
        super().__init__(
            in_features, out_features, generator, sparse_input=sparse_input, relu=relu, extras=extras
        )
        self.eps = nn.Parameter(torch.zeros(1))
        self.bias_inner = zeros(out_features)
        self.weight_out = glorot(out_features, out_features, generator)

    def message(self, h: FeatureRows, drop: Drop) -> tuple[Tensor, Tensor]:
        """Drop, and multiply if that comes first; hand these rows over, and the residual beside them."""
        rows = drop(h)
        x = rows if isinstance(rows, Tensor) and not self.transform_first else project(rows, self.weight)
        skip = self.skipped(rows) if self.weight_skip is not None else None
        return x, x if skip is None else torch.cat([x, skip], dim=1)

    def update(self, z: Tensor, carry: Tensor, h0: object) -> Tensor:
        """Add the own rows, apply the MLP, and finish."""
        own = carry[:, : self.width]
        s = torch.addcmul(z, own, 1.0 + self.eps)
        s = s + self.bias_inner if self.transform_first else torch.addmm(self.bias_inner, s, self.weight)
        out = torch.addmm(self.bias, F.relu(s), self.weight_out)
        if self.weight_skip is not None:
            return self.finished(out, carry[:, self.width :])
        return self.finished(out, own if self.identity else None)


@dataclass
class SavedInner:
    """The hidden rows of the MLP, and their gradient."""

    inner: Tensor = field(init=False)
    """Rows behind the MLP's ReLU."""
    inner_gradient: Tensor = field(init=False)
    """Gradient of the rows in front of it."""


@dataclass
class SavedGinProduct(SavedProduct, SavedInner):
    """The product too, which the update reads."""

    x: Tensor = field(init=False)


@dataclass
class SavedGinAggregate(SavedAggregate, SavedInner):
    """``z`` is the sum with the own rows."""


def _mlp(layer: GinLayer, saved: SavedInner, s: Tensor, before: Tensor) -> None:
    """``ReLU(s) W_out + b_out``, where s may be overwritten."""
    saved.inner = s.relu_()
    torch.addmm(layer.bias, saved.inner, layer.weight_out, out=before)


def _mlp_back(layer: GinLayer, saved: SavedGinProduct | SavedGinAggregate, gradient: Tensor) -> Tensor:
    """The gradient of the rows in front of the MLP's ReLU; those of its weights are added or owed."""
    add_bias_gradient(layer, gradient)
    saved.owe(layer.weight_out, saved.inner, gradient)
    inner = torch.ops.aten.threshold_backward(gradient @ layer.weight_out.t(), saved.inner, 0)
    grad_of(layer.bias_inner).add_(inner.sum(dim=0))
    saved.inner_gradient = inner
    return inner


class GinTransformFirst(TransformFirst[GinLayer, SavedGinProduct]):
    """``ReLU(s + b) W_out + b_out`` with ``s = (1 + eps) y + A y`` and ``y = x W``.

    With G the gradient of these rows, and ``P = A^T I``, which the engine pulls:

        W_out: ReLU^T G      I (of s) = G W_out^T, where the ReLU is above 0      eps: <I, y>
        y: P + (1 + eps) I      W: x^T (of y)      x: (of y) W^T
    """

    saved = SavedGinProduct
    prepares = True

    def __init__(self, layer: GinLayer) -> None:
        super().__init__(layer)
        self._own = torch.ones_like(layer.eps.detach())

    @classmethod
    def of(cls, layer: Layer, rows: InputRows) -> GinTransformFirst | None:
        if type(layer) is GinLayer and layer.transform_first and rows != "any":
            return cls(layer)
        return None

    def prepare(self) -> None:
        torch.add(self.layer.eps.detach(), 1.0, out=self._own)

    def forward_message(self, saved: SavedGinProduct, h: FeatureRows, x: Tensor) -> None:
        saved.dropped = saved.drop(h)
        project(saved.dropped, self.layer.weight, out=x)
        saved.x = x

    def forward_update(self, saved: SavedGinProduct, z: Tensor, h0: object, out: Tensor) -> None:
        before = self.room(out)
        _mlp(self.layer, saved, z.addcmul_(saved.x, self._own).add_(self.layer.bias_inner), before)
        self.finish(saved, before, saved.dropped, out)

    def backward_update(
        self, saved: SavedGinProduct, gradient: Tensor, z_gradient: Tensor, h0_gradient: object
    ) -> None:
        gradient = self.unfinish(saved, gradient, saved.dropped)
        inner = _mlp_back(self.layer, saved, gradient)
        grad_of(self.layer.eps).add_((inner * saved.x).sum())
        z_gradient.copy_(inner)

    def backward_message(self, saved: SavedGinProduct, x_gradient: Tensor, h_gradient: Tensor | None) -> None:
        weight = self.layer.weight
        x_gradient = torch.addcmul(x_gradient, saved.inner_gradient, self._own)
        saved.owe(weight, saved.dropped, x_gradient)
        if h_gradient is not None:
            torch.mm(x_gradient, weight.t(), out=h_gradient)
            self.add_skip_gradient(saved, h_gradient)
            saved.back(h_gradient)

    @property
    def kept(self) -> Kept:
        """The dropped rows and the MLP's hidden ones; products hold gradients as wide as the output."""
        columns, out = self.dropped_columns, self.layer.out_features
        kept = Kept(columns + out, dropped=columns, carried=out, gradient="products", owed=out, held=out)
        return self.with_extras(kept)


class GinAggregateFirst(AggregateFirst[GinLayer, SavedGinAggregate]):
    """``ReLU(s W + b) W_out + b_out`` with ``s = (1 + eps) x + A x``.

    With G the gradient of these rows:

        W_out: ReLU^T G      I (of s W) = G W_out^T, where the ReLU is above 0      W: s^T I
        s: I W^T      eps: <I W^T, x>      x: (1 + eps) I W^T + A^T (I W^T), which the engine pulls
    """

    saved = SavedGinAggregate
    prepares = True

    def __init__(self, layer: GinLayer, rows: InputRows) -> None:
        super().__init__(layer, rows)
        self._own = torch.ones_like(layer.eps.detach())

    @classmethod
    def of(cls, layer: Layer, rows: InputRows) -> GinAggregateFirst | None:
        if type(layer) is GinLayer and not layer.transform_first and rows != "any":
            return cls(layer, rows)
        return None

    def prepare(self) -> None:
        torch.add(self.layer.eps.detach(), 1.0, out=self._own)

    def forward_update(self, saved: SavedGinAggregate, z: Tensor, h0: object, out: Tensor) -> None:
        layer = self.layer
        saved.z = z.addcmul_(saved.dropped.float(), self._own)
        before = self.room(out)
        _mlp(layer, saved, torch.addmm(layer.bias_inner, saved.z, layer.weight), before)
        self.finish(saved, before, saved.dropped, out)

    def backward_update(
        self, saved: SavedGinAggregate, gradient: Tensor, z_gradient: Tensor | None, h0_gradient: object
    ) -> None:
        gradient = self.unfinish(saved, gradient, saved.dropped)
        inner, weight = _mlp_back(self.layer, saved, gradient), self.layer.weight
        saved.owe(weight, saved.z, inner)
        of_sum = inner @ weight.t()
        grad_of(self.layer.eps).add_((of_sum * saved.dropped).sum())
        if z_gradient is not None:
            z_gradient.copy_(of_sum)
            saved.inner_gradient = of_sum

    def backward_message(
        self, saved: SavedGinAggregate, x_gradient: Tensor | None, h_gradient: Tensor | None
    ) -> None:
        if x_gradient is not None and h_gradient is not None:
            x_gradient.addcmul_(saved.inner_gradient, self._own)
            self.add_skip_gradient(saved, x_gradient)
            saved.drop.back(x_gradient, saved.dropped, h_gradient)

    @property
    def kept(self) -> Kept:
        """The aggregate and the MLP's hidden rows; the gradient of the aggregate until the message's is
        known."""
        columns, out = self.layer.in_features, self.layer.out_features
        kept = Kept(columns + out, carried=columns, gradient="products", owed=out, held=columns)
        return self.with_extras(kept)
