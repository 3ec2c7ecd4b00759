"""Reversible blocks: a layer changes one group of columns by what it makes of others, so that its input
follows from its output.

    # 2 groups                 layer 0                layer 1
    # group 0     x0 ----(+)------> y0 ---+-----------> y0
    #                     |               |
    #                  f0(x1)           f1(y0)
    #                     |               |
    # group 1     x1 ----+--------> x1 --(+)----------> y1

The columns that a layer reads are the same in its input and in its output: so its message can be made from
either, and its input is its output less what it has added. "Grouped reversible" blocks of RevGNN
(arXiv 2106.07476), each of which is as many layers here as there are groups.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from gnnpipe.nn.blocks.edges import Edges
from gnnpipe.nn.layer import Drop, Given, Layer
from gnnpipe.nn.running import AnyRunner, Kept, Recomputes, Reverts, Runner, Saved


class Coupling(Layer):
    """``y_g = x_g + f(x_r)``; all other groups stay as they are.

    Group g reads the group in front of it, and the first one the sum of all others.
    Shapes: ``[n, num_groups * w] -> [n, num_groups * w]``.

    Args:
        inner: f, with w columns in and out, and linear aggregation.
        group: g, the group that is changed.
        num_groups: number of groups, 2 at least.
    """

    def __init__(self, inner: Layer, group: int, num_groups: int) -> None:
        super().__init__()
        self.inner, self.columns = inner, inner.out_features
        self.in_features = self.out_features = num_groups * self.columns
        self.width, self.drop_rate, self.cost_kind = inner.width, inner.drop_rate, inner.cost_kind
        self.normalization, self.fp32_tables = inner.normalization, inner.fp32_tables
        self._group = group

    def own(self, h: Tensor) -> Tensor:
        """The group that is changed, as a view ``[n, w]``."""
        start = self._group * self.columns
        return h[:, start : start + self.columns]

    def read(self, h: Tensor) -> Tensor:
        """What f reads, ``[n, w]`` of its own."""
        if self._group:
            return h[:, (self._group - 1) * self.columns : self._group * self.columns].contiguous()
        return self._others(h).sum(dim=1)

    def add_read_gradient(self, h_gradient: Tensor, gradient: Tensor) -> None:
        """Add the gradient of what f has read to that of the input rows."""
        if self._group:
            h_gradient[:, (self._group - 1) * self.columns : self._group * self.columns] += gradient
        else:
            self._others(h_gradient).add_(gradient.unsqueeze(1))

    def _others(self, h: Tensor) -> Tensor:
        """The groups behind the first, as a view ``[n, num_groups - 1, w]``."""
        return h.unflatten(1, (-1, self.columns))[:, 1:]

    def message(self, h: Tensor, drop: Drop) -> tuple[Tensor, tuple[Given, Tensor]]:
        """That of f; hand over the input rows too."""
        x, carry = self.inner.message(self.read(h), drop)
        return x, (carry, h)

    def aggregate(self, edges: Edges, table: Tensor, carry: tuple[Given, Tensor]) -> Tensor:
        """That of f."""
        return self.inner.aggregate(edges, table, carry[0])

    def update(self, z: Tensor, carry: tuple[Given, Tensor], h0: object) -> Tensor:
        """Add what f makes."""
        added, h = self.inner.update(z, carry[0], None), carry[1]
        start = self._group * self.columns
        return torch.cat([h[:, :start], self.own(h) + added, h[:, start + self.columns :]], dim=1)


@dataclass
class SavedCoupling(Saved):
    """Those of f; the input rows, until they are copied; then the gradient of the output rows."""

    inner: Saved = field(init=False)
    h: Tensor = field(init=False)
    gradient: Tensor = field(init=False)


class CouplingRunner(Runner[Coupling, SavedCoupling], Reverts[SavedCoupling]):
    """Runs f by its own runner.

    Args:
        layer: the layer.
        inner: the runner of f.
    """

    saved = SavedCoupling

    def __init__(self, layer: Coupling, inner: AnyRunner) -> None:
        super().__init__(layer)
        self.inner, self.only_drops, self.prepares = inner, inner.only_drops, inner.prepares

    def prepare(self) -> None:
        self.inner.prepare()

    def forward_message(self, saved: SavedCoupling, h: Tensor, x: Tensor) -> None:
        saved.inner = self.inner.saved(saved.drop, saved.products)
        self.inner.forward_message(saved.inner, self.layer.read(h), x)
        saved.inner.drop = saved.inner.drop.without_bits()
        saved.h = h

    def forward_update(self, saved: SavedCoupling, z: Tensor, h0: object, out: Tensor) -> None:
        added = self._room(out)
        self.inner.forward_update(saved.inner, z, None, added)
        out.copy_(saved.h)
        self.layer.own(out).add_(added)
        del saved.h

    def revert(self, saved: SavedCoupling, z: Tensor, h: Tensor) -> None:
        added = self._room(h)
        self.inner.forward_update(saved.inner, z, None, added)
        h.copy_(saved.h)
        self.layer.own(h).sub_(added)
        del saved.h

    def _room(self, rows: Tensor) -> Tensor:
        return rows.new_empty(len(rows), self.layer.columns)

    def backward_update(
        self, saved: SavedCoupling, gradient: Tensor, z_gradient: Tensor, h0_gradient: object
    ) -> None:
        # the runner inside may keep it, or write over it
        own = self.layer.own(gradient).contiguous()
        self.inner.backward_update(saved.inner, own, z_gradient, None)
        saved.gradient = gradient

    def backward_message(self, saved: SavedCoupling, x_gradient: Tensor, h_gradient: Tensor) -> None:
        of_read = self._room(h_gradient)
        self.inner.backward_message(saved.inner, x_gradient, of_read)
        h_gradient.copy_(saved.gradient)
        self.layer.add_read_gradient(h_gradient, of_read)
        del saved.gradient

    @property
    def kept(self) -> Kept:
        """That of f, and what it reads, a copy."""
        inner = self.inner.kept
        return Kept(
            inner.saved,
            inner.dropped,
            inner.forgotten,
            inner.carried + self.layer.in_features,
            "chunk",
            inner.owed + self.layer.columns,
            inner.owed_of_tables,
            inner.held,
        )


class RecomputingCouplingRunner(CouplingRunner, Recomputes[SavedCoupling]):
    """The same around a runner that makes saved activations again.

    Args:
        layer: the layer.
        inner: the runner of f.
        again: the same runner.
    """

    def __init__(self, layer: Coupling, inner: AnyRunner, again: Recomputes[Saved]) -> None:
        super().__init__(layer, inner)
        self._again = again

    def forget(self, saved: SavedCoupling) -> None:
        self._again.forget(saved.inner)

    def recall(self, saved: SavedCoupling, h: Tensor, out: Tensor | None) -> None:
        added = None if out is None else self._room(out)
        self._again.recall(saved.inner, self.layer.read(h), added)
        if out is not None and added is not None:
            out.copy_(h)
            self.layer.own(out).add_(added)


def coupling_runner(layer: Coupling, inner: AnyRunner) -> CouplingRunner:
    """The runner of a coupling around that of the layer inside."""
    if isinstance(inner, Recomputes):
        return RecomputingCouplingRunner(layer, inner, inner)
    return CouplingRunner(layer, inner)
