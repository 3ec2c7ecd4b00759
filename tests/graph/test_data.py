"""GraphData refuses what can't be trained on, and says why."""

from __future__ import annotations

from typing import Any

import pytest
import scipy.sparse as sp
import torch

from gnnpipe.base.errors import DataError
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.data import GraphData
from tests.graphs import dense, one_node_each, random_graph

# 0 -> 1 -> 2 -> 3, 0 -> 2, and 3 -> 3 twice
EDGES = torch.tensor([[0, 1, 2, 0, 3, 3], [1, 2, 3, 2, 3, 3]])


def make(**changes: Any) -> GraphData:
    arguments: dict[str, Any] = {
        "edge_index": EDGES,
        "features": torch.ones(4, 2),
        "labels": torch.tensor([0, 1, 2, 0]),
        "masks": one_node_each(4),
    }
    return GraphData.from_edge_index(**(arguments | changes))


def test_rows_list_what_a_node_reads() -> None:
    data = make()
    expected = torch.zeros(4, 4)
    for source, target in EDGES.T.tolist():
        expected[target, source] += 1
    assert torch.equal(dense(data.adjacency), expected)
    assert expected[3, 3] == 2
    assert (data.num_nodes, data.num_edges, data.num_features, data.num_classes) == (4, 5, 2, 3)


def test_undirected() -> None:
    adjacency = dense(make(undirected=True).adjacency)
    assert torch.equal(adjacency, adjacency.T)
    assert adjacency.max() == 1


def test_tasks() -> None:
    assert make().task == "multiclass"
    assert make(labels=torch.tensor([0, 1, 0, 1])).task == "binary"
    assert make(labels=torch.ones(4, 3)).task == "multilabel"
    assert make(labels=torch.tensor([[0], [1], [2], [0]])).task == "multiclass"


def test_mostly_zero_features_are_stored_sparse() -> None:
    features = torch.zeros(4, 30)
    features[2, 5] = 3.0
    data = make(features=features)
    assert isinstance(data.features, Csr)
    assert torch.equal(dense(data.features), features)
    assert isinstance(make(features=sp.identity(4, format="csr")).features, Csr)


def test_normalized_features() -> None:
    features = torch.tensor([[1.0, 3.0], [0.0, 0.0], [2.0, 2.0], [5.0, 0.0]])
    expected = torch.tensor([[0.25, 0.75], [0.0, 0.0], [0.5, 0.5], [1.0, 0.0]])
    for given in (features, sp.csr_matrix(features.numpy())):
        got = make(features=given).with_normalized_features().features
        assert torch.equal(dense(got) if isinstance(got, Csr) else got, expected)


def masks(*rows: list[int]) -> tuple[torch.Tensor, ...]:
    return tuple(torch.tensor(row, dtype=torch.bool) for row in rows)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"edge_index": torch.tensor([[0], [4]])}, r"node id 4 is out of range for 4 nodes \(0 to 3\)"),
        ({"edge_index": torch.tensor([[-1], [0]])}, "node id -1 is out of range"),
        ({"edge_index": torch.zeros(3, 2, dtype=torch.int64)}, r"expected shape \[2, num_edges\]"),
        ({"features": torch.full((4, 2), float("nan"))}, "features: 8 of 8 entries are NaN or infinite"),
        ({"features": torch.ones(0, 2), "edge_index": EDGES[:, :0]}, "graph: it has no nodes"),
        ({"labels": torch.tensor([0, 1, 7, 0]), "num_classes": 3}, "labels: 7 lies outside 0 to 2"),
        ({"labels": torch.tensor([0, 1, 10**9, 0])}, "labels: 1000000000 can't be a class of a graph with 4"),
        ({"labels": torch.tensor([0, -1, 2, 0])}, "labels: -1 lies outside 0 to 2"),
        ({"labels": torch.full((4, 2), 2.0)}, "labels: 2.0 lies outside 0 to 1"),
        ({"labels": torch.tensor([0, 1])}, "labels: 2 rows for 4 nodes"),
        ({"masks": masks([1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0])}, "train_mask and val_mask overlap in 1"),
        ({"masks": masks([1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0])}, "val_mask: it is empty"),
        ({"masks": masks([1, 0], [0, 1], [0, 0])}, r"train_mask: expected bool \[4\], got bool \[2\]"),
    ],
)
def test_errors(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        make(**changes)


def test_unlabelled_nodes_outside_the_masks_are_fine() -> None:
    assert make(labels=torch.tensor([0, 1, 2, -1])).num_classes == 3


def test_features_of_another_length() -> None:
    data = random_graph(5, 5)
    with pytest.raises(DataError, match="features: 4 rows for 5 nodes"):
        GraphData(
            "x",
            data.adjacency,
            torch.ones(4, 2),
            data.labels,
            3,
            data.train_mask,
            data.val_mask,
            data.test_mask,
        )
