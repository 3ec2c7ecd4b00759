"""ResGCN+: the pre-activation residual block of DeepGCNs."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gnnpipe.nn.layer import Drop, Layer, glorot, zeros
from gnnpipe.nn.layers.norm import Moments, norm_backward, norm_forward
from gnnpipe.nn.running import InputRows, Kept, Recomputes, Saved, WrittenOut, grad_of


class ResGcnLayer(Layer):
    """``h' = h + A dropout(ReLU(norm(h))) W + b`` (the "res+" block of arXiv 2006.07739).

    ``A = D^-1/2 (A + I) D^-1/2``; the norm is LayerNorm, which works row by row, so that a chunk's rows do
    not depend on the other chunks' as they would with batch norm. Shapes: ``[n, hidden] -> [n, hidden]``.

    Args:
        hidden: columns of input and output.
        generator: draws the weights.
    """

    def __init__(self, hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        self.width = self.in_features = self.out_features = hidden
        self.norm = nn.LayerNorm(hidden)
        self.weight = glorot(hidden, hidden, generator)
        self.bias = zeros(hidden)

    def message(self, h: Tensor, drop: Drop) -> tuple[Tensor, Tensor]:
        """Activated rows, and the skip."""
        return drop(F.relu(self.norm(h))), h

    def update(self, z: Tensor, carry: Tensor, h0: object) -> Tensor:
        """Convolution plus skip."""
        return torch.addmm(carry, z, self.weight).add_(self.bias)


@dataclass
class SavedBlock(Saved):
    """Input rows, moments of their norm, the table's rows, the aggregate; then the gradient in its place."""

    h: Tensor = field(init=False)
    moments: Moments = field(init=False)
    dropped: Tensor = field(init=False)
    z: Tensor = field(init=False)
    gradient: Tensor = field(init=False)


class ResGcnRunner(WrittenOut[ResGcnLayer, SavedBlock], Recomputes[SavedBlock]):
    """What tiles let go of on the way back are small blocks, in whose place no gradient fits."""

    saved = SavedBlock
    only_drops = True

    @classmethod
    def of(cls, layer: Layer, rows: InputRows) -> ResGcnRunner | None:
        return cls(layer) if type(layer) is ResGcnLayer and rows == "any" else None

    def forward_message(self, saved: SavedBlock, h: Tensor, x: Tensor) -> None:
        normed, saved.moments = norm_forward(self.layer.norm, h)
        saved.drop.into(normed.relu_(), x)
        saved.h, saved.dropped = h, x

    def forward_update(self, saved: SavedBlock, z: Tensor, h0: object, out: Tensor) -> None:
        saved.z = z
        self._convolve(saved, out)

    def _convolve(self, saved: SavedBlock, out: Tensor) -> None:
        torch.addmm(saved.h, saved.z, self.layer.weight, out=out).add_(self.layer.bias)

    def forget(self, saved: SavedBlock) -> None:
        """The input rows."""
        del saved.h

    def recall(self, saved: SavedBlock, h: Tensor, out: Tensor | None) -> None:
        saved.h = h
        if out is not None:
            self._convolve(saved, out)

    def backward_update(
        self, saved: SavedBlock, gradient: Tensor, z_gradient: Tensor, h0_gradient: object
    ) -> None:
        weight = self.layer.weight
        grad_of(self.layer.bias).add_(gradient.sum(dim=0))
        saved.owe(weight, saved.z, gradient)
        torch.mm(gradient, weight.t(), out=z_gradient)
        saved.gradient = gradient
        del saved.z

    def backward_message(self, saved: SavedBlock, x_gradient: Tensor, h_gradient: Tensor) -> None:
        saved.drop.back(x_gradient, saved.dropped, x_gradient)
        found = norm_backward(self.layer.norm, x_gradient, saved.h, saved.moments)
        torch.add(found, saved.gradient, out=h_gradient)

    @property
    def kept(self) -> Kept:
        """Input and aggregate, and the two moments of the norm."""
        return Kept(2 * self.layer.out_features + 2, forgotten=self.layer.in_features)
