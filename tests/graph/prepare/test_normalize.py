"""Normalisation against PyG's and against its definition."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.utils import to_dense_adj

from gnnpipe.errors import DataError
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.ids import NodeIds
from gnnpipe.graph.prepare.normalize import (
    Normalization,
    is_undirected,
    keeps_symmetry,
    normalized,
    num_normalized_entries,
    num_self_loops,
)
from gnnpipe.graph.transpose import is_symmetric
from tests.graphs import dense, random_graph, small_blocks, weighted_adjacency


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


@pytest.mark.parametrize("kind", ["gcn", "mean"])
def test_what_plans_know_of_a_normalisation_is_true(kind: Normalization) -> None:
    without_loops = random_graph(30, 90, undirected=True).adjacency.to_scipy()
    without_loops.setdiag(0)
    without_loops.eliminate_zeros()
    adjacency = Csr.from_scipy(without_loops)
    matrix = normalized(adjacency, kind)
    assert matrix.num_entries == adjacency.num_entries + num_self_loops(kind, 30)
    assert is_symmetric(matrix) == keeps_symmetry(kind)


NUM_NODES = 6
# source, target, weight; small whole weights make parallel edges, zeros and sums that cancel likely
edge_lists = st.lists(
    st.tuples(st.integers(0, NUM_NODES - 1), st.integers(0, NUM_NODES - 1), st.integers(-3, 3)), max_size=40
)


def tensors(edges: list[tuple[int, int, int]]) -> tuple[Tensor, Tensor]:
    table = torch.tensor(edges, dtype=torch.int64).view(-1, 3)
    return table[:, :2].T.contiguous(), table[:, 2] / 4


@given(edge_lists)
def test_weighted_gcn_equals_pyg(edges: list[tuple[int, int, int]]) -> None:
    edge_index, weight = tensors(edges)
    adjacency = weighted_adjacency(edge_index, weight.abs(), NUM_NODES)
    index, expected = gcn_norm(edge_index, weight.abs(), num_nodes=NUM_NODES)
    matrix = normalized(adjacency, "gcn", weighted=True)
    torch.testing.assert_close(
        dense(matrix), to_dense_adj(index, edge_attr=expected, max_num_nodes=NUM_NODES)[0].T
    )
    assert num_normalized_entries(adjacency, "gcn", weighted=True) == matrix.num_entries
    pairs = {(source, target) for source, target, _ in edges} | {(node, node) for node in range(NUM_NODES)}
    assert matrix.num_entries == len(pairs)


@given(edge_lists)
def test_weighted_mean_counts_every_edge(edges: list[tuple[int, int, int]]) -> None:
    edge_index, weight = tensors(edges)
    expected = torch.zeros(NUM_NODES, NUM_NODES)
    for source, target, value in edges:
        expected[target, source] += value / 4
    expected /= torch.bincount(edge_index[1], minlength=NUM_NODES).clamp(min=1)[:, None]
    adjacency = weighted_adjacency(edge_index, weight, NUM_NODES)
    matrix = normalized(adjacency, "mean", weighted=True)
    torch.testing.assert_close(dense(matrix), expected)
    assert num_normalized_entries(adjacency, "mean", weighted=True) == matrix.num_entries
    assert matrix.num_entries == len({edge[:2] for edge in edges})


def test_a_negative_weight_is_named() -> None:
    adjacency = weighted_adjacency(torch.tensor([[0, 2, 1], [1, 0, 2]]), torch.tensor([1.0, 2.0, -0.5]), 3)
    message = "from node 1 to node 2 weighs -0.5, and gcn normalisation takes square roots.*--model sage"
    for find in (normalized, num_normalized_entries):
        with pytest.raises(DataError, match=message):
            find(adjacency, "gcn", weighted=True)  # type: ignore[operator]
    with pytest.raises(DataError, match=r"from node anna to node b weighs -0\.5"):
        normalized(adjacency, "gcn", weighted=True, ids=NodeIds.of_text(["c", "anna", "b"]))
    assert dense(normalized(adjacency, "mean", weighted=True))[2, 1] == -0.5


def test_a_node_without_weight_gets_nothing() -> None:
    """As torch_geometric does: a degree of 0 is no division by 0."""
    adjacency = weighted_adjacency(torch.tensor([[0, 1, 0], [0, 0, 1]]), torch.tensor([0.0, 0.0, 2.0]), 2)
    matrix = dense(normalized(adjacency, "gcn", weighted=True))
    # node 0 has a loop of weight 0, and node 1 gets one of weight 1 beside its edge of weight 2
    torch.testing.assert_close(matrix, torch.tensor([[0.0, 0.0], [0.0, 1 / 3]]))


@given(edge_lists, st.randoms(use_true_random=False))
def test_weights_of_an_undirected_graph_are_stored_once(
    edges: list[tuple[int, int, int]], random: object
) -> None:
    """Whatever the order of parallel edges is in either direction."""
    edges = [(source, target, abs(weight)) for source, target, weight in edges if source != target]
    back = [(target, source, weight) for source, target, weight in edges]
    random.shuffle(back)  # type: ignore[attr-defined]
    edge_index, weight = tensors(edges + back)
    # weights whose sums depend on the order when they are rounded
    adjacency = weighted_adjacency(edge_index, weight**3 / 3 + 1e-7, NUM_NODES)
    assert is_undirected(adjacency)
    assert is_symmetric(normalized(adjacency, "gcn", weighted=True))


def plainly(adjacency: Csr, kind: Normalization) -> sp.csr_matrix:
    """A graph without weights, normalised by SciPy in a few steps over whole matrices."""
    matrix = adjacency.to_scipy()
    if kind == "gcn":
        matrix = matrix - sp.diags(matrix.diagonal()) + sp.identity(matrix.shape[0], dtype=np.float32)
    matrix = sp.csr_matrix(matrix, dtype=np.float32)
    matrix.eliminate_zeros()
    matrix.sort_indices()
    degree = np.asarray(matrix.sum(axis=1), dtype=np.float64).ravel()
    power = -0.5 if kind == "gcn" else -1.0
    scale = np.power(degree, power, out=np.zeros_like(degree), where=degree > 0)
    factor = np.repeat(scale, np.diff(matrix.indptr))
    factor = factor * scale[matrix.indices] if kind == "gcn" else factor
    matrix.data = (matrix.data * factor).astype(np.float32)
    return matrix


@pytest.mark.parametrize("kind", ["gcn", "mean"])
@pytest.mark.parametrize("undirected", [False, True])
def test_blocks_change_no_bit(kind: Normalization, undirected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    adjacency = random_graph(50, 400, undirected=undirected).adjacency
    order = np.random.default_rng(0).permutation(50)
    expected = plainly(adjacency, kind)[order][:, order]
    expected.sort_indices()
    for size in (2**16, 7):
        small_blocks(monkeypatch, size)
        matrix = normalized(adjacency, kind, order=order)
        assert np.array_equal(matrix.rowptr, expected.indptr)
        assert np.array_equal(matrix.col, expected.indices)
        assert np.array_equal(matrix.value, expected.data)
        assert num_normalized_entries(adjacency, kind, weighted=False) == matrix.num_entries


def test_values_that_are_one_number_repeated_are_not_unfolded() -> None:
    """As a graph that is mapped from disk has them."""
    adjacency = random_graph(50, 400, undirected=True).adjacency
    ones = Csr(adjacency.rowptr, adjacency.col, torch.ones(1).expand(adjacency.num_entries), 50)
    for kind in ("gcn", "mean"):
        assert torch.equal(normalized(ones, kind).value, normalized(adjacency, kind).value)
    assert is_undirected(ones)
