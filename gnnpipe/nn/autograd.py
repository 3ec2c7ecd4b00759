"""A layer run by differentiating its definition with autograd."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from gnnpipe import ops
from gnnpipe.nn.features import FeatureRows
from gnnpipe.nn.layer import Layer
from gnnpipe.nn.running import InputRows, Kept, Recomputes, Runner, Saved


@dataclass
class SavedGraph(Saved):
    """Both halves of a layer's graph: from ``h`` to ``(x, carry)``, and from leaves to ``out``."""

    h: FeatureRows = field(init=False)
    x: Tensor | None = field(init=False)
    carry: Tensor | None = field(init=False)
    z_leaf: Tensor | None = field(init=False)
    carry_leaf: Tensor | None = field(init=False)
    h0_leaf: Tensor | None = field(init=False)
    out: Tensor = field(init=False)


class Autograd(Runner[Layer, SavedGraph], Recomputes[SavedGraph]):
    """Runs any layer.

    Args:
        layer: with `Layer.message` and `Layer.update`.
        rows: what its input rows are.
    """

    saved = SavedGraph

    def __init__(self, layer: Layer, rows: InputRows = "any") -> None:
        super().__init__(layer)
        self._rows = rows

    def forward_message(self, saved: SavedGraph, h: FeatureRows, x: Tensor | None) -> None:
        self._message(saved, h)
        if x is not None and saved.x is not None:
            x.copy_(saved.x.detach())

    def _message(self, saved: SavedGraph, h: FeatureRows) -> None:
        saved.h = h
        if isinstance(h, Tensor) and self._rows != "features":  # whose gradient nobody wants
            saved.h = h.detach().requires_grad_()
        with torch.enable_grad():
            saved.x, saved.carry = self.layer.message(saved.h, saved.drop)

    def forward_update(self, saved: SavedGraph, z: Tensor | None, h0: Tensor | None, out: Tensor) -> None:
        self._update(saved, z, h0)
        out.copy_(saved.out.detach())

    def _update(self, saved: SavedGraph, z: Tensor | None, h0: Tensor | None) -> None:
        saved.z_leaf, saved.carry_leaf, saved.h0_leaf = _leaf(z), _leaf(saved.carry), _leaf(h0)
        with torch.enable_grad():
            saved.out = self.layer.update(saved.z_leaf, saved.carry_leaf, saved.h0_leaf)

    def backward_update(
        self,
        saved: SavedGraph,
        gradient: Tensor,
        z_gradient: Tensor | None,
        h0_gradient: Tensor | None,
    ) -> None:
        torch.autograd.backward(saved.out, gradient)
        if z_gradient is not None:
            _write(saved.z_leaf, z_gradient)
        if h0_gradient is not None and saved.h0_leaf is not None and saved.h0_leaf.grad is not None:
            h0_gradient.add_(saved.h0_leaf.grad)
        del saved.out, saved.z_leaf, saved.h0_leaf

    def backward_message(
        self, saved: SavedGraph, x_gradient: Tensor | None, h_gradient: Tensor | None
    ) -> None:
        carry_gradient = None if saved.carry_leaf is None else saved.carry_leaf.grad
        pairs = [(saved.x, x_gradient), (saved.carry, carry_gradient)]
        ends = [(end, g) for end, g in pairs if end is not None and end.requires_grad and g is not None]
        if ends:
            torch.autograd.backward([end for end, _ in ends], [gradient for _, gradient in ends])
        if h_gradient is not None and isinstance(saved.h, Tensor):
            _write(saved.h, h_gradient)
            if self._rows == "relu":
                ops.of(h_gradient.device).drop_back(h_gradient, saved.h, 1.0, h_gradient)

    def forget(self, saved: SavedGraph) -> None:
        """All but the aggregates and the initial rows."""
        del saved.h, saved.x, saved.carry, saved.carry_leaf, saved.out

    def recall(self, saved: SavedGraph, h: FeatureRows, out: Tensor | None) -> None:
        self._message(saved, h)
        self._update(saved, saved.z_leaf, saved.h0_leaf)
        if out is not None:
            out.copy_(saved.out.detach())

    @property
    def kept(self) -> Kept:
        """A guess, as the graph is the layer's own: the carried rows are as wide as the output, and nothing
        between the rows that have names is saved."""
        width, both = self.layer.width or 0, self.layer.in_features + 2 * self.layer.out_features
        return Kept(
            both + 2 * width,
            dropped=self.layer.in_features,
            forgotten=both + width,
            carried=self.layer.out_features,
            held=width,
        )


def _leaf(rows: Tensor | None) -> Tensor | None:
    return None if rows is None else rows.detach().requires_grad_()


def _write(leaf: Tensor | None, gradient: Tensor) -> None:
    """Its gradient; 0 if it has not been used."""
    if leaf is None or leaf.grad is None:
        gradient.zero_()
    else:
        gradient.copy_(leaf.grad)
