"""Norm and residual around any layer, which knows nothing of them."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from gnnpipe.nn.blocks.edges import Edges
from gnnpipe.nn.features import FeatureRows
from gnnpipe.nn.layer import Drop, Given, Layer
from gnnpipe.nn.layers.wrappers.extras import Extras, ExtrasLayer, ExtrasRunner, SavedExtras
from gnnpipe.nn.layers.wrappers.wrapping import GathersInside, SavedAround
from gnnpipe.nn.running import AnyRunner, Gathers, InputRows, Kept, SavedInput
from gnnpipe.ops.mix import Mix


class Around(ExtrasLayer):
    """``h' = act(norm(conv(x) + skip(x)))``, ``x = dropout(h)``, for a layer that drops its input rows first.

    Args:
        conv: the layer, without an activation of its own.
        extras: norm and residual.
        generator: draws the weights.
        relu: whether act is ReLU; otherwise there is none.
    """

    def __init__(self, conv: Layer, extras: Extras, generator: torch.Generator, *, relu: bool) -> None:
        super().__init__()
        self.conv, self.relu = conv, relu
        self.in_features, self.out_features, self.width = conv.in_features, conv.out_features, conv.width
        self.is_linear, self.fp32_tables, self.drop_rate = conv.is_linear, conv.fp32_tables, conv.drop_rate
        self.cost_kind = conv.cost_kind
        self.add_extras(extras, generator)

    def message(self, h: Given, drop: Drop) -> tuple[Given, Given]:
        """The layer's; the residual is handed over too."""
        x, carry = self.conv.message(h, drop)
        return x, (carry, self.skipped(drop(h)) if self.skips else None)

    def aggregate(self, edges: Edges, table: Tensor, carry: Given) -> Tensor:
        """The layer's."""
        return self.conv.aggregate(edges, table, carry[0])

    def update(self, z: Given, carry: Given, h0: Given) -> Tensor:
        """The layer's, and all that comes behind it."""
        return self.finished(self.conv.update(z, carry[0], h0), carry[1])


@dataclass
class SavedBoth(SavedExtras, SavedAround):
    """The layer's, the norm's, and the dropped input rows where there is a residual."""

    x: FeatureRows = field(init=False)


class AroundRunner(ExtrasRunner[Around, SavedBoth]):
    """Runs a layer by its own runner, and norm and residual behind it.

    Args:
        layer: the layer.
        conv: the runner of the layer inside.
        rows: origin of the input rows.
    """

    saved = SavedBoth

    def __init__(self, layer: Around, conv: AnyRunner, rows: InputRows) -> None:
        super().__init__(layer)
        self.conv, self._rows = conv, rows
        self.only_drops, self.prepares = conv.only_drops, conv.prepares

    @classmethod
    def of(cls, layer: Layer, rows: InputRows) -> None:
        """None: it needs the runner of the layer inside, see `around_runner`."""

    def prepare(self) -> None:
        self.conv.prepare()

    def mix(self, h0: Given) -> Mix | None:
        return self.conv.mix(h0)

    def forward_message(self, saved: SavedBoth, h: FeatureRows, x: Given) -> None:
        saved.conv = self.conv.saved(saved.drop, saved.products)
        self.conv.forward_message(saved.conv, h, x)
        if self.layer.skips:  # most runners keep the dropped rows anyway
            saved.x = saved.conv.dropped if isinstance(saved.conv, SavedInput) else saved.drop(h)
        else:
            saved.x = h
        saved.conv.drop = saved.conv.drop.without_bits()

    def forward_update(self, saved: SavedBoth, z: Given, h0: Given, out: Tensor) -> None:
        before = self.room(out)
        self.conv.forward_update(saved.conv, z, h0, before)
        self.finish(saved, before, saved.x, out)
        if not self.layer.skips:
            del saved.x

    def backward_update(
        self, saved: SavedBoth, gradient: Tensor, z_gradient: Given, h0_gradient: Given
    ) -> None:
        x = saved.x if self.layer.skips else gradient
        gradient = self.unfinish(saved, gradient, x)
        # the layer inside may write over it
        own = gradient.clone() if self.layer.skips else gradient
        self.conv.backward_update(saved.conv, own, z_gradient, h0_gradient)

    def backward_message(self, saved: SavedBoth, x_gradient: Given, h_gradient: Given) -> None:
        self.conv.backward_message(saved.conv, x_gradient, h_gradient)
        if h_gradient is None or not self.layer.skips:
            return
        of_skip = torch.zeros_like(h_gradient)
        self.add_skip_gradient(saved, of_skip)
        if self._rows == "relu" and isinstance(saved.x, Tensor):
            saved.drop.back(of_skip, saved.x, of_skip)
        else:
            of_skip = saved.drop(of_skip)  # a product with a diagonal matrix
        h_gradient.add_(of_skip)

    @property
    def returns_gradient(self) -> bool:
        return self.conv.returns_gradient

    @property
    def kept(self) -> Kept:
        """The layer's, and the norm's; a gradient as wide as the output where there is a residual."""
        return self.with_extras(self.conv.kept)


class AroundGathers(GathersInside[SavedBoth], AroundRunner):
    """The same around a runner that gathers."""


def around_runner(layer: Around, conv: AnyRunner, rows: InputRows) -> AroundRunner:
    """The runner of a layer around that of the layer inside."""
    if not isinstance(conv, Gathers):
        return AroundRunner(layer, conv, rows)
    runner = AroundGathers(layer, conv, rows)
    runner.set_inner(conv)
    return runner
