"""Dense layers, which aggregate nothing: from features to hidden rows, and from hidden rows to logits."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from gnnpipe.config.run import Norm
from gnnpipe.nn.features import FeatureRows, project
from gnnpipe.nn.layer import Drop, Given, Layer, glorot, zeros
from gnnpipe.nn.layers.norm import AnyNorm, Moments, norm_backward, norm_forward, norm_of, num_moments
from gnnpipe.nn.running import InputRows, Kept, Recomputes, SavedInput, WrittenOut, grad_of


class Dense(Layer):
    """``h' = act(dropout(norm(h)) W + b)``.

    Shapes: ``[n, in_features] -> [n, out_features]``.

    Args:
        in_features: columns of the input rows.
        out_features: columns of the output rows.
        generator: draws the weights; by default PyTorch's own.
        relu: whether act is ReLU; otherwise there is no activation.
        pre_norm: norm that the rows go through first, and then through a ReLU (the end of a pre-activation
            network); ``none`` for the ReLU alone, None for neither.
    """

    sparse_input = True

    def __init__(
        self,
        in_features: int,
        out_features: int,
        generator: torch.Generator | None = None,
        *,
        relu: bool = False,
        pre_norm: Norm | None = None,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = glorot(in_features, out_features, generator)
        self.bias = zeros(out_features)
        self.activates = pre_norm is not None
        self.norm = norm_of(pre_norm or "none", in_features)
        self.relu = relu

    def message(self, h: Given, drop: Drop) -> tuple[None, Tensor]:
        """No rows to aggregate; the product is handed over to `update`."""
        rows = h if self.norm is None else self.norm(h)
        rows = F.relu(rows) if self.activates else rows
        return None, project(drop(rows), self.weight)

    def update(self, z: None, carry: Tensor, h0: object) -> Tensor:
        """Add the bias and activate."""
        out = carry + self.bias
        return F.relu(out) if self.relu else out


@dataclass
class SavedDense(SavedInput):
    """The dropped rows, and the output rows if a ReLU made them."""

    out: Tensor = field(init=False)
    """Set with a ReLU only, until the gradient of the output rows has come."""
    gradient: Tensor = field(init=False)
    """Gradient of the rows in front of the activation."""


@dataclass
class SavedNormed(SavedDense):
    """The rows in front of the norm as well, and their moments."""

    h: Tensor = field(init=False)
    moments: Moments = field(init=False)


D = TypeVar("D", bound=SavedDense)


class _AnyDense(WrittenOut[Dense, D]):
    """The steps that are the same with and without a norm.

    With ``d`` the dropped rows and ``G`` the gradient of ``d W + b``:

        G = gradient of out, where out > 0 (with a ReLU)
        b: column sums of G     W: d^T G, left to `Saved.owe`     d: G W^T
    """

    def forward_update(self, saved: D, z: None, h0: object, out: Tensor) -> None:
        self._multiply(saved, out)
        if self.layer.relu:
            saved.out = out

    def _multiply(self, saved: D, out: Tensor) -> None:
        project(saved.dropped, self.layer.weight, out=out).add_(self.layer.bias)
        if self.layer.relu:
            out.relu_()

    def backward_update(self, saved: D, gradient: Tensor, z_gradient: None, h0_gradient: object) -> None:
        # Other layers leave it to the layer behind to mask by their ReLU. This one may make the initial rows,
        # whose gradient also comes from layers that don't mask it, so it asks its ReLU again.
        if self.layer.relu:
            gradient = torch.ops.aten.threshold_backward(gradient, saved.out, 0)
            del saved.out
        grad_of(self.layer.bias).add_(gradient.sum(dim=0))
        saved.owe(self.layer.weight, saved.dropped, gradient)
        saved.gradient = gradient

    def _back(self, saved: D, h_gradient: Tensor) -> None:
        torch.mm(saved.gradient, self.layer.weight.t(), out=h_gradient)
        saved.back(h_gradient)

    @property
    def kept(self) -> Kept:
        """With a ReLU the gradient in front of it is kept (``held``), and that of the output rows is not."""
        columns, out = self.layer.in_features, self.layer.out_features
        if self.layer.relu:
            return Kept(columns + out, dropped=columns, carried=out, gradient="no", held=out)
        return Kept(columns, dropped=columns, carried=out)


class DenseRunner(_AnyDense[SavedDense]):
    """Runs a dense layer without a norm."""

    saved = SavedDense

    @classmethod
    def of(cls, layer: Layer, rows: InputRows) -> DenseRunner | None:
        if type(layer) is Dense and not layer.activates and rows != "any":
            return cls(layer)
        return None

    def forward_message(self, saved: SavedDense, h: FeatureRows, x: None) -> None:
        saved.dropped = saved.drop(h)

    def backward_message(self, saved: SavedDense, x_gradient: None, h_gradient: Tensor | None) -> None:
        if h_gradient is not None:
            self._back(saved, h_gradient)


class NormedDenseRunner(_AnyDense[SavedNormed], Recomputes[SavedNormed]):
    """Runs a dense layer behind a norm and ReLU; makes the rows in front of the norm again.

    Dropout's derivative reads that ReLU off the dropped rows, so that only the norm is left to differentiate.
    """

    saved = SavedNormed

    def __init__(self, layer: Dense, norm: AnyNorm) -> None:
        super().__init__(layer)
        self._norm = norm

    @classmethod
    def of(cls, layer: Layer, rows: InputRows) -> NormedDenseRunner | None:
        if type(layer) is Dense and layer.norm is not None and rows == "any":
            return cls(layer, layer.norm)
        return None

    def forward_message(self, saved: SavedNormed, h: Tensor, x: None) -> None:
        normed, saved.moments = norm_forward(self._norm, h)
        saved.h, saved.dropped = h, saved.drop(normed.relu_())

    def backward_message(self, saved: SavedNormed, x_gradient: None, h_gradient: Tensor) -> None:
        self._back(saved, h_gradient)
        h_gradient.copy_(norm_backward(self._norm, h_gradient, saved.h, saved.moments))

    def forget(self, saved: SavedNormed) -> None:
        """Drop the rows in front of the norm."""
        del saved.h

    def recall(self, saved: SavedNormed, h: Tensor, out: Tensor | None) -> None:
        saved.h = h
        if out is not None:
            self._multiply(saved, out)

    @property
    def kept(self) -> Kept:
        """As without a norm, and the rows in front of it and their moments; the moments are not dropped."""
        kept, columns = super().kept, self.layer.in_features
        return replace(kept, saved=kept.saved + columns + num_moments(self._norm), forgotten=columns)
