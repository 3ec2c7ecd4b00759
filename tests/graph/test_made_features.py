"""Features that are made from the edges: degrees, and eigenvectors of the Laplacian."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
import torch

from gnnpipe.errors import ConfigError, DataError
from gnnpipe.graph.adjacency import adjacency_of
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.data import Graph
from gnnpipe.graph.made_features import made_features
from tests.graphs import dense, random_graph


def adjacency(graph: nx.Graph) -> Csr:
    edges = np.array([*graph.edges, *((v, u) for u, v in graph.edges)], dtype=np.int64).reshape(-1, 2)
    return adjacency_of(edges.T, len(graph)).matrix


def test_degrees_are_logarithms_in_units_of_their_deviation() -> None:
    index = torch.tensor([[0, 0, 0, 1], [1, 2, 3, 2]])
    found = made_features(adjacency_of(index, 4).matrix, "degree").double().numpy()
    degrees = np.log1p([[0, 3], [1, 1], [2, 0], [1, 0]])
    np.testing.assert_allclose(found, (degrees - degrees.mean(axis=0)) / degrees.std(axis=0), rtol=1e-6)
    star = made_features(adjacency(nx.star_graph(5)), "degree")
    assert star.shape == (6, 1)  # as many in as out
    assert torch.equal(made_features(adjacency(nx.cycle_graph(5)), "degree"), torch.ones(5, 1))


def laplacian(graph: nx.Graph) -> np.ndarray:
    return nx.normalized_laplacian_matrix(graph, nodelist=range(len(graph))).toarray()


@pytest.mark.parametrize("size", [60, 700])  # all eigenvectors at once, and the iteration
def test_laplacian_against_networkx(size: int) -> None:
    graph = nx.connected_watts_strogatz_graph(size, 6, 0.3, seed=1)
    found = made_features(adjacency(graph), "laplacian:5").double().numpy()
    values = np.linalg.eigvalsh(laplacian(graph))[1:6]
    np.testing.assert_allclose(laplacian(graph) @ found, found * values, atol=2e-3)
    np.testing.assert_allclose(found.T @ found / size, np.eye(5), atol=1e-4)
    assert (found[np.abs(found).argmax(axis=0), range(5)] > 0).all()
    # the eigenvector that every graph has is left out
    assert np.abs(found.T @ np.sqrt([degree for _, degree in graph.degree])).max() < 1e-2


@pytest.mark.parametrize("size", [40, 450])
def test_components_and_nodes_without_edges(size: int) -> None:
    halves = nx.disjoint_union(nx.path_graph(size), nx.complete_graph(size // 2))
    halves.add_nodes_from(range(len(halves), len(halves) + 3))
    found = made_features(adjacency(halves), "laplacian:3")
    assert torch.isfinite(found).all()
    assert (found[-3:] == 0).all()
    assert (found[:size, 0] > 0).all() != (found[size:-3, 0] > 0).all()  # it tells the two apart


@pytest.mark.parametrize(
    "graph",
    [
        pytest.param(nx.grid_2d_graph(21, 21, periodic=True), id="torus"),
        pytest.param(nx.disjoint_union_all([nx.cycle_graph(9)] * 60), id="equal components"),
        pytest.param(nx.disjoint_union(nx.cycle_graph(250), nx.cycle_graph(250)), id="two of a kind"),
    ],
)
def test_eigenvalues_that_several_share(graph: nx.Graph) -> None:
    """One run of Lanczos finds one direction of a torus, and not the others."""
    graph = nx.convert_node_labels_to_integers(graph)
    found = made_features(adjacency(graph), "laplacian:8").double().numpy()
    values = np.linalg.eigvalsh(laplacian(graph))[1:9]
    np.testing.assert_allclose(laplacian(graph) @ found, found * values, atol=2e-3)
    np.testing.assert_allclose(found.T @ found / len(graph), np.eye(8), atol=1e-4)


def test_nodes_without_edges_take_no_columns() -> None:
    """Their eigenvectors, which are zero elsewhere, came before those of negative eigenvalues of M."""
    graph = nx.path_graph(5)
    graph.add_nodes_from(range(5, 60))
    found = made_features(adjacency(graph), "laplacian:4").double().numpy()
    expected = made_features(adjacency(nx.path_graph(5)), "laplacian:4").double().numpy()
    np.testing.assert_allclose(found[:5] / np.sqrt(12), expected, atol=1e-5)
    with pytest.raises(DataError, match="laplacian:5 of a graph with 60 nodes, 5 of which have edges; the"):
        made_features(adjacency(graph), "laplacian:5")


def test_it_is_the_same_each_time_and_weights_do_not_matter() -> None:
    data = random_graph(600, 3000)
    first, second = (made_features(data.adjacency, "laplacian:4") for _ in range(2))
    assert torch.equal(first, second)
    weighted = data.adjacency.with_value(torch.rand(data.num_edges) - 0.5)
    assert torch.equal(made_features(weighted, "laplacian:4"), first)
    turned = adjacency_of(dense(data.adjacency).nonzero().T, 600).matrix
    torch.testing.assert_close(made_features(turned, "laplacian:4"), first, atol=1e-3, rtol=1e-3)


def test_progress_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gnnpipe.graph.made_features.PRODUCTS_PER_REPORT", 20)
    said: list[str] = []
    made_features(random_graph(600, 3000).adjacency, "laplacian:4", said.append)
    assert said[0] == "laplacian:4: 20 products with the adjacency of 600 nodes so far"


def test_mistakes(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = random_graph(500, 3000).adjacency
    for spec in ("degre", "laplacian", "laplacian:0", "laplacian:x", "laplacian:-2", "Degree"):
        with pytest.raises(
            ConfigError, match=f"features: '{spec}' is not known; use degree, or laplacian:16"
        ):
            made_features(matrix, spec)
    with pytest.raises(DataError, match="features: laplacian:500 of a graph with 500 nodes; the number of"):
        made_features(matrix, "laplacian:500")
    with pytest.raises(DataError, match="features: laplacian of a graph without edges says nothing"):
        made_features(random_graph(5, 0).adjacency, "laplacian:2")
    monkeypatch.setattr("gnnpipe.graph.made_features.MOST_RESTARTS", 1)
    monkeypatch.setattr("gnnpipe.graph.made_features.TOLERANCE", 1e-14)
    with pytest.raises(DataError, match=r"features: laplacian:9 was not found after .* ask for fewer"):
        made_features(adjacency(nx.path_graph(900)), "laplacian:9")


def test_they_take_the_place_of_given_ones_and_it_is_said() -> None:
    data = random_graph(30, 90)
    assert data.with_made_features("degree").notes[-1] == (
        "features: 2 made from the edges (degree), in place of the 6 given"
    )
    index = torch.stack([torch.arange(29), torch.arange(1, 30)])
    made = Graph.from_edge_index(index, "laplacian:3", torch.arange(30) % 3, undirected=True)
    assert made.notes == ("features: 3 made from the edges (laplacian:3)",)
    assert made.num_features == 3
