"""ResGCN+: the pre-activation residual block of DeepGCNs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gnnpipe.nn.features import FeatureRows
from gnnpipe.nn.layer import Drop, Layer, RowsPass, WayBack, glorot, zeros
from gnnpipe.nn.layers.norm import norm_backward, norm_forward


class ResGcnLayer(Layer):
    """``h' = h + A dropout(ReLU(norm(h))) W + b`` (the "res+" block of arXiv 2006.07739).

    ``A = D^-1/2 (A + I) D^-1/2``; the norm is LayerNorm, which works row by row, so that a chunk's rows do
    not depend on the other chunks' as they would with batch norm. Shapes: ``[n, hidden] -> [n, hidden]``.

    Args:
        hidden: columns of input and output.
        generator: draws the weights.
    """

    only_drops = True

    def __init__(self, hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        self.width = self.in_features = self.out_features = hidden
        self.norm = nn.LayerNorm(hidden)
        self.weight = glorot(hidden, hidden, generator)
        self.bias = zeros(hidden)

    def message(self, h: FeatureRows, drop: Drop) -> tuple[Tensor, Tensor]:
        """Activated rows, and the skip."""
        assert isinstance(h, Tensor)
        rows = drop(F.relu(self.norm(h)))
        assert isinstance(rows, Tensor)
        return rows, h

    def update(self, z: Tensor | None, carry: Tensor | None, h0: Tensor | None) -> Tensor:
        """Convolution plus skip."""
        assert z is not None
        assert carry is not None
        return torch.addmm(carry, z, self.weight).add_(self.bias)

    def forward_message(self, rows: RowsPass, h: FeatureRows) -> None:
        """See `Layer.forward_message`."""
        assert isinstance(h, Tensor)
        assert rows.x is not None
        normed, moments = norm_forward(self.norm, h)
        rows.drop.into(normed.relu_(), rows.x)
        rows.kept = (h, *moments)

    def forward_update(self, rows: RowsPass, z: Tensor | None, h0: Tensor | None, out: Tensor) -> None:
        """See `Layer.forward_update`."""
        assert z is not None
        rows.kept = (*rows.kept, z)
        self._convolve(rows, out)

    def _convolve(self, rows: RowsPass, out: Tensor) -> None:
        h, _, _, z = rows.kept
        torch.addmm(h, z, self.weight, out=out).add_(self.bias)

    def forget(self, rows: RowsPass) -> None:
        """See `Layer.forget`: the input rows."""
        rows.kept = rows.kept[1:]

    def recall(self, rows: RowsPass, h: FeatureRows, out: Tensor | None) -> None:
        """See `Layer.recall`."""
        rows.kept = (h, *rows.kept)
        if out is not None:
            self._convolve(rows, out)

    def forgotten_columns(self) -> int:
        """The input rows."""
        return self.in_features

    def backward_update(
        self, rows: RowsPass, gradient: Tensor, z_gradient: Tensor | None, h0_gradient: Tensor | None
    ) -> None:
        """See `Layer.backward_update`."""
        h, mean, scale, z = rows.kept
        assert z_gradient is not None
        assert self.bias.grad is not None
        self.bias.grad.add_(gradient.sum(dim=0))
        rows.owe(self.weight, z, gradient)
        torch.mm(gradient, self.weight.t(), out=z_gradient)
        rows.kept = (h, mean, scale, gradient)

    def backward_message(self, rows: RowsPass, x_gradient: Tensor | None, h_gradient: Tensor | None) -> None:
        """See `Layer.backward_message`."""
        h, mean, scale, gradient = rows.kept
        assert x_gradient is not None
        assert h_gradient is not None
        assert rows.x is not None
        rows.drop.back(x_gradient, rows.x, x_gradient)
        torch.add(norm_backward(self.norm, x_gradient, h, (mean, scale)), gradient, out=h_gradient)

    def way_back(self) -> WayBack:
        """See `Layer.way_back`. What tiles let go of meanwhile has no room for a gradient."""
        return WayBack("chunk")

    def saved_columns(self) -> int:
        """Input and aggregate, and the two moments of the norm."""
        return 2 * self.out_features + 2
