"""Epochs of the engine on one device, on a graph that is made there."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import torch

from benchmarks.gpu.rival import CLASSES, DROPOUT, FEATURES
from gnnpipe.comm.clock import Clock
from gnnpipe.comm.groups import Links
from gnnpipe.comm.place import Place
from gnnpipe.comm.stage_links import Messages
from gnnpipe.config.resolved import StalenessSettings
from gnnpipe.config.run import GcniiConfig, Model, TableFormat
from gnnpipe.engine.engine import Engine
from gnnpipe.engine.masks import DropoutSettings
from gnnpipe.engine.nonfinite import finite_gradients
from gnnpipe.engine.replay import replayed
from gnnpipe.engine.stage import Stage
from gnnpipe.engine.tables import TableSettings
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.cut.chunks import Chunk
from gnnpipe.graph.prepare.prepared import GraphFacts, PreparedGraph
from gnnpipe.nn.models import ModelSpec
from gnnpipe.schedule.plan import make_plan
from gnnpipe.schedule.staleness import chunk_orders


def prepared(matrix: Csr, chunks: int) -> PreparedGraph:
    """Prepare the graph for the engine; its nodes are numbered in blocks already, so that none is moved."""
    nodes = matrix.num_rows
    bounds = [nodes * number // chunks for number in range(chunks + 1)]
    ranges = (tuple(Chunk(a, b) for a, b in pairwise(bounds)),)
    generator = torch.Generator().manual_seed(0)
    host = matrix.to(torch.device("cpu"))
    train = torch.rand(nodes, generator=generator) < 0.6
    none = torch.zeros(0, dtype=torch.int64)
    facts = GraphFacts(
        "made", nodes, matrix.num_entries - nodes, FEATURES, nodes * FEATURES, CLASSES, "multiclass", "whole",
        "metis", 0.0, 1.0, 1.0, [nodes], [0], [0], None, (),
    )  # fmt: skip
    return PreparedGraph(
        facts,
        ranges,
        torch.arange(nodes),
        host,
        host,
        torch.randn(nodes, FEATURES, generator=generator),
        torch.randint(CLASSES, (nodes,), generator=generator),
        {"train": train, "val": ~train, "test": ~train},
        (none,),
        (none,),
        torch.eye(chunks, dtype=torch.int64).repeat(2, 1, 1),
    )


class Ours:
    """Trains; `step` is one epoch, with the trainer's work around the engine.

    Args:
        model: kind of model.
        layers: number of convolutions.
        hidden: width of the rows.
        graph: made by `prepared`.
        device: device to train on.
        tables: format of the tables' rows.
        graphs: whether CUDA graphs are recorded and replayed.
    """

    def __init__(
        self,
        model: Model,
        layers: int,
        hidden: int,
        graph: PreparedGraph,
        device: torch.device,
        tables: TableFormat = "fp32",
        *,
        graphs: bool = True,
    ) -> None:
        nodes, chunks = graph.facts.num_nodes, len(graph.ranges[0])
        plan = replace(make_plan(1, 1, chunks, layers, nodes), tables=tables)
        spec = ModelSpec(model, layers, hidden, FEATURES, CLASSES, False, 0, GcniiConfig())
        rule = StalenessSettings("default", "shuffled", 1, "reuse", 0.7, "dropped", 1, 0, 0)
        links, place = Links(), Place.of_rank(0, 1, 1)
        self.stage = Stage(
            place,
            plan,
            spec,
            graph,
            TableSettings.of(rule, plan),
            DropoutSettings(DROPOUT, 0, 1),
            device,
            links,
        )
        self._engine = Engine(
            self.stage,
            plan.schedule.stages[0],
            Messages(place, device, links),
            Clock(device),
            work=replayed(self.stage) if graphs else self.stage,
        )
        self._orders = chunk_orders("shuffled", chunks, 0)
        self._optimizer = torch.optim.Adam(
            self.stage.modules.parameters(), lr=0.005, fused=device.type == "cuda"
        )
        self._epoch = 0
        self.losses: list[float] = []

    def step(self) -> None:
        self._optimizer.zero_grad(set_to_none=False)
        under_way = self._engine.run_epoch(self._epoch, next(self._orders))
        finite = finite_gradients(self.stage)
        self._optimizer.step()
        self.losses.append(under_way.result.loss_sum / self.stage.loss.divisor)
        if not finite:
            raise FloatingPointError("a gradient is not finite")
        self._epoch += 1
