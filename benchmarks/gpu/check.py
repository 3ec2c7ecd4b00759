"""Compare a device with the CPU: losses, gradients and logits, for every model and staleness rule."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gnnpipe.comm.clock import Clock
from gnnpipe.comm.groups import Links
from gnnpipe.comm.place import Place
from gnnpipe.comm.stage_links import Messages
from gnnpipe.config.resolved import StalenessSettings
from gnnpipe.config.run import GcniiConfig, Model, SyntheticConfig, TableFormat
from gnnpipe.engine.engine import Engine
from gnnpipe.engine.masks import DropoutSettings
from gnnpipe.engine.replay import replayed
from gnnpipe.engine.stage import Stage
from gnnpipe.engine.sweep import refresh, sweep
from gnnpipe.engine.tables import TableSettings
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.cut.chunks import CutSpec
from gnnpipe.graph.data import Graph
from gnnpipe.graph.prepare.prepared import PreparedGraph, prepare
from gnnpipe.graph.sources.synthetic import planted_partition
from gnnpipe.nn.models import ModelSpec
from gnnpipe.schedule.plan import make_plan
from gnnpipe.schedule.staleness import chunk_orders

MODELS: tuple[Model, ...] = ("gcn", "sage", "gcnii", "resgcn")
LAYERS, HIDDEN, EPOCHS, RATE = 4, 20, 4, 0.1
RULES = {
    "reuse": StalenessSettings("default", "shuffled", 1, "reuse", 0.7, "dropped", 1, 0, 0),
    "corrected, clean, frozen, refreshed": StalenessSettings(
        "default", "shuffled", 2, "corrected", 0.7, "clean", 2, 2, 0
    ),
    "fitted": StalenessSettings("default", "shuffled", 1, "reuse", "fitted", "dropped", 1, 0, 0),
}

# float32 sums in another order, over some layers and epochs of training
FP32 = 1e-4
# bf16 has eight bits, so that a ReLU flips here and there: the first epoch's gradient as a whole
BF16 = 4e-2


@dataclass(frozen=True)
class Case:
    """What to train."""

    model: Model
    sparse: bool
    rule: str
    tables: TableFormat
    chunks: int
    lookahead: int = 0
    epochs: int = EPOCHS

    @property
    def name(self) -> str:
        features = "sparse" if self.sparse else "dense"
        plan = f"K={self.chunks}, q={self.lookahead}, {self.epochs} epochs"
        return f"{self.model}, {features}, {self.rule}, {self.tables}, {plan}"


@dataclass
class Found:
    """Results of a training."""

    losses: list[float]
    first: Tensor
    """All gradients of the first epoch."""
    last: Tensor
    logits: Tensor


def cases(models: tuple[Model, ...]) -> Iterator[Case]:
    """Every model with dense and sparse features, every rule, both formats, one and several chunks."""
    yield Case("gcnii", False, "reuse", "fp32", 1, epochs=20)
    yield Case("gcnii", False, "reuse", "fp32", 4, epochs=20)
    for model in models:
        for sparse in (False, True):
            yield Case(model, sparse, "reuse", "fp32", 1)
            yield Case(model, sparse, "reuse", "fp32", 4)
        yield Case(model, False, "reuse", "fp32", 4, 1)
        for rule in list(RULES)[1:]:
            yield Case(model, False, rule, "fp32", 4)
        yield Case(model, False, "reuse", "bf16", 1)
        yield Case(model, False, "reuse", "bf16", 4)


def check(device: torch.device, models: tuple[Model, ...] = MODELS, nodes: int = 900) -> dict[str, Any]:
    """Distances of the device from the CPU; whether recorded graphs and a second run give the same bits."""
    found: dict[str, Any] = {}
    for case in cases(models):
        graph = _graph(case, nodes)
        cpu = train(case, graph, torch.device("cpu"), graphs=False)
        eager = train(case, graph, device, graphs=False)
        limit = FP32 if case.tables == "fp32" else BF16
        off = _off(case, eager, cpu)
        found[case.name] = {"off": off, "agrees": off < limit}
        if device.type == "cuda":
            replay, again = (train(case, graph, device, graphs=True) for _ in range(2))
            found[case.name] |= {
                "graphs give the same bits": _same(replay, eager),
                "the same bits twice": _same(replay, again),
            }
    return found


def train(case: Case, graph: PreparedGraph, device: torch.device, *, graphs: bool) -> Found:
    """Some epochs of gradient descent."""
    rule = RULES[case.rule]
    plan = replace(
        make_plan(1, 1, case.chunks, LAYERS, graph.facts.num_nodes),
        tables=case.tables,
        lookahead=case.lookahead,
        recompute=case.model == "resgcn",
    )
    spec = ModelSpec(
        case.model,
        LAYERS,
        HIDDEN,
        graph.facts.num_features,
        graph.facts.num_classes,
        case.sparse,
        0,
        GcniiConfig(),
    )
    place, links = Place.of_rank(0, 1, 1), Links()
    stage = Stage(
        place, plan, spec, graph, TableSettings.of(rule, plan), DropoutSettings(0.5, 0, 1), device, links
    )
    messages = Messages(place, device, links)
    work = replayed(stage) if graphs else stage
    engine = Engine(stage, plan.schedule.stages[0], messages, Clock(device), work=work)
    orders, losses, gradients = chunk_orders("shuffled", case.chunks, 0), [], []
    for epoch in range(case.epochs):
        if rule.refresh and epoch % rule.refresh == 0:
            refresh(stage, messages, epoch)
        losses.append(engine.run_epoch(epoch, next(orders)).result.loss_sum)
        gradients.append(_descend(stage))
    logits = torch.cat([rows.cpu() for _, rows in sweep(stage, messages)])
    return Found(losses, gradients[0], gradients[-1], logits)


@torch.no_grad()
def _descend(stage: Stage) -> Tensor:
    gradients = []
    for weight in stage.modules.parameters():
        if weight.grad is not None:
            gradients.append(weight.grad.flatten().cpu().clone())  # it is zeroed below
            weight -= RATE * weight.grad
            weight.grad.zero_()
    return torch.cat(gradients)


def _graph(case: Case, nodes: int) -> PreparedGraph:
    data = planted_partition(SyntheticConfig(num_nodes=nodes, num_classes=5, num_features=40))
    if case.sparse:
        data = _sparse(data)
    normalization = "mean" if case.model == "sage" else "gcn"
    return prepare(data, CutSpec(1, case.chunks, 4.0), normalization)


def _sparse(data: Graph) -> Graph:
    import scipy.sparse as sp

    assert isinstance(data.features, Tensor)
    kept = data.features.where(data.features.abs() > data.features.abs().median(), torch.zeros(()))
    return replace(data, features=Csr.from_scipy(sp.csr_matrix(kept.numpy())))


def _off(case: Case, found: Found, wanted: Found) -> float:
    def distance(one: Tensor, other: Tensor) -> float:
        return float((one - other).norm() / other.norm())

    if case.tables == "bf16":
        return max(abs(found.losses[0] / wanted.losses[0] - 1), distance(found.first, wanted.first))
    losses = max(abs(one / other - 1) for one, other in zip(found.losses, wanted.losses, strict=True))
    return max(losses, distance(found.last, wanted.last), distance(found.logits, wanted.logits))


def _same(one: Found, other: Found) -> bool:
    return (
        one.losses == other.losses
        and torch.equal(one.last, other.last)
        and torch.equal(one.logits, other.logits)
    )
