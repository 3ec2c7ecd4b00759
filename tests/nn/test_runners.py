"""A layer that has nothing but a message and an update trains as autograd would have it, wherever it runs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gnnpipe.config.run import Model
from gnnpipe.engine import stage as engine_stage
from gnnpipe.engine.layers import builder as layer_builder
from gnnpipe.errors import ConfigError
from gnnpipe.graph.data import Graph
from gnnpipe.nn.autograd import Autograd
from gnnpipe.nn.dropout import Dropout, dropout_key
from gnnpipe.nn.layer import Drop, Layer
from gnnpipe.nn.layers.attention.gat import GatLayer
from gnnpipe.nn.layers.dense import Dense
from gnnpipe.nn.layers.gcn import GcnAggregateFirst, GcnLayer
from gnnpipe.nn.layers.gcnii import GcniiLayer
from gnnpipe.nn.layers.resgcn import ResGcnLayer
from gnnpipe.nn.layers.sage import SageLayer
from gnnpipe.nn.layers.wrappers.extras import Extras
from gnnpipe.nn.models import LayerSpec
from gnnpipe.nn.runners import input_rows, runner_of
from tests.engine.test_exact import MODELS, assert_same_training
from tests.engine.test_parts import merged
from tests.graphs import random_graph
from tests.harness import LEARNING_RATE, Case, Outcome, run_ranks, train
from tests.reference import dense_adjacency, mean_loss

HIDDEN = 8


class Gin(Layer):
    """``h' = ReLU((x + A x) W_1 + b_1) W_2 + b_2``, ``x = dropout(h)``."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.in_features = self.width = in_features
        self.out_features = out_features
        self.first, self.second = nn.Linear(in_features, HIDDEN), nn.Linear(HIDDEN, out_features)

    def message(self, h: Tensor, drop: Drop) -> tuple[Tensor, Tensor]:
        rows = drop(h)
        return rows, rows

    def update(self, z: Tensor, carry: Tensor, h0: object) -> Tensor:
        return self.second(F.relu(self.first(carry + z)))


class Residual(Layer):
    """``h' = tanh(A (dropout(h) W)) + h0 * scale``; nothing is carried over."""

    def __init__(self) -> None:
        super().__init__()
        self.in_features = self.width = self.out_features = HIDDEN
        self.linear = nn.Linear(HIDDEN, HIDDEN)
        self.scale = nn.Parameter(torch.rand(HIDDEN))

    def message(self, h: Tensor, drop: Drop) -> tuple[Tensor, None]:
        return self.linear(drop(h)), None

    def update(self, z: Tensor, carry: None, h0: Tensor) -> Tensor:
        return torch.tanh(z) + h0 * self.scale


class RectifiedGin(Gin):
    """Says that it ends in a ReLU, so that the layer behind may be written out."""

    relu = True

    def update(self, z: Tensor, carry: Tensor, h0: object) -> Tensor:
        return F.relu(super().update(z, carry, h0))


def gcn(in_features: int, out_features: int, **options: bool) -> GcnLayer:
    return GcnLayer(in_features, out_features, torch.Generator().manual_seed(1), **options)


def stack_of(data: Graph, name: str) -> list[LayerSpec]:
    """Four convolutions; with initial rows, dense layers at the ends too."""
    F_in, classes = data.num_features, data.num_classes
    stacks: dict[str, Sequence[Callable[[], Layer]]] = {
        "gin": [
            lambda: Gin(F_in, HIDDEN),
            lambda: Gin(HIDDEN, HIDDEN),
            lambda: Gin(HIDDEN, HIDDEN),
            lambda: Gin(HIDDEN, classes),
        ],
        "initial rows": [
            lambda: Dense(F_in, HIDDEN, torch.Generator().manual_seed(0), relu=True),
            Residual,
            lambda: Gin(HIDDEN, HIDDEN),  # has no use for initial rows
            lambda: GcniiLayer(HIDDEN, 3, 0.1, 0.5, torch.Generator().manual_seed(2)),
            Residual,
            lambda: Dense(HIDDEN, classes, torch.Generator().manual_seed(3)),
        ],
        # layers whose derivative is written out, in front of and behind others
        "mixed": [
            lambda: gcn(F_in, HIDDEN),
            lambda: RectifiedGin(HIDDEN, HIDDEN),
            lambda: gcn(HIDDEN, HIDDEN),
            lambda: Gin(HIDDEN, classes),
        ],
        "no ReLU in front": [
            lambda: Gin(F_in, HIDDEN),
            lambda: gcn(HIDDEN, HIDDEN),
            lambda: ResGcnLayer(HIDDEN, torch.Generator().manual_seed(1)),
            lambda: gcn(HIDDEN, classes, relu=False),
        ],
    }
    builders = stacks[name]
    behind = 1 if name == "initial rows" else 0

    def build(number: int, builder: Callable[[], Layer]) -> Callable[[torch.Generator], Layer]:
        def built(generator: torch.Generator) -> Layer:
            torch.manual_seed(number)
            return builder()

        return built

    return [
        LayerSpec(str(number), number, min(max(number - behind, 0), 3), build(number, builder), 0)
        for number, builder in enumerate(builders)
    ]


def case_of(data: Graph, name: str, **changes: Any) -> Case:
    model: Model = "gcnii" if name == "initial rows" else "gcn"
    return Case(data, model, 4, HIDDEN).with_(**changes)


def autograd_epochs(case: Case, stack: list[LayerSpec]) -> Outcome:
    """Full-graph training of the layers as they are written, with plain autograd."""
    assert isinstance(case.data.features, Tensor)
    A, nodes = dense_adjacency(case.data, case.model), torch.arange(case.data.num_nodes)
    layers = nn.ModuleDict({item.name: item() for item in stack})
    weights = dict(layers.named_parameters())
    outcome = Outcome([], [], {}, None)
    for epoch in range(case.epochs):
        h, h0 = case.data.features, None
        for number, layer in enumerate(layers.values()):
            key = dropout_key(case.seed, epoch // 2, number)
            x, carry = layer.message(h, Dropout(case.dropout, key, nodes))
            h = layer.update(None if x is None else A @ x, carry, h0)
            h0 = h if h0 is None and case.model == "gcnii" else h0
        loss = mean_loss(h, case.data)
        found = torch.autograd.grad(loss, list(weights.values()))
        outcome.losses.append(float(loss.detach()))
        outcome.gradients.append(dict(zip(weights, found, strict=True)))
        with torch.no_grad():
            for weight, gradient in zip(weights.values(), found, strict=True):
                weight -= LEARNING_RATE * gradient
    return outcome


DATA = random_graph(60, 150)
STACKS = ["gin", "initial rows", "mixed", "no ReLU in front"]
# with chunks, a lookahead over all of them: no row is stale, so that autograd is the reference
PLANS: dict[str, dict[str, Any]] = {
    "one chunk": {},
    "chunks": {"chunks": 4, "lookahead": 3, "exact": True},
    "recomputed": {"chunks": 4, "lookahead": 3, "exact": True, "recompute": True},
}


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("name", STACKS)
def test_one_process(name: str, plan: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case, stack = case_of(DATA, name, **PLANS[plan]), stack_of(DATA, name)
    monkeypatch.setattr(engine_stage, "build_stack", lambda spec: stack)
    assert_same_training(train(case), autograd_epochs(case, stack))


class OwnSum(Gin):
    """Aggregates in a way of its own, and says nothing of a derivative."""

    def aggregate(self, edges: Any, table: Tensor, carry: Tensor) -> Tensor:
        return 2.0 * super().aggregate(edges, table, carry)


class OwnGat(GatLayer):
    """May compute something else than the layer whose derivative is written out."""


@pytest.mark.parametrize(
    "layer", [OwnSum(4, 4), OwnGat(4, 2, 2, torch.Generator())], ids=["overridden", "derived"]
)
def test_an_aggregation_without_a_derivative_is_refused(layer: Layer) -> None:
    """Autograd would differentiate a linear aggregation in its place."""
    with pytest.raises(ConfigError, match=r"aggregates in a way of its own.*BlockLayer, and write combine"):
        runner_of(layer, "any")


def train_ranks(rank: int, num_ranks: int) -> list[Outcome]:
    outcomes = []
    for name in STACKS:
        stack = stack_of(DATA, name)
        engine_stage.build_stack = lambda spec, stack=stack: stack  # type: ignore[misc]
        outcomes.append(train(case_of(DATA, name, parts=2, **PLANS["recomputed"]), num_ranks // 2, rank))
    return outcomes


@pytest.mark.slow
def test_stages_parts_chunks_and_lookahead(tmp_path: Path) -> None:
    by_rank = run_ranks(4, train_ranks, folder=tmp_path)
    for index, name in enumerate(STACKS):
        ours = merged([found[index] for found in by_rank], 2)
        assert_same_training(ours, autograd_epochs(case_of(DATA, name), stack_of(DATA, name)))


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("model", MODELS)
def test_how_a_layer_runs_changes_nothing(
    model: Model, recompute: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stale rows and all: the models' own layers through autograd."""
    case = Case(random_graph(60, 240), model, chunks=4, recompute=recompute)
    written_out = train(case)
    monkeypatch.setattr(layer_builder, "runner_of", Autograd)
    assert_same_training(train(case), written_out)


def test_a_derivative_is_that_of_its_layer_and_no_other() -> None:
    class Other(GcnLayer):
        pass

    generator = torch.Generator().manual_seed(0)
    assert isinstance(runner_of(gcn(HIDDEN, HIDDEN), "relu"), GcnAggregateFirst)
    assert isinstance(runner_of(Other(HIDDEN, HIDDEN, generator), "relu"), Autograd)


def test_derivatives_that_read_a_relu_off_the_rows_run_behind_one_only() -> None:
    generator = torch.Generator().manual_seed(0)
    layers = [
        gcn(HIDDEN, HIDDEN),
        gcn(HIDDEN, 3),
        GcniiLayer(HIDDEN, 1, 0.1, 0.5, generator),
        Dense(HIDDEN, 3, generator),
    ]
    for layer in layers:
        assert not isinstance(runner_of(layer, "relu"), Autograd)
        assert isinstance(runner_of(layer, "any"), Autograd)
    assert isinstance(runner_of(ResGcnLayer(HIDDEN, generator), "relu"), Autograd)


def test_input_rows_follow_from_the_layer_in_front() -> None:
    stack = stack_of(DATA, "mixed")
    assert [input_rows(stack, number) for number in range(4)] == ["features", "relu", "relu", "relu"]
    stack = stack_of(DATA, "gin")
    assert [input_rows(stack, number) for number in range(2)] == ["features", "any"]


def test_weights_at_hand_are_those_of_the_module() -> None:
    layer = SageLayer(4, 4, extras=Extras("layer"))
    names = list(layer.state_dict())
    runner = runner_of(layer, "relu")
    runner.make_room()
    assert vars(layer)["weight_self"] is layer.weight_self
    assert vars(layer)["norm"] is layer.norm
    assert list(layer.state_dict()) == names
    layer.weight_self = nn.Parameter(torch.ones(4, 4))
    assert torch.equal(layer.weight_self, torch.ones(4, 4))
    assert torch.equal(layer.state_dict()["weight_self"], torch.ones(4, 4))
    copied = copy.deepcopy(layer)
    copied.load_state_dict({name: torch.zeros_like(weight) for name, weight in layer.state_dict().items()})
    assert not copied.weight_self.any()
    assert layer.weight_self.all()
