"""Building a stage's layers, each with its tables and their boundaries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from gnnpipe.comm.halo import Halo, HaloRoutes, Route
from gnnpipe.engine.boundary import Boundary, ExactBoundary, StaleBoundary
from gnnpipe.engine.layers.gather import GatheringLayer
from gnnpipe.engine.layers.layer import GradientRows, Rows, StageLayer
from gnnpipe.engine.layers.push import PushBoundary, PushingLayer, PushRows, PushTable
from gnnpipe.engine.tables import ForwardTable, GradientTable, TableSettings
from gnnpipe.nn.layer import Layer
from gnnpipe.nn.models import LayerSpec
from gnnpipe.nn.runners import input_rows, runner_of
from gnnpipe.nn.running import AnyRunner, Gathers, Pushes, Reverts


@dataclass(frozen=True)
class LayerBuilder:
    """Builds the layers of one stage; its fields are what they have in common."""

    stack: Sequence[LayerSpec]
    """All layers of the model."""
    num_rows: int
    """Number of rows of the part."""
    settings: TableSettings
    """Staleness settings of the tables."""
    halo: Halo
    """Exchanges boundary rows with the other parts."""
    routes: HaloRoutes
    """The boundary rows of each chunk."""
    lookahead: int
    """Positions that a layer takes a chunk behind the one that it puts."""
    device: torch.device
    """Device of weights and tables."""
    trains: bool = True
    """Whether the layers are trained. Tables of others have shapes, and take no memory."""
    shared: dict[tuple[int, int, str], GradientTable] = field(default_factory=dict)
    """By width, number of weighed columns and number format, the gradient tables that layers built later use
    too, if tables may be shared."""
    shared_pushes: dict[int, PushTable] = field(default_factory=dict)
    """By width, the same for tables of pushes."""
    shared_rows: dict[tuple[int, str], ForwardTable] = field(default_factory=dict)
    """By width and number format, the forward tables of layers that make their rows again."""

    def build(self, spec: LayerSpec) -> StageLayer:
        """Build a layer with the tables that it needs.

        Aggregated rows need a forward table; a gradient table too, unless they are features, as nobody wants
        the gradient of those.
        """
        module, rows = spec().to(self.device), input_rows(self.stack, spec.number)
        runner, reads_features = runner_of(module, rows), rows == "features"
        if module.width is None:
            return StageLayer(spec, runner, None, None, reads_features=reads_features)
        settings = self._settings_of(module)
        reverts = settings.shares_gradients and isinstance(runner, Reverts)
        forward = self._forward(module.width, settings, shared=reverts)
        table = Rows(forward, self._boundary(self.routes.forward, forward.sent))
        if isinstance(runner, Pushes):
            pushes = self._pushes(module.width) if runner.returns_gradient else None
            return PushingLayer(spec, runner, table, None, self.lookahead, reads_features, pushes=pushes)
        gradients = self._gradients(runner, settings) if runner.returns_gradient else None
        kind = GatheringLayer if isinstance(runner, Gathers) else StageLayer
        return kind(spec, runner, table, gradients, self.lookahead, reads_features, reverts)

    def _forward(self, width: int, settings: TableSettings, *, shared: bool) -> ForwardTable:
        key = width, settings.format
        found = self.shared_rows.get(key) if shared else None
        table = found or ForwardTable(self._forward_rows, width, settings, self._table_device)
        if shared:
            self.shared_rows[key] = table
        return table

    def _settings_of(self, module: Layer) -> TableSettings:
        return replace(self.settings, format="fp32") if module.fp32_tables else self.settings

    @property
    def _forward_rows(self) -> int:
        return self.num_rows + _num_arriving(self.routes.forward)

    def _pushes(self, width: int) -> PushRows:
        table = self.shared_pushes.get(width)
        if table is None:
            table = PushTable(self._forward_rows, width, self.settings, self._table_device)
        if self.settings.shares_gradients:
            self.shared_pushes[width] = table
        return PushRows(table, PushBoundary(self.halo, self.routes.forward, table))

    @property
    def _table_device(self) -> torch.device:
        return self.device if self.trains else torch.device("meta")

    def _gradients(self, runner: AnyRunner, settings: TableSettings) -> GradientRows:
        width = weighed = runner.layer.width or 0
        if isinstance(runner, Gathers):
            width, weighed = runner.gradient_width, runner.weighed
        key = width, weighed, settings.format
        table = self.shared.get(key)
        if table is None:
            num_rows = self.num_rows + _num_arriving(self.routes.backward)
            table = GradientTable(num_rows, width, settings, self._table_device, weighed)
        if settings.shares_gradients:
            self.shared[key] = table
        return GradientRows(table, self._boundary(self.routes.backward, [table.rows]))

    def _boundary(self, routes: list[Route | None], tensors: list[Tensor]) -> Boundary:
        if self.settings.stale_halo:
            return StaleBoundary(self.halo, routes, tensors[0])
        return ExactBoundary(self.halo, routes, tensors)


def _num_arriving(routes: list[Route | None]) -> int:
    """Number of halo rows of all chunks."""
    return sum(route.arrive.num_nodes for route in routes if route is not None)
