"""Every model equals the same one of torch_geometric's own layers: outputs and gradients."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from gnnpipe.config.run import Model
from gnnpipe.graph.data import Graph
from gnnpipe.nn.models import build_stack
from tests.engine.test_exact import MODELS
from tests.engine.test_lookahead import local_case
from tests.engine.test_parts import merged
from tests.graphs import random_graph, weighted_graph
from tests.harness import Case, Outcome, run_ranks, train
from tests.pyg import leaves, pyg_logits, pyg_loss

# 0 -> 1 <-> 2, 3 -> 2, 2 -> 4; 5 has nothing but itself, 6 nothing at all; 1 has a self loop too
DIRECTED = torch.tensor([[0, 1, 2, 3, 2, 5, 1], [1, 2, 1, 2, 4, 5, 1]])
UNDIRECTED = torch.tensor([[0, 1, 1, 2, 2, 3, 5, 1, 3, 0], [1, 0, 2, 1, 3, 2, 5, 1, 0, 3]])
EDGES = {"directed": DIRECTED, "undirected": UNDIRECTED}


def graph_of(edge_index: torch.Tensor, num_nodes: int) -> Graph:
    plain = random_graph(num_nodes, 0)
    assert isinstance(plain.features, torch.Tensor)
    masks = (plain.train_mask, plain.val_mask, plain.test_mask)
    return Graph.from_edge_index(edge_index, plain.features, plain.labels, masks, num_classes=3)


def many_edges(num_nodes: int, *, undirected: bool) -> torch.Tensor:
    """No edge twice, some self loops, the last nodes isolated."""
    generator = torch.Generator().manual_seed(3)
    present = torch.rand(num_nodes, num_nodes, generator=generator) < 0.12
    present = present | present.T if undirected else present
    present[-4:] = present[:, -4:] = False
    assert present.diagonal().any()
    return present.nonzero().T


@dataclass(frozen=True)
class Expected:
    """Results of torch_geometric's layers with the weights that a case starts from."""

    logits: torch.Tensor
    loss: torch.Tensor
    gradients: dict[str, torch.Tensor | None]


def of_pyg(case: Case, edge_index: torch.Tensor, edge_weight: torch.Tensor | None = None) -> Expected:
    data = case.data
    assert isinstance(data.features, torch.Tensor)
    w = leaves(
        {f"{item.name}.{key}": p for item in build_stack(case.spec) for key, p in item().named_parameters()}
    )
    logits = pyg_logits(case.model, case.layers, w, data.features, edge_index, edge_weight)
    loss = pyg_loss(logits, data.labels, data.train_mask)
    loss.backward()
    return Expected(logits.detach(), loss.detach(), {name: weight.grad for name, weight in w.items()})


def assert_same(ours: Outcome, expected: Expected) -> None:
    """Loss and gradients of the first epoch, at default tolerances."""
    torch.testing.assert_close(torch.tensor(ours.losses[0]), expected.loss)
    assert ours.gradients[0].keys() == expected.gradients.keys()
    for name, gradient in ours.gradients[0].items():
        torch.testing.assert_close(gradient, expected.gradients[name], msg=lambda m, n=name: f"{n}: {m}")


def case_of(data: Graph, model: Model) -> Case:
    return Case(data, model, layers=4, dropout=0.0, epochs=1)


def assert_equals_pyg(
    model: Model, data: Graph, edge_index: torch.Tensor, edge_weight: torch.Tensor | None = None
) -> None:
    case = case_of(data, model)
    expected = of_pyg(case, edge_index, edge_weight)
    assert torch.equal(case.graph().node_id, torch.arange(data.num_nodes))
    torch.testing.assert_close(train(case.with_(epochs=0)).logits, expected.logits)
    assert_same(train(case), expected)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("kind", EDGES)
def test_seven_nodes(model: Model, kind: str) -> None:
    assert_equals_pyg(model, graph_of(EDGES[kind], 7), EDGES[kind])


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("undirected", [False, True])
def test_many_nodes(model: Model, undirected: bool) -> None:
    edges = many_edges(60, undirected=undirected)
    assert_equals_pyg(model, graph_of(edges, 60), edges)


# parallel edges with weights of their own, loops (twice at node 1, of weight 0 at node 3), an edge of weight
# 0, and node 6 without anything
WEIGHTED = torch.tensor([[0, 1, 2, 3, 2, 5, 1, 0, 1, 3, 0], [1, 2, 1, 2, 4, 5, 1, 1, 1, 3, 2]])
WEIGHTS = torch.tensor([0.5, 2.0, 0.25, 1.5, 3.0, 0.7, 4.0, 1.25, 0.1, 0.0, 0.0])


def weighted_edges(num_nodes: int, *, undirected: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Random edges and weights, with loops and parallel edges; undirected ones go back in another order."""
    generator = torch.Generator().manual_seed(5)
    edges = torch.randint(num_nodes - 3, (2, 4 * num_nodes), generator=generator)
    weights = torch.rand(edges.shape[1], generator=generator) * 3
    weights[::9] = 0.0
    if undirected:
        no_loop = edges[0] != edges[1]
        edges = torch.cat([edges, edges.flip(0)[:, no_loop].flip(1)], dim=1)
        weights = torch.cat([weights, weights[no_loop].flip(0)])
    return edges, weights


@pytest.mark.parametrize("model", MODELS)
def test_weights_of_seven_nodes(model: Model) -> None:
    assert_equals_pyg(model, weighted_graph(WEIGHTED, WEIGHTS, 7), WEIGHTED, WEIGHTS)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("undirected", [False, True])
def test_weights_of_many_nodes(model: Model, undirected: bool) -> None:
    edges, weights = weighted_edges(60, undirected=undirected)
    data = weighted_graph(edges, weights, 60)
    assert_equals_pyg(model, data, edges, weights)
    graph = case_of(data, model).graph()
    assert (graph.matrix_t is graph.matrix) == (undirected and model != "sage")


@pytest.mark.parametrize("model", MODELS)
def test_weights_with_chunks(model: Model) -> None:
    """A ring of weighted edges in six chunks, with a lookahead that leaves no row stale."""
    node = torch.arange(59)
    edges = torch.cat([torch.stack([node, node + 1]), torch.stack([node + 1, node])], dim=1).repeat(1, 2)
    weights = torch.rand(edges.shape[1], generator=torch.Generator().manual_seed(6))
    case, graph = local_case(weighted_graph(edges, weights, 60), 6, model=model, dropout=0.0, epochs=1)
    assert_same(train(case, graph=graph), of_pyg(case, edges, weights))


def train_weighted(rank: int, num_ranks: int) -> list[Outcome]:
    return [train(case, 1, rank) for case, _, _ in weighted_cases()]


def weighted_cases() -> list[tuple[Case, torch.Tensor, torch.Tensor]]:
    cases = []
    for undirected in (False, True):
        edges, weights = weighted_edges(60, undirected=undirected)
        data = weighted_graph(edges, weights, 60)
        cases += [(case_of(data, model).with_(parts=2), edges, weights) for model in MODELS]
    return cases


@pytest.mark.slow
def test_weights_with_parts(tmp_path: Path) -> None:
    by_rank = run_ranks(2, train_weighted, folder=tmp_path)
    for index, (case, edges, weights) in enumerate(weighted_cases()):
        assert_same(merged([outcomes[index] for outcomes in by_rank], 2), of_pyg(case, edges, weights))
