"""Graphs with next to nothing in them: every plan is made, or refused in a line."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from gnnpipe.config.checks import check_config
from gnnpipe.config.run import RunConfig, StalenessConfig
from gnnpipe.engine.tables import TableSettings
from gnnpipe.errors import GnnpipeError
from gnnpipe.graph.data import Graph
from gnnpipe.nn.models import spec_for
from gnnpipe.planner.predictions import predict
from gnnpipe.run.job import plan_for, prepare_graph
from tests.harness import Case, train


def graph(num_nodes: int, edges: list[list[int]]) -> Graph:
    masks = torch.zeros(3, num_nodes, dtype=torch.bool)
    masks[torch.arange(num_nodes) % 3, torch.arange(num_nodes)] = True
    edge_index = torch.tensor(edges, dtype=torch.int64).reshape(2, -1)
    labels = torch.arange(num_nodes) % 3
    return Graph.from_edge_index(edge_index, torch.ones(num_nodes, 6), labels, tuple(masks), num_classes=3)  # type: ignore[arg-type]


GRAPHS = {
    "no edge": graph(30, [[], []]),
    "three nodes": graph(3, [[], []]),
    "nothing but self loops": graph(12, [list(range(12))] * 2),
    "one edge": graph(9, [[0], [1]]),
}
EXACT = StalenessConfig("exact")
PLANS: list[dict[str, Any]] = [
    {"stages": 2},
    {"stages": 2, "staleness": EXACT},
    {"stages": 2, "chunks": 2, "staleness": EXACT},
    {"stages": 2, "chunks": 3, "staleness": StalenessConfig(lookahead="exact")},
    {"stages": 1, "parts": 2},
    {"stages": 2, "parts": 2, "chunks": 1, "halo": "stale"},
]


@pytest.mark.parametrize("model", ["gcn", "sage", "gcnii", "resgcn"])
@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_of_next_to_nothing_are_prepared_or_refused(name: str, model: Any) -> None:
    data = GRAPHS[name]
    for plan in PLANS:
        config = check_config(RunConfig(model=model, layers=3, hidden=8, **plan))
        try:
            found, spec = plan_for(config, data), spec_for(config, data)
        except GnnpipeError:  # a line for the user
            continue
        prepared = prepare_graph(data, found, spec)
        assert prepared.width <= max(found.lookahead, found.num_chunks - 1)
        predict(found, spec, prepared, TableSettings.of(config.staleness, found, config.halo))


@pytest.mark.parametrize("model", ["gcn", "sage", "gcnii", "resgcn"])
@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_of_next_to_nothing_are_trained_with_lookahead(name: str, model: Any) -> None:
    case = Case(GRAPHS[name], model, layers=2, chunks=3, lookahead=1, dropout=0.0)
    losses = train(case).losses
    assert all(0 < loss < 100 for loss in losses)
