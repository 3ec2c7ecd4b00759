"""GCNII: graph convolution with initial residual and identity mapping."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from gnnpipe.nn.features import FeatureRows
from gnnpipe.nn.layer import Drop, Layer, RowsPass, WayBack, glorot


class GcniiLayer(Layer):
    """``h' = ReLU(s ((1 - beta) I + beta W))`` with ``s = (1 - alpha) A dropout(h) + alpha h0``.

    arXiv 2007.02133, eq. 5; ``beta = log(theta / l + 1)`` for the l-th layer, counted from 1.
    Shapes: ``[n, hidden] -> [n, hidden]``.

    Args:
        hidden: columns of input, output and initial rows.
        number: l.
        alpha: share of the initial rows.
        theta: strength of the weights.
        generator: draws the weights.
    """

    _blended: Tensor
    _blended_back: Tensor

    only_drops = True

    def __init__(
        self, hidden: int, number: int, alpha: float, theta: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.width = self.in_features = self.out_features = hidden
        self.alpha = alpha
        self.beta = math.log(theta / number + 1.0)
        self.weight = glorot(hidden, hidden, generator)

    def message(self, h: FeatureRows, drop: Drop) -> tuple[Tensor, None]:
        """Dropped rows."""
        rows = drop(h)
        assert isinstance(rows, Tensor)
        return rows, None

    def update(self, z: Tensor | None, carry: Tensor | None, h0: Tensor | None) -> Tensor:
        """Initial residual, then identity mapping."""
        assert z is not None
        assert h0 is not None
        s = torch.lerp(z, h0, self.alpha)
        return F.relu(torch.addmm(s, s, self.weight, beta=1.0 - self.beta, alpha=self.beta))

    def begin_epoch(self) -> None:
        """Blend the weights with the identity once, forward and, scaled for the aggregates, backward."""
        super().begin_epoch()
        if not hasattr(
            self, "_blended"
        ):  # in the same place every epoch, where a recorded CUDA graph reads it
            self._blended = torch.empty_like(self.weight.detach())
            self._blended_back = torch.empty_like(self._blended.t())
        torch.mul(self.weight.detach(), self.beta, out=self._blended)
        self._blended.diagonal().add_(1.0 - self.beta)
        torch.mul(self._blended.t(), 1.0 - self.alpha, out=self._blended_back)

    def forward_message(self, rows: RowsPass, h: FeatureRows) -> None:
        """See `Layer.forward_message`."""
        assert rows.x is not None
        assert isinstance(h, Tensor)
        rows.drop.into(h, rows.x)

    def forward_update(self, rows: RowsPass, z: Tensor | None, h0: Tensor | None, out: Tensor) -> None:
        """See `Layer.forward_update`."""
        assert z is not None
        assert h0 is not None
        s = z.lerp_(h0, self.alpha)
        torch.mm(s, self._blended, out=out).relu_()
        rows.kept = (s,)

    def backward_update(
        self, rows: RowsPass, gradient: Tensor, z_gradient: Tensor | None, h0_gradient: Tensor | None
    ) -> None:
        """See `Layer.backward_update`."""
        (s,) = rows.kept
        assert z_gradient is not None
        assert h0_gradient is not None
        rows.owe(self.weight, s, gradient, self.beta)
        if self.alpha == 1.0:  # nothing of the aggregates is left
            z_gradient.zero_()
            h0_gradient.addmm_(gradient, self._blended.t())
            return
        torch.mm(gradient, self._blended_back, out=z_gradient)
        # both are shares of the gradient of s, (1 - alpha) and alpha of it
        h0_gradient.add_(z_gradient, alpha=self.alpha / (1.0 - self.alpha))

    def backward_message(self, rows: RowsPass, x_gradient: Tensor | None, h_gradient: Tensor | None) -> None:
        """See `Layer.backward_message`."""
        assert x_gradient is not None
        assert h_gradient is not None
        assert rows.x is not None
        rows.drop.back(x_gradient, rows.x, h_gradient)

    def way_back(self) -> WayBack:
        """See `Layer.way_back`."""
        return WayBack("products")

    def saved_columns(self) -> int:
        """The aggregate's mix with the initial rows."""
        return self.out_features
