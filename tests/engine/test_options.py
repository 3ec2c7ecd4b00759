"""Every model with norm, residual and jumping knowledge trains as torch_geometric's modules do, under every
plan that has no stale row."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import Tensor

from gnnpipe.config.run import Model
from gnnpipe.graph.data import Graph
from gnnpipe.nn.models import Options, build_stack
from tests import pyg_models
from tests.engine.test_parts import merged
from tests.engine.test_pyg import graph_of, many_edges
from tests.graphs import random_graph
from tests.harness import LEARNING_RATE, Case, Outcome, run_ranks, train
from tests.pyg import leaves, pyg_loss

MODELS: tuple[Model, ...] = get_args(Model)
OPTIONS = {
    "own": Options(),
    "batch, linear": Options("batch", "linear"),
    "batch, identity": Options("batch", "identity"),
    "layer, identity, sum": Options("layer", "identity", "sum"),
    "batch, linear, max": Options("batch", "linear", "max"),
    "none": Options("none", "none", "sum"),
}
# Float32 sums of this many terms through three layers, some of which are divided by small deviations: entries
# agree to this share of the largest one.
TOLERANCE = 2e-4


def with_edge_attr(num_nodes: int) -> tuple[Graph, Tensor, Tensor]:
    edges = many_edges(num_nodes, undirected=False)
    # torch_geometric's attention gives loops other features, the mean of those of the node's edges
    edges = edges[:, edges[0] != edges[1]]
    attr = torch.randn(edges.shape[1], 5, generator=torch.Generator().manual_seed(2))
    plain = random_graph(num_nodes, 0)
    assert isinstance(plain.features, Tensor)
    masks = (plain.train_mask, plain.val_mask, plain.test_mask)
    data = Graph.from_edge_index(edges, plain.features, plain.labels, masks, num_classes=3, edge_attr=attr)
    return data, edges, attr


def of_pyg(case: Case, edges: Tensor, attr: Tensor | None = None) -> Outcome:
    """Losses and gradients of full-graph training."""
    assert isinstance(case.data.features, Tensor)
    spec, outcome = case.spec, Outcome([], [], {}, None)
    w = leaves(
        {f"{item.name}.{key}": p for item in build_stack(spec) for key, p in item().named_parameters()}
    )
    for _ in range(case.epochs):
        logits = pyg_models.logits(spec, w, case.data.features, edges, attr)
        loss = pyg_loss(logits, case.data.labels, case.data.train_mask)
        found = torch.autograd.grad(loss, list(w.values()))
        outcome.losses.append(float(loss.detach()))
        outcome.gradients.append(dict(zip(w, found, strict=True)))
        with torch.no_grad():
            for weight, gradient in zip(w.values(), found, strict=True):
                weight -= LEARNING_RATE * gradient
    return outcome


def assert_same(ours: Outcome, expected: Outcome) -> None:
    # losses of the second epoch hang on a step by gradients of the first, whose sums have another order
    torch.testing.assert_close(ours.losses, expected.losses, rtol=1e-4, atol=1e-5)
    for found, wanted in zip(ours.gradients, expected.gradients, strict=True):
        assert found.keys() == wanted.keys()
        largest = max(float(gradient.abs().max()) for gradient in wanted.values())
        for name, gradient in found.items():
            of_this = float(wanted[name].abs().max())
            # a bias in front of a norm has the gradient 0, of which rounding leaves a little
            least = max(of_this, 1e-2 * largest)
            assert float((gradient - wanted[name]).abs().max()) < TOLERANCE * least, name


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("options", OPTIONS)
def test_equals_torch_geometric(model: Model, options: str) -> None:
    edges = many_edges(60, undirected=False)
    case = Case(graph_of(edges, 60), model, 3, dropout=0.0, epochs=2, options=OPTIONS[options])
    assert_same(train(case), of_pyg(case, edges))


@pytest.mark.parametrize("model", ["gat", "gatv2", "gen", "mesh"])
@pytest.mark.parametrize("options", ["own", "batch, linear", "none"])
def test_features_of_edges(model: Model, options: str) -> None:
    data, edges, attr = with_edge_attr(60)
    case = Case(data, model, 3, dropout=0.0, epochs=2, options=OPTIONS[options])
    assert case.spec.edge_dim == 5
    assert_same(train(case), of_pyg(case, edges, attr))


LAYER = ["own", "layer, identity, sum", "none"]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("options", LAYER)
def test_a_lookahead_over_all_chunks_is_exact(model: Model, options: str) -> None:
    # with seed 0 the second epoch of GENConv makes 1e-3 of the rounding of the first one's gradients
    case = Case(random_graph(60, 200, seed=1), model, 3, epochs=2, options=OPTIONS[options])
    assert_same(train(case.with_(chunks=3, lookahead=2, exact=True)), train(case))


PLANS = [(model, name) for model in MODELS for name in ("batch, linear", "batch, linear, max")]
# With last epoch's statistics all 8 columns of a row may end below 0, and GENConv's message norm divides by
# the length of what is left, 1e-7: its numbers run away here, on which no comparison can be built.
CHUNKED = [(model, name) for model, name in PLANS if model != "gen"]


def cases_of(parts: int, chunks: int) -> list[Case]:
    case = Case(random_graph(60, 200), layers=3, epochs=3, parts=parts, chunks=chunks)
    plans = PLANS if chunks == 1 else CHUNKED
    return [case.with_(model=model, options=OPTIONS[name]) for model, name in plans]


def of_plans(rank: int, num_ranks: int, parts: int, chunks: int) -> list[Outcome]:
    return [train(case, num_ranks // parts, rank) for case in cases_of(parts, chunks)]


@pytest.mark.slow
def test_parts_change_nothing(tmp_path: Path) -> None:
    """Batch norm with one chunk: statistics, and gradients through them, are summed over the parts."""
    by_rank = run_ranks(2, of_plans, 2, 1, folder=tmp_path)
    for index, case in enumerate(cases_of(1, 1)):
        assert_same(merged([found[index] for found in by_rank], 2), train(case))


@pytest.mark.slow
def test_stages_change_no_bit(tmp_path: Path) -> None:
    by_rank = run_ranks(3, of_plans, 1, 3, folder=tmp_path)
    for index, case in enumerate(cases_of(1, 3)):
        alone, ours = train(case), merged([found[index] for found in by_rank], 1)
        assert ours.losses == alone.losses
        for found, wanted in zip(ours.gradients, alone.gradients, strict=True):
            assert all(torch.equal(found[key], wanted[key]) for key in wanted), case
        assert alone.logits is not None
        assert alone.node_id is not None
        assert torch.equal(ours.logits, alone.logits[torch.argsort(alone.node_id)])
