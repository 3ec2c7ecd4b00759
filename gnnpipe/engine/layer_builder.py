"""Building a stage's layers, each with its tables and their boundaries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gnnpipe.comm.halo import Halo, HaloRoutes, Route
from gnnpipe.engine.boundary import Boundary, ExactBoundary, StaleBoundary
from gnnpipe.engine.layer import GradientRows, Rows, StageLayer
from gnnpipe.engine.tables import ForwardTable, GradientTable, TableSettings
from gnnpipe.nn.models import LayerSpec
from gnnpipe.nn.runners import input_rows, runner_of


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
    shared: dict[int, GradientTable] = field(default_factory=dict)
    """By width, the gradient tables that layers built later use too, if tables may be shared."""

    def build(self, spec: LayerSpec) -> StageLayer:
        """Build a layer with the tables that it needs.

        Aggregated rows need a forward table; a gradient table too, unless they are features, as nobody wants
        the gradient of those.
        """
        module, rows = spec().to(self.device), input_rows(self.stack, spec.number)
        runner, reads_features = runner_of(module, rows), rows == "features"
        if module.width is None:
            return StageLayer(spec, runner, None, None, reads_features=reads_features)
        num_rows = self.num_rows + _num_arriving(self.routes.forward)
        forward = ForwardTable(num_rows, module.width, self.settings, self._table_device)
        table = Rows(forward, self._boundary(self.routes.forward, forward.sent))
        if not runner.returns_gradient:
            return StageLayer(spec, runner, table, None, self.lookahead, reads_features)
        backward = self._gradient_table(module.width)
        gradients = GradientRows(backward, self._boundary(self.routes.backward, [backward.rows]))
        return StageLayer(spec, runner, table, gradients, self.lookahead, reads_features)

    @property
    def _table_device(self) -> torch.device:
        return self.device if self.trains else torch.device("meta")

    def _gradient_table(self, width: int) -> GradientTable:
        if width in self.shared:
            return self.shared[width]
        num_rows = self.num_rows + _num_arriving(self.routes.backward)
        table = GradientTable(num_rows, width, self.settings, self._table_device)
        if self.settings.shares_gradients:
            self.shared[width] = table
        return table

    def _boundary(self, routes: list[Route | None], tensors: list[Tensor]) -> Boundary:
        if self.settings.stale_halo:
            return StaleBoundary(self.halo, routes, tensors[0])
        return ExactBoundary(self.halo, routes, tensors)


def _num_arriving(routes: list[Route | None]) -> int:
    """Number of halo rows of all chunks."""
    return sum(route.arrive.num_nodes for route in routes if route is not None)
