"""ResGCN+: the pre-activation residual block of DeepGCNs."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from gnnpipe.config.run import Norm, Residual
from gnnpipe.nn.layer import Drop, Given, Layer, glorot, zeros
from gnnpipe.nn.layers.norm import AnyNorm, Moments, norm_backward, norm_forward, norm_of, num_moments
from gnnpipe.nn.running import InputRows, Kept, Recomputes, Saved, WrittenOut, grad_of


class PreActivation(Layer):
    """A layer that normalises and activates in front, and adds its residual last: the "res+" block of
    arXiv 2006.07739, ``h' = skip(h) + conv(dropout(ReLU(norm(h))))``.

    Args:
        hidden: columns of input and output.
        generator: draws the weights.
        norm: kind of norm in front; none leaves the ReLU alone there.
        residual: kind of skip.
    """

    norm: AnyNorm | None
    weight_skip: Given
    """Weight of the linear residual, ``[hidden, hidden]``; None for another."""

    def __init__(
        self, hidden: int, generator: torch.Generator | None, norm: Norm, residual: Residual
    ) -> None:
        super().__init__()
        self.width = self.in_features = self.out_features = hidden
        self.norm = norm_of(norm, hidden)
        self.identity = residual == "identity"
        linear = glorot(hidden, hidden, generator) if residual == "linear" else None
        self.register_parameter("weight_skip", linear)

    def activated(self, h: Tensor) -> Tensor:
        """``ReLU(norm(h))``."""
        return F.relu(h if self.norm is None else self.norm(h))

    def skipped(self, h: Tensor) -> Tensor | None:
        """``skip(h)``; None for none."""
        if self.weight_skip is not None:
            return h @ self.weight_skip
        return h if self.identity else None


class ResGcnLayer(PreActivation):
    """``h' = skip(h) + A dropout(ReLU(norm(h))) W + b``, where skip is usually the identity.

    ``A = D^-1/2 (A + I) D^-1/2``. The norm is LayerNorm unless another one is asked for: it works row by row,
    whereas batch norm makes a chunk's rows depend on other chunks. Shapes: ``[n, hidden] -> [n, hidden]``.

    Args: as `PreActivation`.
    """

    cost_kind, normalization = "resgcn", "gcn"

    def __init__(
        self,
        hidden: int,
        generator: torch.Generator | None = None,
        norm: Norm = "layer",
        residual: Residual = "identity",
    ) -> None:
        super().__init__(hidden, generator, norm, residual)
        self.weight = glorot(hidden, hidden, generator)
        self.bias = zeros(hidden)

    def message(self, h: Tensor, drop: Drop) -> tuple[Tensor, Tensor | None]:
        """Normalise, activate and drop; hand over the residual."""
        return drop(self.activated(h)), self.skipped(h)

    def update(self, z: Tensor, carry: Tensor | None, h0: object) -> Tensor:
        """Multiply, add the residual and the bias."""
        if carry is None:
            return torch.addmm(self.bias, z, self.weight)
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

    Blocks without norm or with a linear residual are differentiated by autograd.

    With G the gradient of the output rows, and ``P = A^T (G W^T)``, which the engine pulls:

        b: column sums of G     W: z^T G     z: G W^T
        h: G (skip connection, if any) + norm's derivative of (P where x > 0, scaled)
    """

    saved = SavedBlock
    only_drops = True

    def __init__(self, layer: ResGcnLayer, norm: AnyNorm) -> None:
        super().__init__(layer)
        self._norm = norm

    @classmethod
    def of(cls, layer: Layer, rows: InputRows) -> ResGcnRunner | None:
        if type(layer) is not ResGcnLayer or layer.norm is None or rows != "any":
            return None
        return cls(layer, layer.norm) if layer.weight_skip is None else None

    def forward_message(self, saved: SavedBlock, h: Tensor, x: Tensor) -> None:
        normed, saved.moments = norm_forward(self._norm, h)
        saved.drop.into(normed.relu_(), x)
        saved.h, saved.dropped = h, x

    def forward_update(self, saved: SavedBlock, z: Tensor, h0: object, out: Tensor) -> None:
        saved.z = z
        self._convolve(saved, out)

    def _convolve(self, saved: SavedBlock, out: Tensor) -> None:
        if self.layer.identity:
            torch.addmm(saved.h, saved.z, self.layer.weight, out=out).add_(self.layer.bias)
        else:
            torch.addmm(self.layer.bias, saved.z, self.layer.weight, out=out)

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
        through_norm = norm_backward(self._norm, x_gradient, saved.h, saved.moments)
        if self.layer.identity:
            torch.add(through_norm, saved.gradient, out=h_gradient)
        else:
            h_gradient.copy_(through_norm)

    @property
    def kept(self) -> Kept:
        """Input rows, aggregate, and the two moments of the norm."""
        columns = self.layer.out_features
        return Kept(2 * columns + num_moments(self._norm), forgotten=columns)
