"""GCNII: graph convolution with initial residual and identity mapping."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gnnpipe import ops
from gnnpipe.nn.layer import Drop, Given, Layer, glorot
from gnnpipe.nn.layers.wrappers.extras import PLAIN, Extras, ExtrasLayer, ExtrasRunner, SavedExtras
from gnnpipe.nn.running import InputRows, Kept
from gnnpipe.ops.mix import Mix


class GcniiLayer(ExtrasLayer):
    """``h' = ReLU(norm(s ((1 - beta) I + beta W) + skip(x)))``, ``s = (1 - alpha) A x + alpha h0``.

    ``x = dropout(h)``; norm and skip are extras.
    arXiv 2007.02133, eq. 5; ``beta = log(theta / l + 1)`` for the l-th layer, counted from 1.
    Shapes: ``[n, hidden] -> [n, hidden]``.

    Args:
        hidden: columns of input, output and initial rows.
        number: l, the layer's number.
        alpha: share of the initial rows.
        theta: strength of the weights: W counts beta, the identity the rest.
        generator: draws the weights.
        extras: norm and residual.
    """

    cost_kind = "gcnii"
    relu = True

    def __init__(
        self,
        hidden: int,
        number: int,
        alpha: float,
        theta: float,
        generator: torch.Generator | None,
        extras: Extras = PLAIN,
    ) -> None:
        super().__init__()
        self.width = self.in_features = self.out_features = hidden
        self.alpha = alpha
        self.beta = math.log(theta / number + 1.0)
        self.weight = glorot(hidden, hidden, generator)
        self.add_extras(extras, generator)

    def message(self, h: Tensor, drop: Drop) -> tuple[Tensor, Tensor | None]:
        """Drop; hand over the residual."""
        rows = drop(h)
        return rows, self.skipped(rows)

    def update(self, z: Tensor, carry: Tensor | None, h0: Tensor) -> Tensor:
        """Mix in the initial rows (initial residual), multiply (identity mapping) and finish."""
        s = torch.lerp(z, h0, self.alpha)
        out = torch.addmm(s, s, self.weight, beta=1.0 - self.beta, alpha=self.beta)
        return self.finished(out, carry)


@dataclass
class SavedMix(SavedExtras):
    """The dropped input rows, which stand in the table, and the aggregate mixed with the initial rows."""

    dropped: Tensor = field(init=False)
    s: Tensor = field(init=False)


class GcniiRunner(ExtrasRunner[GcniiLayer, SavedMix]):
    """Runs ``s B`` with ``s = (1 - alpha) z + alpha h0`` and ``B = (1 - beta) I + beta W``.

    B is made once an epoch for all chunks: weights don't change in between. With G the gradient of ``s B``:

        W: beta s^T G     z: (1 - alpha) G B^T     h0: alpha G B^T

    One product makes both: ``z_gradient = G ((1 - alpha) B^T)``, of which h0 gets ``alpha / (1 - alpha)``.
    """

    saved = SavedMix
    only_drops = True
    prepares = True

    def __init__(self, layer: GcniiLayer) -> None:
        super().__init__(layer)
        # B, and (1 - alpha) B^T
        self._blended = torch.empty_like(layer.weight.detach())
        self._blended_back = torch.empty_like(self._blended.t())

    @classmethod
    def of(cls, layer: Layer, rows: InputRows) -> GcniiRunner | None:
        return cls(layer) if type(layer) is GcniiLayer and rows == "relu" else None

    def prepare(self) -> None:
        weight, alpha, beta = self.layer.weight.detach(), self.layer.alpha, self.layer.beta
        # beta W, then 1 - beta on the diagonal
        torch.mul(weight, beta, out=self._blended)
        self._blended.diagonal().add_(1.0 - beta)
        torch.mul(self._blended.t(), 1.0 - alpha, out=self._blended_back)

    def mix(self, h0: Given) -> Mix | None:
        return None if h0 is None else Mix(h0, self.layer.alpha)

    def forward_message(self, saved: SavedMix, h: Tensor, x: Tensor) -> None:
        # x stands in the table until the next epoch, so it is kept for the way back at no cost
        saved.drop.into(h, x)
        saved.dropped = x

    def forward_update(self, saved: SavedMix, z: Tensor, h0: Tensor, out: Tensor) -> None:
        # z is s already
        before = self.room(out)
        torch.mm(z, self._blended, out=before)
        self.finish(saved, before, saved.dropped, out)
        saved.s = z

    def backward_update(
        self, saved: SavedMix, gradient: Tensor, z_gradient: Tensor, h0_gradient: Tensor
    ) -> None:
        layer = self.layer
        gradient = self.unfinish(saved, gradient, saved.dropped)
        saved.owe(layer.weight, saved.s, gradient, layer.beta)
        if layer.alpha == 1.0:  # s is h0 alone, and (1 - alpha) can't be divided by
            z_gradient.zero_()
            h0_gradient.addmm_(gradient, self._blended.t())
            return
        # share: h0_gradient += alpha / (1 - alpha) z_gradient
        torch.mm(gradient, self._blended_back, out=z_gradient)
        ops.of(gradient.device).share(z_gradient, h0_gradient, layer.alpha)

    def backward_message(self, saved: SavedMix, x_gradient: Tensor, h_gradient: Tensor) -> None:
        self.add_skip_gradient(saved, x_gradient)
        saved.drop.back(x_gradient, saved.dropped, h_gradient)

    @property
    def kept(self) -> Kept:
        """The mix; the product holds the gradient of the output rows."""
        return self.with_extras(Kept(self.layer.out_features, gradient="products"))
