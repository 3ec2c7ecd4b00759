"""Convolutions of torch_geometric in the engine: equal to the plain modules on the whole graph."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import SAGEConv

from gnnpipe.engine import stage as engine_stage
from gnnpipe.graph.cut.chunks import CutSpec
from gnnpipe.graph.data import Graph
from gnnpipe.graph.prepare.normalize import Normalization
from gnnpipe.graph.prepare.prepared import PreparedGraph, prepare
from gnnpipe.graph.splits import random_split
from gnnpipe.nn.conv import Conv
from gnnpipe.nn.dropout import Dropout, dropout_key
from gnnpipe.nn.layer import Layer
from gnnpipe.nn.models import LayerSpec
from tests.engine.test_exact import assert_same_training
from tests.engine.test_parts import merged
from tests.engine.test_push import EXACT
from tests.engine.test_staleness import setting
from tests.harness import LEARNING_RATE, Case, Outcome, run_ranks, train
from tests.nn.conv.accepted import ACCEPTED, EDGE_DIM, NUM_TYPES, ROWS
from tests.reference import mean_loss

F_IN, CLASSES = 5, 3
# Attention and norms add a few more roundings than the models of the package.
SLACK = 5.0
FEW = ["GAT", "GCN", "GINE", "RGCN"]


def made_graph(num_nodes: int = 60, num_edges: int = 180) -> Graph:
    """A graph whose edges have weights, features and types; there are self loops and parallel edges."""
    g = torch.Generator().manual_seed(0)
    edge_index = torch.randint(num_nodes, (2, num_edges), generator=g)
    edge_index[:, :10] = edge_index[:, 10:20]
    return Graph.from_edge_index(
        edge_index,
        torch.randn(num_nodes, F_IN, generator=g),
        torch.randint(CLASSES, (num_nodes,), generator=g),
        random_split(num_nodes, seed=0),
        num_classes=CLASSES,
        weight=torch.rand(num_edges, generator=g) + 0.1,
        edge_attr=torch.rand(num_edges, EDGE_DIM, generator=g),
        edge_type=torch.randint(NUM_TYPES, (num_edges,), generator=g),
    )


DATA = made_graph()


@dataclass(frozen=True)
class ConvCase(Case):
    """A case with another adjacency than its model's."""

    edges: Normalization = "none"

    def graph(self) -> PreparedGraph:
        return prepare(self.data, CutSpec(self.parts, self.chunks, 4.0), self.edges)


def case_of(name: str, **changes: Any) -> ConvCase:
    case = ConvCase(DATA, "gcn", 4, ROWS, staleness=setting(gradient="reuse"), edges=ACCEPTED[name].edges)
    return case.with_(**changes)  # type: ignore[return-value]


def stack_of(name: str) -> list[LayerSpec]:
    """The convolution between others, with all that may be around it."""
    accepted = ACCEPTED[name]

    def middle() -> Conv:
        return Conv(
            accepted.make(), norm="layer", act=F.relu, skip="linear", edges=accepted.edges, in_features=ROWS
        )

    torch.manual_seed(0)
    width = middle().out_features
    builders: list[Callable[[], Layer]] = [
        lambda: Conv(SAGEConv(F_IN, ROWS), act=nn.ReLU()),
        middle,
        lambda: Conv(SAGEConv(width, ROWS), skip=True),
        lambda: Conv(SAGEConv(ROWS, CLASSES, "max")),
    ]

    def build(number: int) -> Callable[[torch.Generator], Layer]:
        def built(generator: torch.Generator) -> Layer:
            torch.manual_seed(number)
            return builders[number]()

        return built

    return [LayerSpec(str(number), number, number, build(number), 0) for number in range(4)]


def autograd_epochs(case: Case, stack: list[LayerSpec]) -> Outcome:
    """Full-graph training of the convolutions that the layers hold, by plain autograd."""
    graph = case.with_(chunks=1, parts=1).graph()
    source, sizes = graph.node_id[graph.matrix.col.long()], graph.matrix.rowptr.long().diff()
    edge_index = torch.stack([source, torch.repeat_interleave(graph.node_id, sizes)])
    order = torch.argsort(edge_index[1], stable=True)
    extras = {"edge_weight": graph.matrix.value, "edge_attr": graph.edge_attr, "edge_type": graph.edge_type}
    layers = nn.ModuleDict({item.name: copy.deepcopy(item()) for item in stack})
    weights = {name: weight for name, weight in layers.named_parameters() if weight.requires_grad}
    outcome, nodes = Outcome([], [], {}, None), torch.arange(case.data.num_nodes)
    assert isinstance(case.data.features, Tensor)
    for epoch in range(case.epochs):
        h = case.data.features
        for number, layer in enumerate(layers.values()):
            x = Dropout(case.dropout, dropout_key(case.seed, epoch // 2, number), nodes)(h)
            takes = layer._call.takes
            given = {key: v[order] for key, v in extras.items() if key in takes and v is not None}
            h = layer.conv(x, edge_index[:, order], **given)
            h = h if layer.skip is None else h + layer.skip(x)
            h = h if layer.norm is None else layer.norm(h)
            h = torch.relu(h) if layer.relu else h
        loss = mean_loss(h, case.data)
        found = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
        outcome.losses.append(float(loss.detach()))
        outcome.gradients.append(
            {
                name: torch.zeros_like(w) if g is None else g
                for (name, w), g in zip(weights.items(), found, strict=True)
            }
        )
        with torch.no_grad():
            for name, weight in weights.items():
                weight -= LEARNING_RATE * outcome.gradients[-1][name]
    return outcome


def check(ours: Outcome, name: str) -> None:
    case, stack = case_of(name), stack_of(name)
    learns = {f"{item.name}.{n}" for item in stack for n, w in item().named_parameters() if w.requires_grad}
    ours.gradients = [{key: g for key, g in found.items() if key in learns} for found in ours.gradients]
    assert_same_training(ours, autograd_epochs(case, stack), SLACK)


def check_in_one_process(name: str, plan: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    stack = stack_of(name)
    monkeypatch.setattr(engine_stage, "build_stack", lambda spec: stack)
    check(train(case_of(name, **plan)), name)


@pytest.mark.parametrize("plan", [{}, EXACT], ids=["one chunk", "exact lookahead"])
@pytest.mark.parametrize("name", FEW)
def test_one_process(name: str, plan: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    check_in_one_process(name, plan, monkeypatch)


@pytest.mark.parametrize("plan", [{}, EXACT], ids=["one chunk", "exact lookahead"])
@pytest.mark.parametrize("name", sorted({*ACCEPTED} - {*FEW}))
@pytest.mark.slow
def test_the_others(name: str, plan: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    check_in_one_process(name, plan, monkeypatch)


def train_ranks(rank: int, num_ranks: int, stages: int, plan: dict[str, Any]) -> list[Outcome]:
    outcomes = []
    for name in FEW:
        stack = stack_of(name)
        engine_stage.build_stack = lambda spec, stack=stack: stack  # type: ignore[misc]
        outcomes.append(train(case_of(name, parts=num_ranks // stages, **plan), stages, rank))
    return outcomes


@pytest.mark.parametrize(("stages", "ranks", "plan"), [(1, 2, {}), (2, 4, EXACT)])
@pytest.mark.slow
def test_parts(stages: int, ranks: int, plan: dict[str, Any], tmp_path: Path) -> None:
    by_rank = run_ranks(ranks, train_ranks, stages, plan, folder=tmp_path)
    for index, name in enumerate(FEW):
        check(merged([found[index] for found in by_rank], ranks // stages), name)


@pytest.mark.parametrize("stages", [2, 4])
@pytest.mark.slow
def test_stages_give_the_same_bits(stages: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a convolution runs changes nothing, also with stale rows."""
    by_rank = run_ranks(stages, train_ranks, stages, {"chunks": 3}, folder=tmp_path)
    for index, name in enumerate(FEW):
        stack = stack_of(name)
        monkeypatch.setattr(engine_stage, "build_stack", lambda spec, stack=stack: stack)
        ours, alone = merged([found[index] for found in by_rank], 1), train(case_of(name, chunks=3))
        assert ours.losses == alone.losses
        for found, expected in zip(ours.gradients, alone.gradients, strict=True):
            assert found.keys() == expected.keys()
            assert all(torch.equal(found[key], expected[key]) for key in found)
