"""Run stages in tests, in this process or as several ranks."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks import namespaces
from gnnpipe.comm.clock import Clock
from gnnpipe.comm.groups import Links, make_links
from gnnpipe.comm.place import Place
from gnnpipe.comm.stage_links import Messages
from gnnpipe.comm.wire import Wire
from gnnpipe.config.resolved import StalenessSettings
from gnnpipe.config.run import (
    GcniiConfig,
    HaloMode,
    Initial,
    Model,
    TableFormat,
    WireFormat,
)
from gnnpipe.engine.chunks import TileSizes
from gnnpipe.engine.engine import Engine
from gnnpipe.engine.masks import DropoutSettings
from gnnpipe.engine.stage import Stage
from gnnpipe.engine.sweep import refresh, sweep
from gnnpipe.engine.tables import TableSettings
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.cut.chunks import CutSpec
from gnnpipe.graph.data import Graph
from gnnpipe.graph.prepare.prepared import PreparedGraph, prepare
from gnnpipe.nn.models import MODELS, ModelSpec, Options
from gnnpipe.schedule.plan import Plan, make_plan
from gnnpipe.schedule.staleness import chunk_orders

CPU = torch.device("cpu")
NEWEST = StalenessSettings("default", "shuffled", 1, "corrected", 0.7, "dropped", 2, 0, 0)
LEARNING_RATE = 0.1
SMALL_TILES = TileSizes(1, 16)  # so that small graphs have several


@dataclass(frozen=True)
class Case:
    """Graph, model and settings of a training in a test."""

    data: Graph
    model: Model = "gcnii"
    layers: int = 4
    hidden: int = 8
    chunks: int = 1
    dropout: float = 0.5
    staleness: StalenessSettings = NEWEST
    epochs: int = 3
    seed: int = 0
    parts: int = 1
    halo: HaloMode = "exact"
    lookahead: int = 0
    exact: bool = False
    tiles: TileSizes = SMALL_TILES
    initial: Initial = "relay"
    wire: WireFormat = "fp32"
    tables: TableFormat = "fp32"
    recompute: bool = False
    options: Options = field(default_factory=Options)

    @property
    def spec(self) -> ModelSpec:
        sparse = isinstance(self.data.features, Csr)
        return ModelSpec(
            self.model,
            self.layers,
            self.hidden,
            self.data.num_features,
            self.data.num_classes,
            sparse,
            self.seed,
            GcniiConfig(),
            self.options,
            self.data.edge_dim if MODELS[self.model].reads_edges else 0,
        )

    def plan(self, stages: int) -> Plan:
        plan = make_plan(stages, self.parts, self.chunks, self.layers, self.data.num_nodes)
        return replace(
            plan,
            lookahead=self.lookahead,
            exact=self.exact,
            initial=self.initial,
            wire=self.wire,
            tables=self.tables,
            recompute=self.recompute,
        )

    def graph(self) -> PreparedGraph:
        cut, spec = CutSpec(self.parts, self.chunks, 4.0, local=self.exact), self.spec
        return prepare(self.data, cut, spec.normalization, reads_edges=spec.reads_edges)

    @property
    def table_settings(self) -> TableSettings:
        return TableSettings.of(self.staleness, self.plan(1), self.halo)

    def with_(self, **changes: Any) -> Case:
        return replace(self, **changes)


@dataclass
class Outcome:
    """Results of a training on one rank."""

    losses: list[float]
    """The rank's share of the mean loss, by epoch."""
    gradients: list[dict[str, Tensor]]
    """Gradients of the rank's weights by their names, after each epoch."""
    bytes_sent: dict[str, int]
    """Bytes that the rank sent in all epochs, by kind."""
    logits: Tensor | None
    """Exact logits at the end, ``[nodes of the part, classes]``; None on all stages but the last."""
    node_id: Tensor | None = None
    """Original ids of the rows of ``logits``."""


def make_stage(
    case: Case,
    stages: int = 1,
    rank: int = 0,
    graph: PreparedGraph | None = None,
    links: Links | None = None,
    *,
    trains: bool = True,
) -> Stage:
    graph = graph or case.graph()
    hold = case.staleness.dropout_hold
    assert hold is not None
    return Stage(
        Place.of_rank(rank, stages, case.parts),
        case.plan(stages),
        case.spec,
        graph,
        case.table_settings,
        DropoutSettings(case.dropout, case.seed, hold),
        CPU,
        links or Links(),
        case.tiles if graph.facts.num_nodes < 5000 else TileSizes.on(CPU),
        trains=trains,
    )


def make_engine(case: Case, stage: Stage, links: Links) -> tuple[Engine, Messages]:
    messages = Messages(stage.place, CPU, links)
    schedule = case.plan(stage.place.num_stages).schedule.stages[stage.place.stage]
    return Engine(stage, schedule, messages, Clock(CPU), Wire(case.wire)), messages


def train(
    case: Case,
    stages: int = 1,
    rank: int = 0,
    graph: PreparedGraph | None = None,
    *,
    through_host: bool = False,
    in_step: bool = False,
) -> Outcome:
    """Train with plain gradient descent on one rank. The loss is a mean over training nodes, as in a run."""
    several = stages * case.parts > 1
    limit = timedelta(seconds=60)
    links = make_links(CPU, stages, case.parts, limit, through_host=through_host) if several else Links()
    links.carrier.in_step = in_step
    stage = make_stage(case, stages, rank, graph, links)
    engine, messages = make_engine(case, stage, links)
    assert case.staleness.order is not None
    orders = chunk_orders("fixed" if case.exact else case.staleness.order, case.chunks, case.seed)
    outcome = Outcome([], [], {}, None)
    for epoch in range(case.epochs):
        if case.staleness.refresh and epoch % case.staleness.refresh == 0:
            refresh(stage, messages, epoch)
        result = engine.run_epoch(epoch, next(orders)).result
        outcome.losses.append(result.loss_sum / stage.loss.divisor)
        outcome.gradients.append(gradients(stage))
        descend(stage)
    outcome.bytes_sent = links.take_bytes()
    found = [(data.node_id, logits) for data, logits in sweep(stage, messages)]
    if found:
        outcome.node_id = torch.cat([ids for ids, _ in found])
        outcome.logits = torch.cat([logits for _, logits in found])
    return outcome


def gradients(stage: Stage) -> dict[str, Tensor]:
    return {
        f"{layer.spec.name}.{name}": weight.grad.clone()
        for layer in stage.held_layers
        for name, weight in layer.module.named_parameters()
        if weight.grad is not None
    }


@torch.no_grad()
def descend(stage: Stage) -> None:
    for weight in stage.modules.parameters():
        if weight.grad is not None:
            weight -= LEARNING_RATE * weight.grad
            weight.grad = None


def run_ranks(num_ranks: int, function: Callable[..., Any], *arguments: Any, folder: Path) -> list[Any]:
    """Run ``function(rank, num_ranks, *arguments)`` in processes joined by gloo; return the results by rank.

    Args:
        num_ranks: number of processes.
        function: picklable, as its result.
        arguments: passed to it after the rank and the number of ranks.
        folder: an empty folder for rendezvous, results and failures.

    Raises:
        AssertionError: a rank failed, or still ran after 120 s. The message has the traceback of the first
            failure; the other ranks then fail too, because connections close.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "torch.distributed", "tests.harness"])
    ranks = [
        context.Process(target=_rank, args=(rank, num_ranks, str(folder), function, arguments))
        for rank in range(num_ranks)
    ]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(timeout=120)
    alive = [process for process in ranks if process.is_alive()]
    for process in alive:
        process.kill()
        process.join()
    failures = sorted(folder.glob("failure-*"))
    if failures:
        first = min((pickle.loads(path.read_bytes()) for path in failures), key=lambda failure: failure[0])
        raise AssertionError(f"rank {first[1]} failed first:\n{first[2]}")
    assert not alive, f"{len(alive)} ranks were still running after 120 s"
    assert [process.exitcode for process in ranks] == [0] * num_ranks
    return [pickle.loads((folder / f"result-{rank}").read_bytes()) for rank in range(num_ranks)]


def _rank(rank: int, num_ranks: int, folder: str, function: Callable[..., Any], arguments: Any) -> None:
    from datetime import timedelta

    import torch.distributed as dist

    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    try:
        store = dist.FileStore(str(Path(folder) / "store"), num_ranks)
        dist.init_process_group(
            "gloo", store=store, rank=rank, world_size=num_ranks, timeout=timedelta(seconds=60)
        )
        result = function(rank, num_ranks, *arguments)
        (Path(folder) / f"result-{rank}").write_bytes(pickle.dumps(result))
        dist.destroy_process_group()
    except BaseException:
        failure = pickle.dumps((time.monotonic(), rank, traceback.format_exc()))
        (Path(folder) / f"failure-{rank}").write_bytes(failure)
        raise SystemExit(1) from None


@contextmanager
def hosts_or_skip(number: int) -> Iterator[list[str]]:
    """Hosts made of network namespaces. Skips the test where there is no right to make them."""
    try:
        with namespaces.hosts(number) as names:
            yield names
    except namespaces.NotPossibleError as error:
        pytest.skip(f"network namespaces can't be made here: {error}")
