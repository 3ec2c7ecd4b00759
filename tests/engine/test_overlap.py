"""What happens while boundary rows travel: the picture above `StageLayer`."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from gnnpipe.comm.halo import HaloRoutes, routes
from gnnpipe.comm.place import Place
from gnnpipe.engine.chunks import ChunkData, TileSizes, cut
from gnnpipe.engine.layers.layer import GradientRows, Rows, StageLayer
from gnnpipe.engine.tables import ForwardTable, GradientTable
from gnnpipe.nn.dropout import Dropout
from gnnpipe.nn.layers.convolution import SavedAggregate
from gnnpipe.nn.layers.gcn import GcnLayer
from gnnpipe.nn.runners import runner_of
from tests.graphs import random_graph
from tests.harness import CPU, Case


class Recorder:
    """A boundary that only notes when it is used."""

    def __init__(self, events: list[str]) -> None:
        self.events = events

    def begin_epoch(self) -> None:
        pass

    def post(self, chunk: int) -> None:
        self.events.append("post")

    def wait(self, chunk: int) -> None:
        self.events.append("wait")

    def settle(self) -> None:
        raise AssertionError


@pytest.fixture
@torch.no_grad()
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What one chunk's forward and backward through one layer of part 0 does, in order."""
    case = Case(random_graph(60, 150, undirected=True), "gcn", parts=2)
    graph = case.graph()
    both = HaloRoutes(*(routes(halo, graph.ranges, 0) for halo in (graph.halo_forward, graph.halo_backward)))
    (data,) = cut(graph, Place.of_rank(0, 1, 2), both, CPU, TileSizes(1, 1000), features=False)
    assert len(data.tiles) == 2
    seen: list[str] = []
    layer = _layer(case, data, seen, monkeypatch)
    drops = [Dropout(0.0, 0, tile.node_id) for tile in data.tiles]
    layer.begin_epoch(0)
    done = layer.put(0, data, data.split(torch.randn(data.chunk.num_nodes, case.hidden)), drops, [])
    out = layer.take(0, data, done, None)
    seen.append("|")
    layer.put_back(0, data, done, torch.randn_like(out), None)
    layer.take_back(0, data, done)
    return seen


def _layer(case: Case, data: ChunkData, seen: list[str], monkeypatch: pytest.MonkeyPatch) -> StageLayer:
    runner = runner_of(GcnLayer(case.hidden, case.hidden, torch.Generator().manual_seed(0)), "relu")
    interior = data.tiles[0].rows.stop

    def note(method: str, what: str) -> None:
        original = getattr(runner, method)

        def noted(saved: SavedAggregate, *rest: Any) -> None:
            seen.append(f"{what} {'interior' if len(saved.dropped) == interior else 'border'}")
            original(saved, *rest)

        monkeypatch.setattr(runner, method, noted)

    note("forward_update", "update")
    note("backward_update", "gradient")
    num_rows = data.tiles[0].pull.now.num_cols
    settings = case.table_settings
    rows = Rows(ForwardTable(num_rows, case.hidden, settings, CPU), Recorder(seen))
    gradients = GradientRows(GradientTable(num_rows, case.hidden, settings, CPU), Recorder(seen))
    return StageLayer(None, runner, rows, gradients)  # type: ignore[arg-type]


def test_rows_without_halo_are_computed_while_rows_travel(events: list[str]) -> None:
    forward, backward = " ".join(events).split(" | ")
    assert forward == "post update interior wait update border"
    assert backward == "gradient border post gradient interior wait"
