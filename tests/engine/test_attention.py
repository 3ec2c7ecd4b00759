"""Attention in the engine: equal to torch_geometric's modules on the whole graph."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import GATConv, GATv2Conv

from gnnpipe.engine import stage as engine_stage
from gnnpipe.nn.dropout import Dropout, dropout_key
from gnnpipe.nn.layers.attention.gat import GatLayer
from gnnpipe.nn.layers.attention.gatv2 import Gatv2Layer
from gnnpipe.nn.models import LayerSpec
from tests.engine.test_exact import assert_same_training
from tests.engine.test_parts import merged
from tests.engine.test_push import EXACT, whole_edges
from tests.engine.test_staleness import setting
from tests.graphs import random_graph
from tests.harness import LEARNING_RATE, Case, Outcome, run_ranks, train
from tests.reference import mean_loss

DATA = random_graph(60, 180)
F_IN, CLASSES, HEADS, WIDTH = DATA.num_features, DATA.num_classes, 2, 4
KINDS: dict[str, Any] = {"gat": GatLayer, "gatv2": Gatv2Layer}


def stack_of(kind: str) -> list[LayerSpec]:
    """Four layers; the last one takes the mean of its heads."""
    made = KINDS[kind]
    builders: list[Callable[[torch.Generator], Any]] = [
        lambda g: made(F_IN, HEADS, WIDTH, g),
        lambda g: made(HEADS * WIDTH, HEADS, WIDTH, g, relu=False),
        lambda g: made(HEADS * WIDTH, 1, HEADS * WIDTH, g),
        lambda g: made(HEADS * WIDTH, HEADS, CLASSES, g, concat=False, relu=False),
    ]
    return [LayerSpec(str(n), n, n, build, 0) for n, build in enumerate(builders)]


def with_weights_of(kind: str, layer: Any) -> nn.Module:
    """torch_geometric's module with a layer's weights."""
    made = GATConv if kind == "gat" else GATv2Conv
    conv: nn.Module = made(
        layer.in_features, layer.head_width, layer.heads, concat=layer.concat, add_self_loops=False
    )
    if kind == "gat":
        names = {"lin.weight": layer.weight.t(), "att_src": layer.att_src, "att_dst": layer.att_dst}
    else:
        names = {"lin_l.weight": layer.weight_source.t(), "lin_r.weight": layer.weight_target.t()}
        names |= {"lin_l.bias": layer.bias_source, "lin_r.bias": layer.bias_target, "att": layer.att}
    weights = dict(conv.named_parameters())
    with torch.no_grad():
        for name, value in {**names, "bias": layer.bias}.items():
            weights.pop(name).copy_(value.reshape(dict(conv.named_parameters())[name].shape))
    assert not weights
    return conv


def autograd_epochs(case: Case, kind: str) -> Outcome:
    edges = whole_edges(case).edge_index
    stack, nodes = stack_of(kind), torch.arange(case.data.num_nodes)
    layers = [item() for item in stack]
    convs = nn.ModuleList(with_weights_of(kind, layer) for layer in layers)
    outcome = Outcome([], [], {}, None)
    assert isinstance(case.data.features, Tensor)
    for epoch in range(case.epochs):
        h: Any = case.data.features
        for number, (layer, conv) in enumerate(zip(layers, convs, strict=True)):
            h = conv(Dropout(case.dropout, dropout_key(case.seed, epoch // 2, number), nodes)(h), edges)
            h = F.relu(h) if layer.relu else h
        loss = mean_loss(h, case.data)
        convs.zero_grad()
        loss.backward()
        outcome.losses.append(float(loss.detach()))
        with torch.no_grad():
            for weight in convs.parameters():
                assert weight.grad is not None
                weight -= LEARNING_RATE * weight.grad
    return outcome


def case_of(**changes: Any) -> Case:
    return Case(DATA, "gcn", 4, HEADS * WIDTH, epochs=4, staleness=setting(gradient="reuse")).with_(**changes)


@pytest.mark.parametrize("plan", [{}, EXACT], ids=["one chunk", "exact lookahead"])
@pytest.mark.parametrize("kind", KINDS)
def test_one_process(kind: str, plan: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses of four epochs, the later of which depend on every gradient of the earlier ones."""
    stack = stack_of(kind)
    monkeypatch.setattr(engine_stage, "build_stack", lambda spec: stack)
    ours, reference = train(case_of(**plan)), autograd_epochs(case_of(), kind)
    # an epoch's loss hangs on three steps of float32 gradients, whose sums have another order
    assert ours.losses == pytest.approx(reference.losses, rel=2e-5)


@pytest.mark.parametrize("gradient", ["fresh", "reuse", "corrected"])
@pytest.mark.parametrize("kind", KINDS)
def test_stale_rows_stay_near_exact_ones(kind: str, gradient: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any rule: losses stay near the exact ones at first, and rows that are stale make a difference."""
    stack = stack_of(kind)
    monkeypatch.setattr(engine_stage, "build_stack", lambda spec: stack)
    ours = train(case_of(chunks=4, staleness=setting(gradient=gradient)))
    exact = train(case_of())
    assert ours.losses != exact.losses
    assert ours.losses == pytest.approx(exact.losses, rel=0.5)


def train_ranks(rank: int, num_ranks: int, stages: int, changes: dict[str, Any]) -> list[Outcome]:
    outcomes = []
    for kind in KINDS:
        stack = stack_of(kind)
        engine_stage.build_stack = lambda spec, stack=stack: stack  # type: ignore[misc]
        outcomes.append(train(case_of(parts=num_ranks // stages, **changes), stages, rank))
    return outcomes


@pytest.mark.slow
def test_stages_give_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_rank = run_ranks(4, train_ranks, 4, {"chunks": 3}, folder=tmp_path)
    for index, kind in enumerate(KINDS):
        stack = stack_of(kind)
        monkeypatch.setattr(engine_stage, "build_stack", lambda spec, stack=stack: stack)
        ours, alone = merged([found[index] for found in by_rank], 1), train(case_of(chunks=3))
        assert ours.losses == alone.losses
        for found, expected in zip(ours.gradients, alone.gradients, strict=True):
            assert found.keys() == expected.keys()
            assert all(torch.equal(found[key], expected[key]) for key in found)


@pytest.mark.parametrize(("stages", "ranks", "changes"), [(1, 2, {}), (2, 4, EXACT)])
@pytest.mark.slow
def test_parts(
    stages: int, ranks: int, changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_rank = run_ranks(ranks, train_ranks, stages, changes, folder=tmp_path)
    for index, kind in enumerate(KINDS):
        stack = stack_of(kind)
        monkeypatch.setattr(engine_stage, "build_stack", lambda spec, stack=stack: stack)
        ours = merged([found[index] for found in by_rank], ranks // stages)
        assert_same_training(ours, train(case_of()))
