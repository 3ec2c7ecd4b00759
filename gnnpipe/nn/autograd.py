"""Running a layer by differentiating its definition with autograd.

The aggregation is not part of autograd's graph, so that a layer's graph has two halves. The second one begins
at leaves, whose gradients are handed to the first half:

    # forward    h --message--> x, carry  | table, z = A x |  z_leaf, carry_leaf, h0_leaf --update--> out
    # backward   h <----------- gradients | table, A^T     |  gradients of the leaves <-------------- out
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from gnnpipe import ops
from gnnpipe.nn.dropout import keep_all
from gnnpipe.nn.features import FeatureRows
from gnnpipe.nn.layer import Layer
from gnnpipe.nn.running import InputRows, Kept, Recomputes, Runner, Saved


@dataclass
class SavedGraph(Saved):
    """Ends of both halves of a layer's graph: ``h`` to ``(x, carry)``, and the leaves to ``out``."""

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
        layer: the layer.
        rows: origin of its input rows.
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
        if isinstance(h, Tensor) and self._rows != "features":  # nobody wants the gradient of features
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
        del saved.out, saved.z_leaf, saved.h0_leaf  # carry_leaf has a gradient that the message still needs

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
                # written-out layers in front don't ask their ReLU again, see `Runner`: no gradient where its
                # output is 0. The scale is 1, as autograd has differentiated the dropout.
                ops.of(h_gradient.device).drop_back(h_gradient, saved.h, 1.0, h_gradient)

    def forget(self, saved: SavedGraph) -> None:
        """Drop all but the leaves of the aggregates and of the initial rows."""
        del saved.h, saved.x, saved.carry, saved.carry_leaf, saved.out

    def recall(self, saved: SavedGraph, h: FeatureRows, out: Tensor | None) -> None:
        self._message(saved, h)
        self._update(saved, saved.z_leaf, saved.h0_leaf)
        if out is not None:
            out.copy_(saved.out.detach())

    @property
    def kept(self) -> Kept:
        """Counted by running the layer on a few rows. Where that can't be done it is an estimate: as if
        carried rows were as wide as the output, and nothing was saved between the rows named here."""
        width, both = self.layer.width or 0, self.layer.in_features + 2 * self.layer.out_features
        saved = max(both + 2 * width, saved_columns(self.layer))
        return Kept(
            saved,
            dropped=self.layer.in_features,
            forgotten=saved - width,
            carried=self.layer.out_features,
            held=width,
        )


def saved_columns(layer: Layer) -> int:
    """Floats a row that autograd's graph of both halves holds, with the rows at their ends; 0 if the layer
    can't be run on rows like these."""
    few, more = 8, 24
    try:
        return round((_held(layer, more) - _held(layer, few)) / (4 * (more - few)))
    except Exception:  # a layer may ask for anything
        return 0


def _held(layer: Layer, num_rows: int) -> int:
    """Bytes that are held for some rows from forward to backward."""
    device = next((weight.device for weight in layer.parameters()), torch.device("cpu"))
    weights = {weight.untyped_storage()._cdata for weight in layer.parameters()}
    held: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage()._cdata not in weights:
            held[tensor.untyped_storage()._cdata] = tensor
        return tensor

    h = torch.ones(num_rows, layer.in_features, device=device, requires_grad=True)
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        x, carry = layer.message(h, keep_all)
        z = None if x is None else torch.ones_like(x.detach(), requires_grad=True)
        out = layer.update(z, _leaf(carry), None)
    for end in (x, carry, z, out):
        if end is not None:
            keep(end)
    return sum(tensor.untyped_storage().nbytes() for tensor in held.values())


def _leaf(rows: Tensor | None) -> Tensor | None:
    return None if rows is None else rows.detach().requires_grad_()


def _write(leaf: Tensor | None, gradient: Tensor) -> None:
    """Write a leaf's gradient to ``gradient``; 0 if the layer has not used the leaf."""
    if leaf is None or leaf.grad is None:
        gradient.zero_()
    else:
        gradient.copy_(leaf.grad)
