"""Layers whose gradients are pushed: equal to autograd on the whole graph, and every push counts once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gnnpipe.comm.groups import Links
from gnnpipe.config.resolved import StalenessSettings
from gnnpipe.engine import stage as engine_stage
from gnnpipe.engine.layers.push import PushingLayer, check_pushes
from gnnpipe.errors import ConfigError
from gnnpipe.graph.data import Graph
from gnnpipe.nn.blocks.block import BlockLayer
from gnnpipe.nn.blocks.edges import BlockEdges
from gnnpipe.nn.dropout import Dropout, dropout_key
from gnnpipe.nn.layer import Drop, Layer
from gnnpipe.nn.layers.dense import Dense
from gnnpipe.nn.models import LayerSpec
from gnnpipe.schedule.plan import make_plan
from gnnpipe.schedule.staleness import chunk_orders
from tests.engine.test_exact import assert_same_training
from tests.engine.test_parts import merged
from tests.engine.test_staleness import setting
from tests.graphs import random_graph
from tests.harness import LEARNING_RATE, SMALL_TILES, Case, Outcome, make_engine, make_stage, run_ranks, train
from tests.reference import mean_loss

HIDDEN = 8


class EdgeMax(BlockLayer):
    """``h' = own W + max over edges of tanh([x_source, x_own] V)``: not linear, and of another width."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.in_features = self.width = in_features
        self.out_features = out_features
        self.own = nn.Linear(in_features, out_features)
        self.edge = nn.Linear(2 * in_features, out_features)

    def combine(self, referenced: Tensor, own: Tensor, edges: BlockEdges) -> Tensor:
        source, target = edges.edge_index
        rows = torch.tanh(self.edge(torch.cat([referenced[source], own[target]], dim=1)))
        rows = rows * edges.weight.unsqueeze(1)
        most = rows.new_zeros(len(own), self.out_features)
        index = target.unsqueeze(1).expand_as(rows)
        return self.own(own) + most.scatter_reduce(0, index, rows, "amax", include_self=False)


class Softmax(EdgeMax):
    """Attention, with a ReLU at the end and rows that are prepared by weights."""

    relu = True

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        self.width = 5
        self.enter = nn.Linear(in_features, 5)
        self.own, self.edge = nn.Linear(5, out_features), nn.Linear(10, 1)

    def prepare(self, h: Tensor, drop: Drop) -> Tensor:
        return torch.tanh(self.enter(drop(h)))

    def combine(self, referenced: Tensor, own: Tensor, edges: BlockEdges) -> Tensor:
        source, target = edges.edge_index
        score = self.edge(torch.cat([referenced[source], own[target]], dim=1)).exp()
        total = score.new_zeros(len(own), 1).index_add(0, target, score)
        mean = score.new_zeros(own.shape).index_add(0, target, score * referenced[source])
        return F.relu(self.own(own + mean / total.clamp(min=1e-6)))


class Noisy(EdgeMax):
    """Drops entries by PyTorch's generator."""

    draws = True

    def combine(self, referenced: Tensor, own: Tensor, edges: BlockEdges) -> Tensor:
        return F.dropout(super().combine(referenced, own, edges), 0.5)


DATA = random_graph(60, 180)
F_IN, CLASSES = DATA.num_features, DATA.num_classes
STACKS: dict[str, list[Callable[[], Layer]]] = {
    "max": [
        lambda: EdgeMax(F_IN, HIDDEN),
        lambda: EdgeMax(HIDDEN, 6),
        lambda: EdgeMax(6, HIDDEN),
        lambda: EdgeMax(HIDDEN, CLASSES),
    ],
    "mixed": [
        lambda: Dense(F_IN, HIDDEN, torch.Generator().manual_seed(0), relu=True),
        lambda: EdgeMax(HIDDEN, HIDDEN),
        lambda: Softmax(HIDDEN, HIDDEN),
        lambda: EdgeMax(HIDDEN, HIDDEN),
        lambda: Softmax(HIDDEN, HIDDEN),
        lambda: Dense(HIDDEN, CLASSES, torch.Generator().manual_seed(3)),
    ],
    "prepared features": [
        lambda: Softmax(F_IN, HIDDEN),
        lambda: Softmax(HIDDEN, HIDDEN),
        lambda: EdgeMax(HIDDEN, HIDDEN),
        lambda: EdgeMax(HIDDEN, CLASSES),
    ],
}
EXACT = {"chunks": 4, "lookahead": 3, "exact": True}


def stack_of(name: str) -> list[LayerSpec]:
    behind = 1 if name == "mixed" else 0

    def build(number: int, builder: Callable[[], Layer]) -> Callable[[torch.Generator], Layer]:
        def built(generator: torch.Generator) -> Layer:
            torch.manual_seed(number)
            return builder()

        return built

    return [
        LayerSpec(str(number), number, min(max(number - behind, 0), 3), build(number, builder), 0)
        for number, builder in enumerate(STACKS[name])
    ]


def use(monkeypatch: pytest.MonkeyPatch, name: str) -> list[LayerSpec]:
    stack = stack_of(name)
    monkeypatch.setattr(engine_stage, "build_stack", lambda spec: stack)
    return stack


def whole_edges(case: Case) -> BlockEdges:
    """Every edge of the graph, in the numbering that it came in, without the package's cut."""
    one = case.with_(chunks=1, parts=1).graph()
    rowptr, col, value = one.matrix.rowptr.long(), one.matrix.col.long(), one.matrix.value
    target = torch.repeat_interleave(torch.arange(len(rowptr) - 1), rowptr.diff())
    edge_index = torch.stack([one.node_id[col], one.node_id[target]])
    order = torch.argsort(edge_index[1], stable=True)
    sizes = torch.bincount(edge_index[1], minlength=len(rowptr) - 1)
    pointers = torch.cat([torch.zeros(1, dtype=torch.int64), sizes.cumsum(0)])
    nodes = torch.arange(len(rowptr) - 1)
    return BlockEdges(nodes, edge_index[:, order], pointers, value[order], None, None, start=0)


def forward(layers: nn.ModuleDict, case: Case, epoch: int, edges: BlockEdges) -> Tensor:
    assert isinstance(case.data.features, Tensor)
    h, nodes = case.data.features, torch.arange(case.data.num_nodes)
    for number, layer in enumerate(layers.values()):
        drop = Dropout(case.dropout, dropout_key(case.seed, epoch // 2, number), nodes)
        if isinstance(layer, BlockLayer):
            x = layer.prepare(h, drop)
            h = layer.combine(x, x, edges)
        else:
            h = layer.update(None, layer.message(h, drop)[1], None)
    return h


def autograd_epochs(case: Case, stack: list[LayerSpec]) -> Outcome:
    edges = whole_edges(case)
    layers = nn.ModuleDict({item.name: item() for item in stack})
    weights = dict(layers.named_parameters())
    outcome = Outcome([], [], {}, None)
    for epoch in range(case.epochs):
        loss = mean_loss(forward(layers, case, epoch, edges), case.data)
        found = torch.autograd.grad(loss, list(weights.values()))
        outcome.losses.append(float(loss.detach()))
        outcome.gradients.append(dict(zip(weights, found, strict=True)))
        with torch.no_grad():
            for weight, gradient in zip(weights.values(), found, strict=True):
                weight -= LEARNING_RATE * gradient
    with torch.no_grad():
        outcome.logits = forward(layers, case.with_(dropout=0.0), 0, edges)
    return outcome


def case_of(data: Graph = DATA, **changes: Any) -> Case:
    return Case(data, "gcn", 4, HIDDEN, staleness=setting(gradient="reuse")).with_(**changes)


@pytest.mark.parametrize("plan", [{}, EXACT], ids=["one chunk", "exact lookahead"])
@pytest.mark.parametrize("name", STACKS)
def test_one_process(name: str, plan: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    case, stack = case_of(**plan), use(monkeypatch, name)
    ours, reference = train(case), autograd_epochs(case, stack)
    assert_same_training(ours, reference)
    assert ours.logits is not None
    assert ours.node_id is not None
    assert reference.logits is not None
    # the weights themselves come from sums in another order, through several steps
    torch.testing.assert_close(ours.logits, reference.logits[ours.node_id], atol=1e-5, rtol=1e-4)


def train_ranks(rank: int, num_ranks: int, stages: int, chunks: dict[str, Any]) -> list[Outcome]:
    outcomes = []
    for name in STACKS:
        stack = stack_of(name)
        engine_stage.build_stack = lambda spec, stack=stack: stack  # type: ignore[misc]
        outcomes.append(train(case_of(parts=num_ranks // stages, **chunks), stages, rank))
    return outcomes


@pytest.mark.parametrize(("stages", "ranks", "chunks"), [(1, 2, {}), (2, 4, EXACT)])
@pytest.mark.slow
def test_parts(stages: int, ranks: int, chunks: dict[str, Any], tmp_path: Path) -> None:
    """Gradients of halo rows go back to their owners."""
    by_rank = run_ranks(ranks, train_ranks, stages, chunks, folder=tmp_path)
    for index, name in enumerate(STACKS):
        ours = merged([found[index] for found in by_rank], ranks // stages)
        assert_same_training(ours, autograd_epochs(case_of(), stack_of(name)))


@pytest.mark.parametrize("stages", [2, 4])
@pytest.mark.slow
def test_stages_give_the_same_bits(stages: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a layer runs changes nothing, also with stale rows, and rows of any width between stages."""
    by_rank = run_ranks(stages, train_ranks, stages, {"chunks": 3}, folder=tmp_path)
    for index, name in enumerate(STACKS):
        use(monkeypatch, name)
        ours, alone = merged([found[index] for found in by_rank], 1), train(case_of(chunks=3))
        assert ours.losses == alone.losses
        for found, expected in zip(ours.gradients, alone.gradients, strict=True):
            assert found.keys() == expected.keys()
            assert all(torch.equal(found[key], expected[key]) for key in found)


@pytest.mark.slow
def test_parts_with_stale_rows(tmp_path: Path) -> None:
    """Two parts of three chunks, stale rows and all, train as one part of the same chunks does."""
    by_rank = run_ranks(2, stale_ranks, folder=tmp_path)
    ours = merged(by_rank, 2)
    stack = stack_of("max")
    original = engine_stage.build_stack
    engine_stage.build_stack = lambda spec: stack  # type: ignore[misc]
    try:
        graph = case_of(chunks=3, parts=2, epochs=4).graph()
        assert_same_training(ours, stale_epochs(case_of(chunks=3, epochs=4), stack, chunks_of(graph)))
    finally:
        engine_stage.build_stack = original


def stale_ranks(rank: int, num_ranks: int) -> Outcome:
    stack = stack_of("max")
    engine_stage.build_stack = lambda spec: stack  # type: ignore[misc]
    return train(case_of(chunks=3, parts=2, epochs=4), 1, rank)


def chunks_of(graph: Any) -> list[Tensor]:
    """Original ids of the nodes of each chunk."""
    count = len(graph.ranges[0])
    return [
        torch.cat([graph.node_id[ranges[index].start : ranges[index].stop] for ranges in graph.ranges])
        for index in range(count)
    ]


def stale_epochs(case: Case, stack: list[LayerSpec], chunks: list[Tensor]) -> Outcome:
    """The rule of pushes, written down slowly: a list of pushes for each layer and chunk.

    The whole graph stands for a block: rows of other chunks are computed and thrown away.
    """
    data, rule = case.data, case.staleness
    assert isinstance(data.features, Tensor)
    assert isinstance(rule.weight, float)
    assert rule.order is not None
    edges, nodes = whole_edges(case), torch.arange(data.num_nodes)
    layers = [item() for item in stack]
    tables = [torch.zeros(data.num_nodes, layer.width or 0) for layer in layers]
    pending: list[list[list[Tensor]]] = [[[] for _ in chunks] for _ in layers]
    orders = chunk_orders(rule.order, len(chunks), case.seed)
    weights = {f"{item.name}.{n}": w for item, layer in zip(stack, layers, strict=True)
               for n, w in layer.named_parameters()}  # fmt: skip
    outcome = Outcome([], [], {}, None)
    for epoch in range(case.epochs):
        order = next(orders)
        for w in weights.values():
            w.grad = torch.zeros_like(w)
        # w on pushes that are left over
        pending = [[[rule.weight * push for push in pushes] for pushes in of_layer] for of_layer in pending]
        drops = [
            Dropout(case.dropout, dropout_key(case.seed, epoch // 2, n), nodes) for n in range(len(layers))
        ]
        inputs: dict[tuple[int, int], Tensor] = {}
        outs: dict[int, Tensor] = {}
        for c in order:
            h = data.features
            for number, layer in enumerate(layers):
                assert isinstance(layer, BlockLayer)
                inputs[number, c] = h
                with torch.no_grad():
                    tables[number][chunks[c]] = layer.prepare(h, drops[number])[chunks[c]]
                    h = layer.combine(tables[number], tables[number], edges)
            outs[c] = h
        train_rows = data.train_mask.nonzero().squeeze(1)
        loss_sum = torch.zeros(())
        for c in reversed(order):
            mine = train_rows[torch.isin(train_rows, chunks[c])]
            logits = outs[c].clone().requires_grad_()
            loss = F.cross_entropy(logits[mine], data.labels[mine], reduction="sum") / len(train_rows)
            loss_sum = loss_sum + loss.detach()
            (gradient,) = torch.autograd.grad(loss, logits)
            for number in reversed(range(len(layers))):
                layer = layers[number]
                assert isinstance(layer, BlockLayer)
                table = tables[number].clone().requires_grad_()
                out = layer.combine(table, table, edges)
                wanted = torch.zeros_like(out)
                wanted[chunks[c]] = gradient[chunks[c]]
                torch.autograd.backward(out, wanted)
                assert table.grad is not None
                for owner, rows in enumerate(chunks):
                    push = torch.zeros_like(table)
                    push[rows] = table.grad[rows]
                    pending[number][owner].append(push.detach())
                x_gradient = torch.stack(pending[number][c]).sum(0)
                pending[number][c] = []
                h = inputs[number, c].clone().requires_grad_()
                x = layer.prepare(h, drops[number])
                if x.requires_grad:
                    torch.autograd.backward(x, x_gradient)
                gradient = h.grad if h.grad is not None else torch.zeros_like(h)
        outcome.losses.append(float(loss_sum))
        outcome.gradients.append({name: w.grad.clone() for name, w in weights.items() if w.grad is not None})
        with torch.no_grad():
            for w in weights.values():
                if w.grad is not None:
                    w -= LEARNING_RATE * w.grad
    return outcome


@pytest.mark.parametrize("weight", [0.0, 0.7, 1.0])
def test_stale_rows(weight: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each push counts once, this epoch or, times the weight, in the next."""
    case = case_of(chunks=4, epochs=4, staleness=setting(gradient="reuse", weight=weight))
    stack = use(monkeypatch, "max")
    assert_same_training(train(case), stale_epochs(case, stack, chunks_of(case.graph())))


def test_pushes_are_conserved(monkeypatch: pytest.MonkeyPatch) -> None:
    """With weight 1, what was used and what waits is all that was pushed."""
    use(monkeypatch, "max")
    case = case_of(chunks=4, staleness=setting(gradient="reuse", weight=1.0))
    stage = make_stage(case)
    engine, _ = make_engine(case, stage, Links())
    layer = stage.layers[1]
    assert isinstance(layer, PushingLayer)
    assert layer.pushes is not None
    table, pushed, used = layer.pushes.table, [0.0], [0.0]
    add, take = table.add, layer.runner.backward_message

    def counted(start: int, own: Tensor, rows: Tensor, gradient: Tensor, alone: Any) -> None:
        pushed[0] += float(own.double().sum() + gradient.double().sum())
        add(start, own, rows, gradient, alone)

    def taken(saved: Any, x_gradient: Tensor, h_gradient: Tensor) -> None:
        used[0] += float(x_gradient.double().sum())
        take(saved, x_gradient, h_gradient)

    monkeypatch.setattr(table, "add", counted)
    monkeypatch.setattr(layer.runner, "backward_message", taken)
    for epoch in range(3):
        engine.run_epoch(epoch, torch.randperm(4).tolist())
        # sums of a few thousand float32 numbers
        assert pushed[0] == pytest.approx(used[0] + float(table.rows.double().sum()), abs=1e-5)
        assert float(table.rows.abs().sum()) > 0


def test_fresh_pushes_are_unbiased(monkeypatch: pytest.MonkeyPatch) -> None:
    """``fresh`` drops late pushes and doubles the others: the mean over all orders is the exact gradient of
    the layer's input, at fixed rows."""
    from itertools import permutations

    use(monkeypatch, "max")
    case = case_of(chunks=3, dropout=0.0, staleness=setting(gradient="fresh"))
    found = []
    for order in permutations(range(3)):
        stage = make_stage(case)
        engine, _ = make_engine(case, stage, Links())
        for epoch in range(4):  # after as many epochs as layers, rows are those of the weights
            for weight in stage.modules.parameters():
                weight.grad = None
            engine.run_epoch(epoch, list(order))
        found.append(stage.layers[2].module.own.weight.grad.clone())  # type: ignore[union-attr]
    exact = make_stage(case.with_(chunks=1))
    make_engine(case.with_(chunks=1), exact, Links())[0].run_epoch(0, [0])
    # layer 2 gets its gradient through one table, that of the last layer, in which each pair of chunks is
    # fresh in half of all orders
    wanted = exact.layers[2].module.own.weight.grad  # type: ignore[union-attr]
    torch.testing.assert_close(torch.stack(found).mean(0), wanted, atol=1e-5, rtol=1e-4)


def test_random_layers_draw_the_same_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer that drops by itself: forward and backward agree, so that its loss falls as the slope says."""
    layer = Noisy(HIDDEN, HIDDEN)
    monkeypatch.setitem(
        STACKS, "noisy", [lambda: EdgeMax(F_IN, HIDDEN), lambda: layer, *STACKS["max"][2:3], STACKS["max"][3]]
    )
    STACKS["noisy"][2] = lambda: EdgeMax(HIDDEN, HIDDEN)
    use(monkeypatch, "noisy")
    case = case_of(epochs=1, dropout=0.0, tiles=SMALL_TILES)

    def loss_of(shift: float) -> tuple[float, Tensor]:
        stage = make_stage(case)
        weight = stage.layers[0].module.own.weight  # type: ignore[union-attr]
        with torch.no_grad():
            weight[0, 0] += shift
        engine, _ = make_engine(case, stage, Links())
        found = engine.run_epoch(0, [0]).result.loss_sum / stage.loss.divisor
        return found, weight.grad

    step = 1e-2
    slope = (loss_of(step)[0] - loss_of(-step)[0]) / (2 * step)
    # float32 losses of about 1 differ by about 1e-7, over a step of 1e-2; curvature adds as much
    assert float(loss_of(0.0)[1][0, 0]) == pytest.approx(slope, abs=2e-4)


@pytest.mark.parametrize(
    ("staleness", "halo", "words"),
    [
        (setting(gradient="corrected"), "exact", "staleness.gradient: corrected .* pushes .* reuse"),
        (setting(gradient="reuse", weight="fitted"), "exact", "staleness.weight: fitted"),
        (setting(gradient="reuse", order="antithetic"), "exact", "staleness.order: antithetic .* shuffled"),
        (setting(gradient="reuse"), "stale", "halo: stale .* --halo exact"),
    ],
)
def test_refused(staleness: StalenessSettings, halo: Any, words: str) -> None:
    plan = make_plan(1, 1, 4, 4, 60)
    check_pushes([], staleness, plan, halo)
    check_pushes(["conv"], setting(gradient="reuse"), plan, "exact")
    with pytest.raises(ConfigError, match=words):
        check_pushes(["conv"], staleness, plan, halo)
