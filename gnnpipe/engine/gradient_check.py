"""How far a pipeline's gradient is from the exact one: the stages run the epoch again, with one chunk."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gnnpipe.comm.clock import Clock
from gnnpipe.comm.groups import Links
from gnnpipe.comm.stage_links import Messages
from gnnpipe.engine.chunks import TileSizes
from gnnpipe.engine.engine import Engine
from gnnpipe.engine.masks import DropoutSettings
from gnnpipe.engine.stage import Stage
from gnnpipe.engine.tables import TableSettings
from gnnpipe.graph.prepare.prepared import PreparedGraph
from gnnpipe.nn.models import ModelSpec
from gnnpipe.schedule.estimate import LayerSums
from gnnpipe.schedule.plan import Plan


@dataclass(frozen=True)
class CheckResult:
    """Sums of one rank; those of all ranks add up."""

    loss_sum: float
    """Sum of the training nodes' exact losses at the same weights and masks; 0 on all stages but the last."""
    layers: list[LayerSums]
    """Inner products of each layer of the stage."""


class GradientCheck:
    """Compares a stage's gradients with exact ones at the same weights and dropout masks.

    The exact ones come from a second stage, the twin, with the same layers and one chunk: nothing is stale
    then. It takes as much memory as a run under that plan, but needs no formula that could be wrong.

        # stage   F0 F1 F2 B2 B1 B0   gradient with stale rows      g
        # twin    F0 B0               gradient without stale rows   g*   compare: <g, g*>, <g, g>, <g*, g*>

    Args:
        stage: stage whose gradients are checked.
        plan: plan of the run.
        spec: the model.
        graph: the prepared graph.
        dropout: settings of ``stage``, so that the twin has the same masks.
        messages: to and from the neighbouring stages; nothing may be under way.
        links: connections to the other ranks.
    """

    def __init__(
        self,
        stage: Stage,
        plan: Plan,
        spec: ModelSpec,
        graph: PreparedGraph,
        dropout: DropoutSettings,
        messages: Messages,
        links: Links,
    ) -> None:
        whole = replace(plan, num_chunks=1, lookahead=0)
        sizes = TileSizes.on(stage.device)
        # Tiles are split by halo only where rows that read it are a chunk's last. Here they are the last of
        # each of the run's chunks instead, so tiles must hold both kinds.
        together = replace(sizes, least_border=graph.facts.num_nodes + 1)
        self._stage = stage
        self._twin = Stage(
            stage.place,
            whole,
            spec,
            graph.with_one_chunk(),
            TableSettings(alone=True),
            dropout,
            stage.device,
            links,
            together,
            stage.loss_settings,
        )
        actions = whole.schedule.stages[stage.place.stage]
        # rows travel as fp32 whatever the plan says: rounding is an error of the estimate, not of the truth
        self._engine = Engine(self._twin, actions, messages, Clock(stage.device))

    def measure(self, epoch: int) -> CheckResult:
        """Compare the gradients of an epoch, after its backward and before the optimiser's step."""
        with torch.no_grad():
            weights = self._stage.modules.parameters()
            for weight, copy in zip(weights, self._twin.modules.parameters(), strict=True):
                copy.copy_(weight)
                copy.grad = None
        result = self._engine.run_epoch(epoch, [0]).result
        layers = []
        for layer, twin in zip(self._stage.layers, self._twin.layers, strict=True):
            sums = torch.zeros(5, dtype=torch.float64)  # in the order of the fields of LayerSums
            if self._stage.place.part == 0:  # parts of a stage have the same gradients
                for weight, exact in zip(layer.module.parameters(), twin.module.parameters(), strict=True):
                    sums[:3] += _products(weight.grad, exact.grad)
            if layer.rows is not None and twin.rows is not None:
                own = slice(0, self._stage.num_rows)
                exact_rows = twin.rows.table.rows[own]
                sums[3] = (layer.rows.table.rows[own] - exact_rows).double().square().sum().cpu()
                sums[4] = exact_rows.double().square().sum().cpu()
            layers.append(LayerSums(layer.spec.name, *sums.tolist()))
        return CheckResult(result.loss_sum, layers)


def _products(estimate: Tensor | None, exact: Tensor | None) -> Tensor:
    """Inner products of a gradient with the exact one, with itself, and of the exact one with itself."""
    if exact is None:
        return torch.zeros(3, dtype=torch.float64)
    g = (torch.zeros_like(exact) if estimate is None else estimate).double().flatten()
    exact = exact.double().flatten()
    return torch.stack([g @ exact, g @ g, exact @ exact]).cpu()
