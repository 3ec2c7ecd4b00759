"""Normalisation against PyG's and against its definition."""

from __future__ import annotations

import pytest
import torch
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.utils import to_dense_adj

from gnnpipe.graph.csr import Csr
from gnnpipe.graph.normalize import (
    Normalization,
    keeps_symmetry,
    normalized,
    num_self_loops,
    transposed,
)
from tests.graphs import dense, random_graph


def test_gcn_equals_pyg() -> None:
    generator = torch.Generator().manual_seed(0)
    edge_index = torch.randint(20, (2, 60), generator=generator)
    edge_index = edge_index[:, edge_index[0] != edge_index[1]]
    data = random_graph(20, 60)
    matrix = type(data).from_edge_index(
        edge_index, torch.ones(20, 1), data.labels, (data.train_mask, data.val_mask, data.test_mask)
    )
    index, weight = gcn_norm(edge_index, num_nodes=20)
    expected = to_dense_adj(index, edge_attr=weight, max_num_nodes=20)[0].T
    torch.testing.assert_close(dense(normalized(matrix.adjacency, "gcn")), expected)


def test_mean_rows_sum_to_one_or_zero() -> None:
    data = random_graph(40, 60)
    total = dense(normalized(data.adjacency, "mean")).sum(dim=1)
    has_neighbours = dense(data.adjacency).sum(dim=1) > 0
    torch.testing.assert_close(total, has_neighbours.float())
    assert not has_neighbours.all()


@pytest.mark.parametrize("undirected", [True, False])
def test_transposed_is_shared_where_symmetric(undirected: bool) -> None:
    matrix = normalized(random_graph(30, 90, undirected=undirected).adjacency, "gcn")
    turned = transposed(matrix)
    assert torch.equal(dense(turned), dense(matrix).T)
    assert (turned is matrix) == undirected


@pytest.mark.parametrize("kind", ["gcn", "mean"])
def test_what_plans_know_of_a_normalisation_is_true(kind: Normalization) -> None:
    without_loops = random_graph(30, 90, undirected=True).adjacency.to_scipy()
    without_loops.setdiag(0)
    without_loops.eliminate_zeros()
    adjacency = Csr.from_scipy(without_loops)
    matrix = normalized(adjacency, kind)
    assert matrix.num_entries == adjacency.num_entries + num_self_loops(kind, 30)
    assert (transposed(matrix) is matrix) == keeps_symmetry(kind)
