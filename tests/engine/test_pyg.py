"""Every model equals the same one of torch_geometric's own layers: outputs and gradients."""

from __future__ import annotations

import pytest
import torch

from gnnpipe.config.run import Model
from gnnpipe.graph.data import Graph
from gnnpipe.nn.models import build_stack
from tests.engine.test_exact import MODELS
from tests.graphs import random_graph
from tests.harness import Case, train
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


def assert_equals_pyg(model: Model, edge_index: torch.Tensor, num_nodes: int) -> None:
    """At default tolerances."""
    data = graph_of(edge_index, num_nodes)
    assert isinstance(data.features, torch.Tensor)
    case = Case(data, model, layers=4, dropout=0.0, epochs=1)
    w = leaves(
        {f"{item.name}.{key}": p for item in build_stack(case.spec) for key, p in item().named_parameters()}
    )
    logits = pyg_logits(model, 4, w, data.features, edge_index)
    loss = pyg_loss(logits, data.labels, data.train_mask)
    loss.backward()
    assert torch.equal(case.graph().node_id, torch.arange(num_nodes))
    torch.testing.assert_close(train(case.with_(epochs=0)).logits, logits.detach())
    ours = train(case)
    torch.testing.assert_close(torch.tensor(ours.losses[0]), loss.detach())
    assert ours.gradients[0].keys() == w.keys()
    for name, gradient in ours.gradients[0].items():
        torch.testing.assert_close(gradient, w[name].grad, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("kind", EDGES)
def test_seven_nodes(model: Model, kind: str) -> None:
    assert_equals_pyg(model, EDGES[kind], 7)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("undirected", [False, True])
def test_many_nodes(model: Model, undirected: bool) -> None:
    assert_equals_pyg(model, many_edges(60, undirected=undirected), 60)
