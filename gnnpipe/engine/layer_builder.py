"""Building a stage's layers, each with its tables and their boundaries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gnnpipe.comm.halo import Halo, Route
from gnnpipe.engine.boundary import Boundary, ExactBoundary, StaleBoundary
from gnnpipe.engine.layer import GradientRows, Rows, StageLayer
from gnnpipe.engine.tables import ForwardTable, GradientTable, TableSettings
from gnnpipe.nn.models import LayerSpec
from gnnpipe.nn.runners import input_rows, runner_of


@dataclass(frozen=True)
class LayerBuilder:
    """What all layers of a stage have in common."""

    stack: Sequence[LayerSpec]
    """All layers of the model."""
    num_rows: int
    """Of the part."""
    settings: TableSettings
    halo: Halo
    forward_routes: list[Route | None]
    """What travels of each chunk, forward."""
    backward_routes: list[Route | None]
    lookahead: int
    device: torch.device
    shared: dict[int, GradientTable] = field(default_factory=dict)
    """Gradient tables of the layers built so far, by width, where layers may share them."""

    def build(self, spec: LayerSpec) -> StageLayer:
        """A layer with as many tables as it needs."""
        module, rows = spec().to(self.device), input_rows(self.stack, spec.number)
        runner, first = runner_of(module, rows), rows == "features"
        if module.width is None:
            return StageLayer(spec, runner, None, None, reads_features=first)
        num_rows = self.num_rows + _num_arriving(self.forward_routes)
        forward = ForwardTable(num_rows, module.width, self.settings, self.device)
        table = Rows(forward, self._boundary(self.forward_routes, forward.sent))
        if not runner.returns_gradient:
            return StageLayer(spec, runner, table, None, self.lookahead, first)
        backward = self._gradient_table(module.width)
        boundary = self._boundary(self.backward_routes, [backward.rows])
        return StageLayer(spec, runner, table, GradientRows(backward, boundary), self.lookahead, first)

    def _gradient_table(self, width: int) -> GradientTable:
        if width in self.shared:
            return self.shared[width]
        num_rows = self.num_rows + _num_arriving(self.backward_routes)
        table = GradientTable(num_rows, width, self.settings, self.device)
        if self.settings.shares_gradients:
            self.shared[width] = table
        return table

    def _boundary(self, exchanged: list[Route | None], tensors: list[Tensor]) -> Boundary:
        if self.settings.stale_halo:
            return StaleBoundary(self.halo, exchanged, tensors[0])
        return ExactBoundary(self.halo, exchanged, tensors)


def _num_arriving(exchanged: list[Route | None]) -> int:
    return sum(route.arrive.num_nodes for route in exchanged if route is not None)
