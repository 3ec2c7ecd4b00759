"""Graphs from objects of torch_geometric, SciPy and networkx."""

from __future__ import annotations

import sys
from typing import Any

import networkx as nx
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch_geometric.data import Data
from torch_geometric.utils import to_dense_adj

from gnnpipe.errors import ConfigError, DataError
from gnnpipe.graph.data import Graph
from tests.graphs import dense

EDGES = torch.tensor([[0, 1, 2, 0, 4], [1, 2, 3, 4, 5]])
FEATURES, LABELS = torch.rand(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])


def test_pyg() -> None:
    weight = torch.tensor([0.5, 2.0, 1.0, 0.0, -3.0])
    data = Graph.from_pyg(Data(x=FEATURES, y=LABELS, edge_index=EDGES, edge_weight=weight))
    expected = to_dense_adj(EDGES, edge_attr=weight)[0].T  # of torch_geometric, sources as rows
    assert torch.equal(dense(data.adjacency), expected)
    assert (data.name, data.weighted, data.num_edges) == ("in-memory", True, 5)
    assert data.notes == ("edges: weights from -3 to 2 are used",)
    assert sum(int(mask.sum()) for mask in data.masks.values()) == 6


def test_a_pyg_graph_without_features_gets_some() -> None:
    bare = Data(y=LABELS, edge_index=EDGES, num_nodes=6)
    data = Graph.from_pyg(bare, features="degree", name="mine")
    assert (data.name, data.num_features, data.notes) == (
        "mine", 2, ("features: 2 made from the edges (degree)",),
    )  # fmt: skip
    with pytest.raises(DataError, match="features: in-memory has none; --features degree or"):
        Graph.from_pyg(bare)
    with pytest.raises(DataError, match=r"dataset: in-memory has no edges \(edge_index\)"):
        Graph.from_pyg(Data(x=FEATURES, y=LABELS))
    with pytest.raises(DataError, match="data: an object of type list can't be used; give a torch_geometric"):
        Graph.from_pyg([bare])


@pytest.mark.parametrize("form", [sp.csr_matrix, sp.coo_matrix, sp.csr_array])
@pytest.mark.parametrize("weight", [1.0, 0.5])
def test_scipy(form: Any, weight: float) -> None:
    rows, cols = EDGES.numpy()
    matrix = form(sp.coo_matrix((np.full(5, weight), (rows, cols)), shape=(6, 6)))
    data = Graph.from_scipy(matrix, FEATURES.numpy(), LABELS.numpy(), rows="sources")
    assert data.weighted == (weight != 1)
    assert torch.equal(dense(data.adjacency), torch.from_numpy(matrix.toarray().T).float())
    turned = Graph.from_scipy(matrix.T, FEATURES, LABELS, rows="targets")
    assert torch.equal(dense(turned.adjacency), dense(data.adjacency))


def test_scipy_mistakes() -> None:
    for matrix, message in (
        (np.eye(6), "adjacency: an object of type ndarray can't be used; give a sparse matrix of SciPy"),
        (sp.csr_matrix((6, 5)), "adjacency: expected a square matrix, got 6 x 5"),
        (sp.identity(7, format="csr"), "edge_index: node id 6 is out of range for 6 nodes"),
    ):
        with pytest.raises(DataError, match=message):
            Graph.from_scipy(matrix, FEATURES, LABELS, rows="sources")
    with pytest.raises(ConfigError, match="rows: 'source' is not known; did you mean 'sources'"):
        Graph.from_scipy(sp.identity(6), FEATURES, LABELS, rows="source")  # type: ignore[arg-type]


def test_the_karate_club() -> None:
    """Its clubs are text, its edges have weights, and its nodes no features."""
    club = nx.karate_club_graph()
    data = Graph.from_networkx(club, label="club", weight="weight")
    assert torch.equal(dense(data.adjacency), torch.from_numpy(nx.to_numpy_array(club)).float())
    assert data.class_names == ("Mr. Hi", "Officer")
    assert data.labels.tolist() == [int(club.nodes[node]["club"] == "Officer") for node in club]
    assert (data.name, data.num_features, data.task, data.ids) == ("Zachary's Karate Club", 1, "binary", None)
    unweighted = Graph.from_networkx(club, label="club", features="laplacian:4", name="club")
    assert (unweighted.weighted, unweighted.num_features, unweighted.name) == (False, 4, "club")


def people() -> Any:
    graph = nx.MultiDiGraph()
    for name, age, split in (
        ("Ada", 36, "train"),
        ("Bob", 3, "Validation"),
        ("Cy", 70, "test"),
        (4, 9, None),
    ):
        graph.add_node(name, age=age, place=[age / 2, 1.0], income=None if name == "Cy" else age * 10.5,
                       group=age % 2, split=split)  # fmt: skip
    graph.add_edge("Ada", "Bob", strength=0.5)
    graph.add_edge("Ada", "Bob", strength=2.0)
    graph.add_edge("Bob", "Bob", strength=1.0)
    graph.add_edge("Cy", 4, strength=1.0)
    return graph


def test_a_directed_multigraph() -> None:
    data = Graph.from_networkx(
        people(), label="group", features=["age", "place"], split="split", weight="strength"
    )
    assert data.ids is not None
    assert [data.ids[node] for node in range(4)] == ["Ada", "Bob", "Cy", "4"]
    assert isinstance(data.features, torch.Tensor)
    assert data.features[0].tolist() == [36, 18, 1]
    assert data.adjacency.col.tolist() == [0, 0, 1, 2]
    assert data.adjacency.value.tolist() == [0.5, 2.0, 1.0, 1.0]
    assert [mask.nonzero().flatten().tolist() for mask in data.masks.values()] == [[0], [1], [2]]
    counted = Graph.from_networkx(people(), label="group", features="age", split="split")
    assert counted.adjacency.value.tolist() == [2.0, 1.0, 1.0]


def test_values_of_nodes_are_predicted_and_none_is_none() -> None:
    data = Graph.from_networkx(people(), label="income", features="age", split="split")
    assert data.task == "regression"
    assert (
        "test_mask: none of its 1 nodes has a label, so there is no test score (hidden labels)" in data.notes
    )


def test_undirected_edges_go_both_ways_and_loops_once() -> None:
    graph = nx.Graph([(10, 20), (20, 20)])
    nx.set_node_attributes(graph, {10: 0, 20: 1}, "y")
    graph.add_nodes_from((node, {"y": node % 2}) for node in range(30, 36))
    data = Graph.from_networkx(graph, label="y")
    assert data.ids is not None
    assert [data.ids[node] for node in range(3)] == [10, 20, 30]
    assert dense(data.adjacency)[:2, :2].tolist() == [[0, 1], [1, 1]]


def test_nodes_of_one_text_are_told_apart() -> None:
    graph = nx.Graph([(1, "1")])
    nx.set_node_attributes(graph, 0, "y")
    graph.add_nodes_from((name, {"y": 1}) for name in "abcd")
    ids = Graph.from_networkx(graph, label="y").ids
    assert ids is not None
    assert [ids[0], ids[1]] == ["1", "'1'"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": "grup"}, "label: no node has an attribute 'grup'; did you mean 'group'"),
        ({"label": "name"}, "label: no node has an attribute 'name'.* Nodes have age, group, income, place"),
        ({"features": "income"}, "features: node Cy has no 'income', which others have; give every node one"),
        ({"features": ["split"]}, "features: node 4 has no 'split'"),
        ({"features": "title"}, "features: no node has an attribute 'title'; nodes have"),
        ({"features": "laplace:3"}, "features: no node has an attribute 'laplace:3'; "),
        (
            {"weight": "strenght"},
            r"weight: edge \[Ada, Bob\] has none as 'strenght'; did you mean 'str",
        ),
        ({"split": "group"}, "split: '0' of node Ada .*can't be used; use train, val or test"),
    ],
)
def test_networkx_mistakes(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Graph.from_networkx(people(), **{"label": "group", "features": "age", "split": "split", **changes})


def test_odd_values_and_objects() -> None:
    graph = people()
    graph.nodes["Cy"]["age"] = "old"
    with pytest.raises(DataError, match=r"features: 'old' of node Cy \('age'\) can't be used; expected a"):
        Graph.from_networkx(graph, label="group", features="age")
    graph.nodes["Cy"]["place"] = [1.0]
    with pytest.raises(DataError, match=r"'\[1.0\]' of node Cy \('place'\) can't be used; expected 2 num"):
        Graph.from_networkx(graph, label="group", features="place")
    with pytest.raises(DataError, match="graph: an object of type dict can't be used; give a graph of netw"):
        Graph.from_networkx({}, label="y")


def test_attributes_may_have_any_name() -> None:
    graph = nx.path_graph(6)
    nx.set_node_attributes(graph, 2.0, 7)
    nx.set_node_attributes(graph, dict(enumerate("ababab")), ("a", "b"))
    data = Graph.from_networkx(graph, label=("a", "b"), features=7)  # type: ignore[arg-type]
    assert (data.class_names, data.num_features) == (("a", "b"), 1)
    with pytest.raises(DataError, match="label: no node has an attribute '3'"):
        Graph.from_networkx(graph, label=3)  # type: ignore[arg-type]


def test_what_edges_have_in_each_kind_of_object() -> None:
    attr, kind = torch.rand(5, 2), torch.tensor([0, 1, 0, 2, 1])
    pyg = Graph.from_pyg(Data(x=FEATURES, y=LABELS, edge_index=EDGES, edge_attr=attr, edge_type=kind))
    order = torch.argsort(EDGES[1], stable=True)
    assert torch.equal(pyg.edge_attr, attr[order])  # type: ignore[arg-type]
    assert torch.equal(pyg.edge_type, kind[order])  # type: ignore[arg-type]
    matrix = sp.coo_matrix((np.ones(5), tuple(EDGES.numpy())), shape=(6, 6))
    from_scipy = Graph.from_scipy(matrix, FEATURES, LABELS, rows="sources", edge_attr=attr, edge_type=kind)
    assert torch.equal(from_scipy.edge_attr, attr[order])  # type: ignore[arg-type]
    ends = list(map(tuple, EDGES.T.tolist()))
    graph = nx.MultiDiGraph([(*edge, {"len": at, "kind": "pqs"[kind[at]]}) for at, edge in enumerate(ends)])
    nx.set_node_attributes(graph, dict(enumerate("abcabc")), "y")
    data = Graph.from_networkx(graph, label="y", edge_features=["len"], edge_type="kind")
    assert (data.ids, data.edge_type_names) == (None, ("p", "q", "s"))
    assert data.edge_attr.flatten().tolist() == order.tolist()  # type: ignore[union-attr]
    assert torch.equal(data.edge_type, kind[order])  # type: ignore[arg-type]
    plain = Graph.from_networkx(graph, label="y")
    assert "edges: not used: kind, len (weight= takes one as the edges' weight)" in plain.notes
    with pytest.raises(DataError, match=r"edge_features: edge \[0, 1\] has 'p', which is no number"):
        Graph.from_networkx(graph, label="y", edge_features="kind")


def test_edges_of_an_undirected_networkx_graph_have_the_same_both_ways() -> None:
    graph = nx.path_graph(6)
    nx.set_node_attributes(graph, dict(enumerate("abcabc")), "y")
    nx.set_edge_attributes(graph, {(at, at + 1): float(at) for at in range(5)}, "len")
    data = Graph.from_networkx(graph, label="y", edge_features="len")
    assert data.edge_attr is not None
    assert data.edge_attr.flatten().tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_fields_of_a_pyg_graph_that_are_no_rows_of_edges_are_named() -> None:
    data = Data(x=FEATURES, y=LABELS, edge_index=EDGES, edge_attr=torch.rand(3, 2), edge_type=["a"] * 5)
    assert Graph.from_pyg(data).notes == ("in-memory: not used: edge_attr, edge_type",)


def test_networkx_may_be_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "networkx", None)
    with pytest.raises(DataError, match="graph: networkx is not installed; pip install networkx"):
        Graph.from_networkx(people(), label="group")


def test_attributes_that_are_not_used_are_named() -> None:
    """The karate club has weights, which were left out without a word."""
    club = nx.karate_club_graph()
    nx.set_node_attributes(club, 3, "age")
    plain = Graph.from_networkx(club, label="club")
    assert "edges: not used: weight (weight= takes one as the edges' weight)" in plain.notes
    assert "nodes: not used: age (features= takes some)" in plain.notes
    used = Graph.from_networkx(club, label="club", weight="weight", features=["age"])
    assert not [note for note in used.notes if "not used" in note]
