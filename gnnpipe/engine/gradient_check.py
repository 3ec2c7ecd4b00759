"""How far a pipeline's gradient is from the exact one: the same stage once more, with one chunk."""

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
from gnnpipe.graph.prepared import PreparedGraph
from gnnpipe.nn.models import ModelSpec
from gnnpipe.schedule.estimate import LayerSums
from gnnpipe.schedule.plan import Plan


@dataclass(frozen=True)
class CheckResult:
    """What one rank found; all of it adds up over ranks."""

    loss_sum: float
    """Exact training loss at the same weights and masks, summed as the pipeline's is."""
    layers: list[LayerSums]


class GradientCheck:
    """Computes the exact gradient at the stage's weights, with the same dropout masks, and compares.

    It holds the stage once more with a single chunk, which is exact, and so needs the memory of that plan; no
    formula of its own could go wrong.

    Args:
        stage: whose gradients are checked.
        plan: of the run.
        spec: the model.
        graph: the prepared graph.
        dropout: as of ``stage``.
        messages: of the run; nothing may be under way.
        links: of the run.
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
        # rows that read halo are not the last ones here
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
        )
        actions = whole.schedule.stages[stage.place.stage]
        self._engine = Engine(self._twin, actions, messages, Clock(stage.device))  # fp32, whatever the plan

    def measure(self, epoch: int) -> CheckResult:
        """Compare after an epoch's backward, before the step."""
        with torch.no_grad():
            weights = self._stage.modules.parameters()
            for weight, copy in zip(weights, self._twin.modules.parameters(), strict=True):
                copy.copy_(weight)
                copy.grad = None
        result = self._engine.run_epoch(epoch, [0])
        layers = []
        for mine, other in zip(self._stage.layers, self._twin.layers, strict=True):
            sums = torch.zeros(5, dtype=torch.float64)
            if self._stage.place.part == 0:  # parts of a stage have the same gradients
                for weight, exact in zip(mine.module.parameters(), other.module.parameters(), strict=True):
                    sums[:3] += _products(weight.grad, exact.grad)
            if mine.rows is not None and other.rows is not None:
                own = slice(0, self._stage.num_rows)
                exact_rows = other.rows.table.rows[own]
                sums[3] = (mine.rows.table.rows[own] - exact_rows).double().square().sum().cpu()
                sums[4] = exact_rows.double().square().sum().cpu()
            layers.append(LayerSums(mine.spec.name, *sums.tolist()))
        return CheckResult(result.loss_sum, layers)


def _products(estimate: Tensor | None, exact: Tensor | None) -> Tensor:
    """Inner products of a gradient with the exact one, with itself, and of the exact one with itself."""
    if exact is None:
        return torch.zeros(3, dtype=torch.float64)
    one = torch.zeros_like(exact) if estimate is None else estimate
    one, other = one.double().flatten(), exact.double().flatten()
    return torch.stack([one @ other, one @ one, other @ other]).cpu()
