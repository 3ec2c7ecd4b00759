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

    ``A = D^-1/2 (A + I) D^-1/2``. The norm is LayerNorm: it works row by row, whereas batch norm would make a
    chunk's rows depend on other chunks. Shapes: ``[n, hidden] -> [n, hidden]``.

    Args:
        hidden: columns of input and output.
        generator: draws the weights.
    """

    cost_kind = "resgcn"

    def __init__(self, hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        self.width = self.in_features = self.out_features = hidden
        self.norm = nn.LayerNorm(hidden)
        self.weight = glorot(hidden, hidden, generator)
        self.bias = zeros(hidden)

    def message(self, h: Tensor, drop: Drop) -> tuple[Tensor, Tensor]:
        """Normalise, activate and drop; hand the input rows over for the skip connection."""
        return drop(F.relu(self.norm(h))), h

    def update(self, z: Tensor, carry: Tensor, h0: object) -> Tensor:
        """Multiply, add the skip connection and the bias."""
        return torch.addmm(carry, z, self.weight).add_(self.bias)


@dataclass
class SavedBlock(Saved):
    """Input rows, moments of their norm, dropped rows (in the table) and the aggregate."""

    h: Tensor = field(init=False)
    moments: Moments = field(init=False)
    dropped: Tensor = field(init=False)
    z: Tensor = field(init=False)
    """Until the update has been differentiated."""
    gradient: Tensor = field(init=False)
    """From then on: gradient of the output rows, which the skip connection passes on."""


class ResGcnRunner(WrittenOut[ResGcnLayer, SavedBlock], Recomputes[SavedBlock]):
    """Runs ``h' = h + z W + b`` with ``z = A x`` and ``x = dropout(ReLU(norm(h)))``; makes ``h`` again.

    With G the gradient of the output rows, and ``P = A^T (G W^T)``, which the engine pulls:

        b: column sums of G     W: z^T G     z: G W^T
        h: G (skip connection) + norm's derivative of (P where x > 0, scaled)
    """

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
        """Drop the input rows."""
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
        through_norm = norm_backward(self.layer.norm, x_gradient, saved.h, saved.moments)
        torch.add(through_norm, saved.gradient, out=h_gradient)

    @property
    def kept(self) -> Kept:
        """Input rows, aggregate, and the two moments of the norm."""
        return Kept(2 * self.layer.out_features + 2, forgotten=self.layer.in_features)
