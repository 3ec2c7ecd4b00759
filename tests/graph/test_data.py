"""Graph refuses what can't be trained on, and says why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch_geometric.data import Data
from torch_geometric.transforms import NormalizeFeatures

from gnnpipe.config.checks import check_graph_config
from gnnpipe.config.run import GraphConfig
from gnnpipe.errors import ConfigError, DataError
from gnnpipe.graph.convert import as_features
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.cut.chunks import CutSpec
from gnnpipe.graph.data import Graph
from gnnpipe.graph.prepare.prepared import prepare
from gnnpipe.graph.scaled_features import feature_columns, standardized_features
from tests.graphs import dense, one_node_each, random_graph

# 0 -> 1 -> 2 -> 3, 0 -> 2, and 3 -> 3 twice
EDGES = torch.tensor([[0, 1, 2, 0, 3, 3], [1, 2, 3, 2, 3, 3]])


def make(**changes: Any) -> Graph:
    arguments: dict[str, Any] = {
        "edge_index": EDGES,
        "features": torch.ones(4, 2),
        "labels": torch.tensor([0, 1, 2, 0]),
        "masks": one_node_each(4),
    }
    return Graph.from_edge_index(**(arguments | changes))


def test_rows_list_what_a_node_reads() -> None:
    data = make()
    expected = torch.zeros(4, 4)
    for source, target in EDGES.T.tolist():
        expected[target, source] += 1
    assert torch.equal(dense(data.adjacency), expected)
    assert expected[3, 3] == 2
    assert (data.num_nodes, data.num_edges, data.num_features, data.num_classes) == (4, 5, 2, 3)


def test_it_is_printed_by_its_sizes() -> None:
    assert repr(make()) == (
        "Graph(name='graph', num_nodes=4, num_edges=5, num_features=2, num_classes=3, task='multiclass', "
        "weighted=False)"
    )


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


def pyg_normalized(features: torch.Tensor) -> torch.Tensor:
    return NormalizeFeatures()(Data(x=features.clone())).x


@pytest.mark.parametrize("kind", ["negative", "counts", "small", "above zero", "mostly zero", "constant"])
@pytest.mark.parametrize("form", ["dense", "scipy", "torch"])
def test_features_are_normalised_as_torch_geometric_does(kind: str, form: str) -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(40, 7, generator=generator)
    features = {
        "negative": drawn,
        "counts": (drawn * 3).round().abs() * (drawn > 0.3),
        "small": drawn.abs() * 0.01 * (drawn > 0),
        "above zero": drawn.abs() + 0.5,
        "mostly zero": drawn * (drawn.abs() > 1.9),
        "constant": torch.full((40, 7), -2.0),
    }[kind]
    sparse = {"scipy": sp.csr_matrix(features.numpy()), "torch": features.to_sparse()}
    given = sparse.get(form, features)
    labels = torch.arange(40) % 3
    data = make(features=given, labels=labels, masks=one_node_each(40)).with_normalized_features()
    got = dense(data.features) if isinstance(data.features, Csr) else data.features
    assert torch.allclose(got, pyg_normalized(features), rtol=1e-6, atol=1e-7)


def test_sparse_features_too_large_to_fill_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gnnpipe.graph.scaled_features.MOST_FILLED_BYTES", 31)
    features = sp.csr_matrix(np.array([[0, -1.5], [0, 0], [2, 0], [0, 0]], dtype=np.float32))
    with pytest.raises(DataError, match=r"normalize-features: the smallest entry is -1\.5, and it has to"):
        make(features=features).with_normalized_features()


@pytest.mark.parametrize("kind", ["dense", "halves", "sparse"])
def test_standardised_columns(kind: str) -> None:
    scale, shift = torch.tensor([1e4, 1, 1, 1, 0, 1]), torch.tensor([100, 0, -3, 0, 0.7, 0])
    random = torch.Generator().manual_seed(0)
    values = (torch.randn(500, 6, generator=random) * scale + shift).half().float()
    values[:, 5] *= torch.rand(500, generator=random) < 0.01
    given = {"dense": values, "halves": values.half(), "sparse": sp.csr_matrix(values.numpy())}[kind]
    features = as_features(given)[0]
    got = standardized_features(features, feature_columns(features))
    assert got.dtype == torch.float32
    assert not got[:, 4].any()  # constant
    varying = [0, 1, 2, 3, 5]
    exact = values.double().numpy()[:, varying]
    assert np.allclose(got.numpy()[:, varying], (exact - exact.mean(axis=0)) / exact.std(axis=0), atol=1e-5)


def test_two_scalings_are_refused() -> None:
    with pytest.raises(ConfigError, match="leave one of the two out"):
        check_graph_config(GraphConfig(normalize_features=True, standardize_features=True))


def test_sums_beyond_float32_are_refused() -> None:
    features = torch.ones(4, 30)
    features[2, :2] = 3e38
    with pytest.raises(DataError, match=r"normalize-features: .* node 2 are too large"):
        make(features=features).with_normalized_features()


def test_conversions_without_loss_pass() -> None:
    expected = make()
    for changes in (
        {"labels": torch.tensor([0.0, 1.0, 2.0, 0.0], dtype=torch.float64)},
        {"labels": np.array([0, 1, 2, 0], dtype=np.uint8)},
        {"edge_index": EDGES.to(torch.int32)},
        {"edge_index": EDGES.double()},
        {"masks": tuple(mask.to(torch.int64) for mask in one_node_each(4))},
        {"features": torch.ones(4, 2, dtype=torch.float16)},
        {"features": torch.ones(4, 2, dtype=torch.int64)},
        {"features": torch.ones(4, 2, dtype=torch.float64)},
        {"features": np.ones((4, 2), dtype=">f4")},
    ):
        data = make(**changes)
        assert torch.equal(data.labels, expected.labels)
        assert torch.equal(dense(data.adjacency), dense(expected.adjacency))
        assert torch.equal(data.val_mask, expected.val_mask)
        assert isinstance(data.features, torch.Tensor)
        assert torch.equal(data.features, torch.ones(4, 2))
        assert data.notes == expected.notes


def test_what_is_rounded_is_said() -> None:
    features = torch.tensor([[0.1, 1.0], [2.0, 2.0], [1.0, 1.0], [0.5, 0.5]], dtype=torch.float64)
    assert (
        "features: 12.5% of the entries are rounded from float64 to float32" in make(features=features).notes
    )
    counts = torch.tensor([[2**24 + 1, 1]] * 4)
    assert "features: 50.0% of the entries are rounded from int64 to float32" in make(features=counts).notes


def test_edges_that_repeat_others_are_said() -> None:
    assert make().notes == ("edges: 1 of 6 repeat others; each counts as often as it occurs",)
    assert make(undirected=True).notes == (
        "edges: 1 of 6 repeat others; each counts once, as --undirected is given",
    )
    assert make(edge_index=EDGES[:, :5]).notes == ()


@pytest.mark.parametrize("none", [-1, float("nan")])
def test_nodes_without_a_label_leave_the_masks_and_it_is_said(none: float) -> None:
    labels = torch.tensor([0, 1, 0, none, 1, none])
    masks = tuple(torch.tensor(row, dtype=torch.bool) for row in
                  ([1, 0, 0, 1, 0, 0], [0, 1, 0, 0, 0, 0], [0, 0, 1, 0, 1, 1]))  # fmt: skip
    data = make(features=torch.ones(6, 2), labels=labels, masks=masks, edge_index=EDGES[:, :5])
    assert data.labels.tolist() == [0, 1, 0, -1, 1, -1]
    assert data.notes == (
        "train_mask: 1 of 2 nodes have no label and are left out",
        "test_mask: 1 of 3 nodes have no label and are left out",
    )
    assert [mask.nonzero().flatten().tolist() for mask in data.masks.values()] == [[0], [1], [2, 4]]


def test_rows_of_several_labels_may_be_unknown() -> None:
    nan = float("nan")
    labels = torch.tensor([[0, 1.0], [1, 1], [1, 0], [nan, nan]])
    assert make(labels=labels).labels[3].isnan().all()
    masks = (torch.tensor([True, False, False, True]), *one_node_each(4)[1:])
    assert make(labels=labels, masks=masks).train_mask.tolist() == [True, False, False, False]


def test_labels_that_look_misread_are_said() -> None:
    one_hot = torch.eye(3)[torch.tensor([0, 1, 2, 0])]
    assert any("each node has one of 3, but columns" in note for note in make(labels=one_hot).notes)
    gaps = make(labels=torch.tensor([1, 3, 3, 1]))
    assert "labels: 2 of 4 classes have no node, first class 0" in gaps.notes


def masks(*rows: list[int]) -> tuple[torch.Tensor, ...]:
    return tuple(torch.tensor(row, dtype=torch.bool) for row in rows)


def numbers(*rows: list[float]) -> tuple[torch.Tensor, ...]:
    return tuple(torch.tensor(row, dtype=torch.float32) for row in rows)


ODD_FEATURE = torch.ones(4, 2)
ODD_FEATURE[2, 1] = float("nan")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"edge_index": torch.tensor([[0], [4]])}, r"node id 4 is out of range for 4 nodes \(0 to 3\)"),
        ({"edge_index": torch.tensor([[-1], [0]])}, "node id -1 is out of range"),
        ({"edge_index": torch.zeros(3, 2, dtype=torch.int64)}, r"expected shape \[2, num_edges\]"),
        ({"features": torch.full((4, 2), float("nan"))}, "features: 8 of 8 entries are NaN or infinite"),
        ({"features": ODD_FEATURE}, "first nan of node 2, column 1; replace them"),
        ({"features": sp.csr_matrix(ODD_FEATURE.numpy())}, "first nan of node 2, column 1; replace them"),
        (
            {"features": torch.full((4, 2), 1e300, dtype=torch.float64)},
            "infinite as float32, first inf",
        ),
        (
            {"features": torch.ones(4, 2, dtype=torch.complex64)},
            "features: it holds values of type complex64",
        ),
        ({"features": torch.ones(4)}, r"features: expected shape \[num_nodes, num_features\], got \[4\]"),
        ({"features": torch.ones(4, 0)}, "features: there are no columns"),
        (
            {"features": torch.ones(0, 2), "edge_index": EDGES[:, :0], "labels": torch.zeros(0)},
            "graph: it has no nodes",
        ),
        ({"edge_index": torch.tensor([[0.0], [1.5]])}, "edge_index: 1.5 is no whole number"),
        ({"edge_index": torch.tensor([[0.0], [float("nan")]])}, "edge_index: nan is no whole number"),
        (
            {"edge_index": torch.tensor([[0.0], [2.0**25]])},
            "edge_index: 3.3554432e\\+07 is no whole number that float32",
        ),
        (
            {"edge_index": torch.tensor([[True], [False]])},
            "edge_index: true and false are no numbers of nodes",
        ),
        (
            {"labels": torch.tensor([4.206, 2.43, 1.0, 0.0]), "task": "classes"},
            "labels: 4.206 of node 0 is no class number",
        ),
        ({"labels": torch.tensor([0, 1, float("inf"), 0])}, "labels: inf of node 2 is no class number"),
        (
            {"labels": torch.tensor([0, 1, 2, 0], dtype=torch.complex64)},
            "labels: it holds values of type complex",
        ),
        ({"labels": np.array([b"a", b"b", b"c", b"d"])}, "labels: it holds values of type \\|S1"),
        (
            {"labels": torch.tensor([-1, 1, 1, -1])},
            "labels: all are -1 or 1, but -1 means that a node has no",
        ),
        ({"labels": torch.tensor([0, -2, 2, 0])}, "labels: -2 lies outside 0 to 2"),
        (
            {"labels": torch.tensor([[1, float("nan")]] * 4)},
            r"labels: nan lies outside 0 to 1 \(node 0, column 1",
        ),
        (
            {"labels": torch.tensor([[1.0, 1.0000001]] * 4), "task": "classes"},
            "labels: 1.0000001.* lies outside 0 to 1",
        ),
        (
            {"masks": numbers([1, 0, 0, 0], [0, 2, 0, 0], [0, 0, 1, 0])},
            "val_mask: 2.0 of node 1 is neither 0 nor 1",
        ),
        (
            {"masks": numbers([1, 0, 0, 0], [0, 0.5, 0, 0], [0, 0, 1, 0])},
            "val_mask: 0.5 of node 1 is neither",
        ),
        (
            {"masks": numbers([1, 0, 0, 0], [0, float("nan"), 0, 0], [0, 0, 1, 0])},
            "val_mask: nan of node 1 is neither",
        ),
        ({"labels": torch.tensor([0, 1, 7, 0]), "num_classes": 3}, "labels: 7 lies outside 0 to 2"),
        ({"labels": torch.tensor([0, 1, 10**9, 0])}, "labels: 1000000000 can't be a class of a graph with 4"),
        ({"labels": torch.tensor([0, -1, 2, 0])}, "val_mask: none of its 1 nodes has a label"),
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
        Graph(
            "x",
            data.adjacency,
            torch.ones(4, 2),
            data.labels,
            3,
            data.train_mask,
            data.val_mask,
            data.test_mask,
        )


def mapped(tmp_path: Path, features: np.ndarray) -> np.ndarray:
    np.save(tmp_path / "features.npy", features)
    return np.load(tmp_path / "features.npy", mmap_mode="r")  # type: ignore[no-any-return]


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("zeros", [False, True])
def test_mapped_features_are_not_copied(tmp_path: Path, dtype: str, zeros: bool) -> None:
    """Nor made sparse: the file is all that there is of them."""
    given = mapped(tmp_path, np.zeros((4, 30), dtype) if zeros else np.random.rand(4, 30).astype(dtype))
    features = make(features=given).features
    assert isinstance(features, torch.Tensor)
    assert features.data_ptr() == given.ctypes.data
    assert str(features.dtype) == f"torch.{dtype}"


def test_halves_stay_and_are_trained_on_as_floats() -> None:
    halves = torch.rand(4, 2).half()
    data = make(features=halves)
    assert isinstance(data.features, torch.Tensor)
    assert data.features.dtype == torch.float16
    prepared = prepare(data, CutSpec(1, 1, 1.0), "gcn")
    assert isinstance(prepared.features, torch.Tensor)
    assert torch.equal(prepared.features, halves.float()[prepared.node_id])
    assert torch.allclose(data.with_normalized_features().features, pyg_normalized(halves.float()))  # type: ignore[arg-type]


def test_features_are_checked_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gnnpipe.graph.convert._BLOCK", 3)
    features = torch.ones(9, 2)
    features[7, 1] = features[8, 0] = float("inf")
    for given in (features, sp.csr_matrix(features.numpy()), features.half()):
        with pytest.raises(
            DataError,
            match="features: 2 of 18 entries are NaN or infinite as float32, first inf of node 7, c",
        ):
            make(features=given, labels=torch.arange(9) % 3, masks=one_node_each(9))


class Frame:
    """What a table of pandas or polars offers."""

    def __init__(self, values: np.ndarray) -> None:
        self._values = values

    def to_numpy(self) -> np.ndarray:
        return self._values

    @property
    def shape(self) -> tuple[int, ...]:
        return self._values.shape


def test_tables_are_arrays() -> None:
    data = make(features=Frame(np.ones((4, 2))), labels=Frame(np.array([0.5, 1, np.nan, 2])),
                edge_index=Frame(EDGES.numpy()))  # fmt: skip
    assert data.task == "regression"
    with pytest.raises(DataError, match="labels: it holds values of type object; real numbers are needed"):
        make(labels=Frame(np.array([1, "a", 2, 3], dtype=object)))


@pytest.mark.parametrize("dtype", ["uint16", "uint32", "uint64", "int16", ">i4", "float16", "float64"])
def test_any_format_of_numbers(dtype: str) -> None:
    """Polars numbers rows with uint32, which PyTorch hardly computes with."""
    weight = np.arange(6).astype(dtype)
    masks = tuple(mask.numpy().astype(dtype) for mask in one_node_each(4))
    labels = np.array([0, 1, 2, 0]).astype(dtype)
    data = make(edge_index=EDGES.numpy().astype(dtype), labels=labels, masks=masks, weight=weight)
    assert torch.equal(data.adjacency.value, make(weight=torch.arange(6)).adjacency.value)
    assert torch.equal(data.labels, make().labels)
    assert data.train_mask.tolist() == [True, False, False, False]
