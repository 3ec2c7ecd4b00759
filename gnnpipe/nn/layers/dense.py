"""The layers that aggregate nothing: from features to hidden rows, and from hidden rows to classes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gnnpipe.nn.features import FeatureRows, project
from gnnpipe.nn.layer import Drop, Layer, RowsPass, WayBack, glorot, zeros
from gnnpipe.nn.layers.norm import norm_backward, norm_forward


class Dense(Layer):
    """``h' = act(dropout(norm(h)) W + b)``.

    Shapes: ``[n, in_features] -> [n, out_features]``.

    Args:
        in_features: columns of the input rows.
        out_features: columns of the output rows.
        generator: draws the weights.
        relu: whether act is ReLU; otherwise there is none.
        pre_norm: whether the rows go through LayerNorm and ReLU first (the end of a pre-activation network).
        reads_features: whether the input rows are features.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        generator: torch.Generator,
        *,
        relu: bool = False,
        pre_norm: bool = False,
        reads_features: bool = False,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = glorot(in_features, out_features, generator)
        self.bias = zeros(out_features)
        self.norm = nn.LayerNorm(in_features) if pre_norm else None
        self.relu = relu
        self.reads_features = reads_features

    def message(self, h: FeatureRows, drop: Drop) -> tuple[None, Tensor]:
        """No rows to aggregate; the product itself is carried over."""
        if self.norm is not None:
            assert isinstance(h, Tensor)
            h = F.relu(self.norm(h))
        return None, project(drop(h), self.weight)

    def update(self, z: Tensor | None, carry: Tensor | None, h0: Tensor | None) -> Tensor:
        """Bias and activation."""
        assert carry is not None
        out = carry + self.bias
        return F.relu(out) if self.relu else out

    def forward_message(self, rows: RowsPass, h: FeatureRows) -> None:
        """See `Layer.forward_message`."""
        before_norm: tuple[Tensor, ...] = ()
        if self.norm is not None:
            assert isinstance(h, Tensor)
            normed, moments = norm_forward(self.norm, h)
            before_norm = (h, *moments)
            h = normed.relu_()
        rows.kept = (*before_norm, rows.drop(h))

    def forward_update(self, rows: RowsPass, z: Tensor | None, h0: Tensor | None, out: Tensor) -> None:
        """See `Layer.forward_update`."""
        project(rows.kept[-1], self.weight, out=out).add_(self.bias)
        if self.relu:
            out.relu_()
            rows.kept = (*rows.kept, out)

    def backward_update(
        self, rows: RowsPass, gradient: Tensor, z_gradient: Tensor | None, h0_gradient: Tensor | None
    ) -> None:
        """See `Layer.backward_update`."""
        if self.relu:  # asked again, as initial rows also have gradients from layers that don't drop them
            *kept, out = rows.kept
            gradient = torch.ops.aten.threshold_backward(gradient, out, 0)
            rows.kept = tuple(kept)
        assert self.bias.grad is not None
        self.bias.grad.add_(gradient.sum(dim=0))
        rows.owe(self.weight, rows.kept[-1], gradient)
        rows.kept = (*rows.kept, gradient)

    def backward_message(self, rows: RowsPass, x_gradient: Tensor | None, h_gradient: Tensor | None) -> None:
        """See `Layer.backward_message`."""
        if h_gradient is None:
            return
        *before_norm, dropped, gradient = rows.kept
        torch.mm(gradient, self.weight.t(), out=h_gradient)
        rows.drop.back(h_gradient, dropped, h_gradient)
        if self.norm is not None:
            h, mean, scale = before_norm
            h_gradient.copy_(norm_backward(self.norm, h_gradient, h, (mean, scale)))

    def forget(self, rows: RowsPass) -> None:
        """See `Layer.forget`: rows before the norm."""
        if self.norm is not None:
            rows.kept = rows.kept[1:]

    def recall(self, rows: RowsPass, h: FeatureRows, out: Tensor | None) -> None:
        """See `Layer.recall`."""
        if self.norm is not None:
            rows.kept = (h, *rows.kept)
        if out is not None:
            project(rows.kept[-1 - self.relu], self.weight, out=out).add_(self.bias)
            if self.relu:
                out.relu_()

    def forgotten_columns(self) -> int:
        """Rows before the norm."""
        return 0 if self.norm is None else self.in_features

    def way_back(self) -> WayBack:
        """See `Layer.way_back`: behind a ReLU, the gradient in front of it."""
        return WayBack("no", held=self.out_features) if self.relu else WayBack("chunk")

    def carried_columns(self) -> int:
        """The product itself."""
        return self.out_features

    def saved_columns(self) -> int:
        """Dropped rows, those before the norm, and initial rows."""
        before_norm = 0 if self.norm is None else self.in_features + 2
        return self.in_features + before_norm + self.relu * self.out_features
