"""Formats of other programs, written by their own writers, as `read_source` reads them."""

from __future__ import annotations

import gzip
import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import scipy.sparse as sp
import torch
from torch_geometric.data import Data, HeteroData, InMemoryDataset

from gnnpipe.config.importing import TablesConfig
from gnnpipe.errors import DataError
from gnnpipe.graph.sources.detect import read_source
from gnnpipe.graph.sources.raw import RawGraph
from tests.graphs import SHARED_DATA
from tests.payload import Payload

NUM_NODES, NUM_EDGES = 9, 20
RNG = np.random.default_rng(3)
EDGES = RNG.integers(0, NUM_NODES, (2, NUM_EDGES))
WEIGHT = np.round(RNG.random(NUM_EDGES) + 0.5, 3)
X = RNG.standard_normal((NUM_NODES, 4)).astype(np.float32)
Y = np.arange(NUM_NODES) % 3
MASKS = np.eye(3, dtype=bool)[np.arange(NUM_NODES) // 3]  # a split a column
SPLITS = {"train": [0, 1, 2], "val": [3, 4, 5], "test": [6, 7, 8]}


class Read:
    """A source that was read, and the lines that were said."""

    def __init__(self, path: Path, scratch: Path) -> None:
        self.said: list[str] = []
        scratch.mkdir(exist_ok=True)
        self.raw: RawGraph = read_source(path, TablesConfig(), scratch, self.said.append)


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    return tmp_path / "scratch"


def matrix(raw: RawGraph) -> np.ndarray:
    """Dense adjacency with sources as rows; an entry sums the weights."""
    edge_index = np.asarray(raw.edge_index)
    weight = np.ones(edge_index.shape[1]) if raw.weight is None else np.asarray(raw.weight)
    size = raw.num_nodes or 0
    return sp.coo_matrix((weight, tuple(edge_index)), (size, size)).toarray()


def check(raw: RawGraph, *, weight: bool = False, labels: bool = True, splits: bool = True) -> None:
    """Compare with the graph of this module."""
    expected = sp.coo_matrix((WEIGHT if weight else np.ones(NUM_EDGES), tuple(EDGES)), (9, 9)).toarray()
    assert np.allclose(matrix(raw), expected)
    assert (raw.weight is not None) == weight
    assert raw.num_nodes == NUM_NODES
    assert raw.features is not None
    assert np.array_equal(np.asarray(raw.features), X)
    if labels:
        assert raw.labels is not None
        assert np.asarray(raw.labels).tolist() == Y.tolist()
    if splits:
        assert nodes_of(raw) == list(SPLITS.values())


def nodes_of(raw: RawGraph) -> list[list[int]]:
    assert raw.masks is not None
    return [mask.nonzero().flatten().tolist() for mask in raw.masks]


def named(**changes: Any) -> dict[str, Any]:
    arrays = {"edge_index": EDGES, "x": X, "y": Y, "edge_weight": WEIGHT} | {
        f"{name}_mask": MASKS[:, column] for column, name in enumerate(SPLITS)
    }
    return {key: value for key, value in (arrays | changes).items() if value is not None}


# npz with names


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_with_usual_names(save: Any, tmp_path: Path, scratch: Path) -> None:
    save(tmp_path / "mine.npz", **named(age=np.ones(9)))
    read = Read(tmp_path / "mine.npz", scratch)
    check(read.raw, weight=True)
    assert read.said == [
        "mine.npz: npz file (edge_index, x, y, edge_weight, train_mask, val_mask, test_mask, age)"
    ]
    assert read.raw.notes == ("mine.npz: not used: age",)


def test_npz_of_heterophilous_graphs(tmp_path: Path, scratch: Path) -> None:
    masks = {f"{name}_masks": np.stack([MASKS[:, c], MASKS[:, c - 1]]) for c, name in enumerate(SPLITS)}
    np.savez(tmp_path / "t.npz", node_features=X, node_labels=Y, edges=EDGES.T, **masks)
    raw = Read(tmp_path / "t.npz", scratch).raw
    check(raw, splits=False)
    assert raw.masks is not None
    for column, mask in enumerate(raw.masks):
        assert np.array_equal(mask.numpy(), np.stack([MASKS[:, column], MASKS[:, column - 1]], axis=1))


@pytest.mark.parametrize(
    "arrays",
    [
        {"edges": EDGES.T, "features": X, "target": Y},
        {"row": EDGES[0], "col": EDGES[1], "feats": X, "labels": Y[:, None]},
        {"source": EDGES[0], "target": EDGES[1], "node_feat": X, "label": Y.astype(np.float32)},
        {
            "edge_index": EDGES.astype(np.int32),
            "node_feat": X,
            "node_label": Y,
            "num_nodes_list": np.array([9]),
        },
        {"edge_index": np.asfortranarray(EDGES), "x": X.astype(">f4"), "y": Y.astype(">i8")},
        {"edge_index": EDGES.astype(np.float64), "x": X, "y": Y},
    ],
)
def test_npz_under_other_names_and_formats(arrays: dict[str, Any], tmp_path: Path, scratch: Path) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    check(Read(tmp_path / "a.npz", scratch).raw, splits=False)


def test_lists_of_nodes_as_splits_and_text_labels(tmp_path: Path, scratch: Path) -> None:
    lists = {"train_idx": [0, 1, 2], "valid_idx": [3, 4, 5], "idx_test": [6, 7, 8]}
    names = np.array(["b", "a", "", "c", "a", "a", "b", "b", "c"])
    np.savez(tmp_path / "a.npz", edge_index=EDGES, x=X, y=names, **lists)
    raw = Read(tmp_path / "a.npz", scratch).raw
    assert nodes_of(raw) == list(SPLITS.values())
    assert raw.class_names == ("a", "b", "c")
    assert np.asarray(raw.labels).tolist() == [1, 0, -1, 2, 0, 0, 1, 1, 2]


def test_a_single_attribute_of_edges_may_be_meant_as_weight(tmp_path: Path, scratch: Path) -> None:
    np.savez(tmp_path / "a.npz", **named(edge_weight=None, edge_attr=WEIGHT[:, None]))
    raw = Read(tmp_path / "a.npz", scratch).raw
    check(raw)
    assert raw.notes == (
        "edges: edge_attr (one column) is taken as a feature; weights of edges are to be named edge_weight",
    )


def test_features_and_types_of_edges(tmp_path: Path, scratch: Path) -> None:
    attr, kinds = RNG.random((NUM_EDGES, 3)), np.array(["near", "far"])[np.arange(NUM_EDGES) % 2]
    np.savez(tmp_path / "a.npz", **named(edge_feat=attr, edge_type=kinds))
    raw = Read(tmp_path / "a.npz", scratch).raw
    check(raw, weight=True)
    assert np.array_equal(np.asarray(raw.edge_attr), attr)
    assert np.asarray(raw.edge_type).tolist() == [1, 0] * (NUM_EDGES // 2)
    assert raw.edge_type_names == ("far", "near")
    assert raw.notes == ()
    data = Data(x=torch.from_numpy(X), y=torch.from_numpy(Y), edge_index=torch.from_numpy(EDGES))
    data.edge_attr, data.edge_type = torch.from_numpy(attr), torch.arange(NUM_EDGES)
    torch.save(data, tmp_path / "a.pt")
    raw = Read(tmp_path / "a.pt", scratch).raw
    assert np.array_equal(np.asarray(raw.edge_attr), attr)
    assert np.asarray(raw.edge_type).tolist() == list(range(NUM_EDGES))


def test_python_objects_in_an_npz_are_left_alone(tmp_path: Path, scratch: Path) -> None:
    bomb = np.array([Payload(tmp_path / "proof")], dtype=object)
    np.savez(tmp_path / "a.npz", **named(idx_to_node=bomb))
    raw = Read(tmp_path / "a.npz", scratch).raw
    check(raw, weight=True)
    assert raw.notes == ("a.npz: not read: idx_to_node (Python objects, which would be unpickled)",)
    np.savez(tmp_path / "a.npz", edge_index=bomb)
    with pytest.raises(DataError, match=r"a.npz: it holds a.npz: not read: edge_index .Python objects"):
        Read(tmp_path / "a.npz", scratch)
    assert not (tmp_path / "proof").exists()


def test_large_arrays_are_mapped(tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gnnpipe.files.mapped.SMALL_ARRAY", 64)
    for save, num_inflated in ((np.savez, 0), (np.savez_compressed, 4)):
        save(tmp_path / "big.npz", **named())
        raw = Read(tmp_path / "big.npz", scratch).raw
        check(raw, weight=True)
        assert isinstance(raw.features, np.memmap)
        assert len(list(scratch.iterdir())) == num_inflated
    np.savez(tmp_path / "big.npz", **named())
    damaged = bytearray((tmp_path / "big.npz").read_bytes())
    damaged[damaged.index(X.tobytes()) + 5] ^= 1
    (tmp_path / "big.npz").write_bytes(damaged)
    with pytest.raises(DataError, match=r"big.npz': it can't be read .*CRC"):
        Read(tmp_path / "big.npz", scratch)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"edge_index": None}, "it holds x, y, .*; needed is an npz file with edge_index"),
        ({"edge_index": EDGES[:1]}, r"edge_index: expected shape \[2, num_edges\] or .* got \[1, 20\]"),
        ({"edge_index": EDGES + 0.5}, "edge_index: .* is no whole number"),
        ({"y": np.zeros((9, 2, 2))}, "labels: expected shape"),
        ({"x": np.zeros((9, 2, 2))}, "features: expected shape"),
        ({"x": X.astype(complex)}, "features: it holds values of type complex"),
        ({"val_mask": None}, "a split is there, but not for val; give train_mask, val_mask and test_mask"),
        ({"val_mask": np.zeros(4, bool)}, r"val_mask: expected bool \[9\], got bool \[4\]"),
        ({"num_nodes": np.array(8)}, "num_nodes says 8, and there are rows for 9"),
        ({"edge_weight": np.ones((20, 2))}, r"edge weights: expected shape \[num_edges\]"),
    ],
)
def test_what_named_arrays_may_not_be(
    changes: dict[str, Any], message: str, tmp_path: Path, scratch: Path
) -> None:
    np.savez(tmp_path / "a.npz", **named(**changes))
    with pytest.raises(DataError, match=message):
        Read(tmp_path / "a.npz", scratch)


# gnn-benchmark and SciPy


def test_import_of_gnn_benchmark_keeps_weights_and_values(tmp_path: Path, scratch: Path) -> None:
    adjacency = sp.coo_matrix((WEIGHT, tuple(EDGES)), (9, 9)).tocsr()
    features = sp.csr_matrix(X * (X > 0))
    arrays: dict[str, Any] = {"labels": Y, "class_names": np.array(["a", "b", "c"])}
    for name, of in (("adj", adjacency), ("attr", features)):
        arrays |= {f"{name}_{part}": getattr(of, part) for part in ("data", "indices", "indptr", "shape")}
    np.savez(tmp_path / "photo.npz", **arrays)
    raw = Read(tmp_path / "photo.npz", scratch).raw
    assert np.allclose(matrix(raw), adjacency.toarray())
    assert sp.issparse(raw.features)
    assert np.array_equal(raw.features.toarray(), features.toarray())
    assert raw.class_names == ("a", "b", "c")
    assert len(raw.notes) == 1
    assert "--undirected" in raw.notes[0]


@pytest.mark.parametrize("form", ["csr", "csc", "coo"])
@pytest.mark.parametrize("weighted", [False, True])
def test_scipy_matrices(form: str, weighted: bool, tmp_path: Path, scratch: Path) -> None:
    entries = np.ones(NUM_EDGES, np.float32) if not weighted else WEIGHT
    adjacency = sp.coo_matrix((entries, tuple(EDGES)), (9, 9))
    adjacency.sum_duplicates()
    if not weighted:
        adjacency.data[:] = 1
    sp.save_npz(tmp_path / "a.npz", adjacency.asformat(form))
    read = Read(tmp_path / "a.npz", scratch)
    assert np.allclose(matrix(read.raw), adjacency.toarray())
    assert (read.raw.weight is None) == (not weighted)
    assert read.raw.features is read.raw.labels is None
    assert read.said == ["a.npz: sparse matrix of SciPy, rows are sources"]


def test_scipy_matrices_that_are_not_read(tmp_path: Path, scratch: Path) -> None:
    sp.save_npz(tmp_path / "a.npz", sp.dia_matrix(np.eye(3)))
    with pytest.raises(DataError, match=r"format 'dia' are not read; load it with scipy.*tocsr"):
        Read(tmp_path / "a.npz", scratch)
    sp.save_npz(tmp_path / "a.npz", sp.csr_matrix(np.ones((3, 4))))
    with pytest.raises(DataError, match="it is 3 x 4, and an adjacency is square"):
        Read(tmp_path / "a.npz", scratch)


# Matrix Market


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("field", "symmetry"),
    [("real", "general"), ("pattern", "general"), ("integer", "symmetric"), ("pattern", "symmetric")],
)
def test_matrix_market(
    field: str, symmetry: str, packed: bool, tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gnnpipe.files.mapped._TEXT_BLOCK", 64)  # several blocks
    full = sp.coo_matrix((np.round(WEIGHT * 9), tuple(EDGES)), (9, 9)).toarray()
    full = full + full.T if symmetry == "symmetric" else full
    content = io.BytesIO()
    values = full.astype(np.int64) if field == "integer" else full
    scipy.io.mmwrite(content, sp.coo_matrix(values), "two\nlines", field, symmetry=symmetry)
    path = tmp_path / ("a.mtx.gz" if packed else "a.mtx")
    path.write_bytes(gzip.compress(content.getvalue()) if packed else content.getvalue())
    raw = Read(path, scratch).raw
    expected = scipy.io.mmread(io.BytesIO(content.getvalue())).toarray()
    assert np.allclose(matrix(raw), expected)
    assert (raw.weight is None) == (field == "pattern")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("matrix array real general\n2 2\n1\n2\n3\n4\n", "matrix coordinate is needed"),
        ("matrix coordinate complex general\n2 2 1\n1 1 1 1\n", "a matrix that is complex and general"),
        ("matrix coordinate real general\n2 3 1\n1 1 1\n", "2 x 3 is no adjacency"),
        ("matrix coordinate real general\n2 2\n1 1 1\n", "no line with three sizes follows"),
        ("matrix coordinate real general\n2 2 3\n1 1 1\n", "it claims 3 entries and holds 1"),
        ("matrix coordinate real general\n2 2 1\n1 3 1\n", r"node id 2 is out of range for 2 nodes"),
        ("matrix coordinate real general\n2 2 1\n1 1\n", "2 columns, and real entries have 3"),
        ("matrix coordinate real general\n2 2 1\n1 x 1\n", "row 1, column 2: 'x' is no number"),
        ("matrix coordinate real general\n2 2 1\n0 1 1\n", "node id -1 is out of range"),
    ],
)
def test_what_a_matrix_market_file_may_not_hold(
    text: str, message: str, tmp_path: Path, scratch: Path
) -> None:
    (tmp_path / "a.mtx").write_text(f"%%MatrixMarket {text}")
    with pytest.raises(DataError, match=message):
        Read(tmp_path / "a.mtx", scratch)


# GraphSAINT


def saint(folder: Path, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    content = {
        "class_map.json": {str(node): int(Y[node]) for node in reversed(range(9))},
        "role.json": {"train": [0, 1, 2], "va": [3, 4, 5], "test": [6, 7, 8]},
    } | changes
    sp.save_npz(folder / "adj_full.npz", sp.coo_matrix((WEIGHT, tuple(EDGES)), (9, 9)).tocsr())
    np.save(folder / "feats.npy", X)
    for name, value in content.items():
        if value is not None:
            (folder / name).write_text(json.dumps(value))
    return folder


def test_saint_with_weights(tmp_path: Path, scratch: Path) -> None:
    read = Read(saint(tmp_path / "mine"), scratch)
    check(read.raw, weight=True)
    assert read.said == ["mine: GraphSAINT's layout (adj_full.npz, feats.npy, class_map.json, role.json)"]
    folder = saint(tmp_path / "mine", **{"class_map.json": None, "role.json": None})
    (folder / "role.json").unlink()
    (folder / "class_map.json").unlink()
    (folder / "adj_train.npz").write_bytes(b"")
    raw = Read(folder, scratch).raw
    assert raw.labels is raw.masks is None
    assert raw.notes == ("mine: not used: adj_train.npz",)
    (folder / "feats.npy").unlink()
    with pytest.raises(DataError, match="looked for"):  # two npz files, and nothing says which
        Read(folder, scratch)


def test_saint_without_features(tmp_path: Path, scratch: Path) -> None:
    folder = saint(tmp_path)
    (folder / "feats.npy").unlink()
    raw = Read(folder, scratch).raw
    assert raw.features is None
    assert raw.num_nodes == NUM_NODES
    assert nodes_of(raw) == list(SPLITS.values())


# .pt


def data(**changes: Any) -> Data:
    content = {key: torch.from_numpy(np.asarray(value)) for key, value in named().items()} | changes
    return Data(**content)


class One(InMemoryDataset):
    """A data set of given graphs, as its authors save it."""


@pytest.mark.parametrize("form", ["data", "dict", "list", "saved"])
def test_pt_files(form: str, tmp_path: Path, scratch: Path) -> None:
    path, graph = tmp_path / "data.pt", data(year=torch.zeros(9))
    if form == "saved":
        InMemoryDataset.save([graph], str(path))
    else:
        torch.save({"data": graph, "dict": graph.to_dict(), "list": [graph]}[form], path)
    raw = Read(path, scratch).raw
    check(raw, weight=True)
    assert raw.notes == ("data.pt: not used: year",)


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
def test_pt_with_sparse_adjacency_and_half_features(tmp_path: Path, scratch: Path) -> None:
    edges = torch.from_numpy(EDGES)
    weights = torch.from_numpy(WEIGHT)
    with torch.sparse.check_sparse_tensor_invariants(True):
        adj_t = torch.sparse_coo_tensor(edges.flip(0), weights, (9, 9)).coalesce().to_sparse_csr()
    torch.save({"adj_t": adj_t, "x": torch.from_numpy(X).half(), "y": torch.from_numpy(Y)}, tmp_path / "a.pt")
    raw = Read(tmp_path / "a.pt", scratch).raw
    assert np.allclose(matrix(raw), sp.coo_matrix((WEIGHT, tuple(EDGES)), (9, 9)).toarray())
    assert isinstance(raw.features, torch.Tensor)
    assert raw.features.dtype == torch.float16


def test_pt_files_that_are_refused(tmp_path: Path, scratch: Path) -> None:
    hetero = HeteroData()
    hetero["paper"].x = torch.ones(3, 2)
    hetero["paper", "cites", "paper"].edge_index = torch.zeros(2, 1, dtype=torch.int64)
    path = tmp_path / "a.pt"
    for content, message in (
        (hetero, r"several kinds of nodes; make it homogeneous first: .*to_homogeneous\(\)"),
        (hetero.to_dict(), "several kinds of nodes"),
        ([data(), data()], "it holds 2 graphs, and one is needed"),
        ({"x": torch.ones(3)}, "but no edges"),
        (torch.ones(3), "it holds a Tensor; a .pt file with"),
        ({"x": Payload(tmp_path / "proof")}, r"which is not unpickled.*save the tensors alone"),
    ):
        torch.save(content, path)
        with pytest.raises(DataError, match=message):
            Read(path, scratch)
    InMemoryDataset.save([data(), data()], str(path))
    with pytest.raises(DataError, match="it holds 2 graphs"):
        Read(path, scratch)
    assert not (tmp_path / "proof").exists()


# npy files


def save_npy(folder: Path, **arrays: np.ndarray) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return folder


def test_a_folder_of_npy_files_is_mapped(
    tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gnnpipe.files.mapped.SMALL_ARRAY", 64)
    lists = {f"{name}_idx": np.array(nodes) for name, nodes in SPLITS.items()}
    folder = save_npy(tmp_path / "big", edges=EDGES.T, features=X.astype(np.float16), labels=Y, **lists)
    (folder / "split_dict.pt").write_bytes(pickle.dumps(Payload(tmp_path / "proof")))
    raw = Read(folder, scratch).raw
    assert isinstance(raw.features, np.memmap)
    assert raw.features.dtype == np.float16
    assert np.array_equal(raw.features, X.astype(np.float16))
    assert np.shares_memory(np.asarray(raw.edge_index), np.asarray(raw.edge_index).T)
    assert np.array_equal(np.asarray(raw.edge_index), EDGES)
    assert nodes_of(raw) == list(SPLITS.values())
    assert raw.notes == ("big: not used: split_dict.pt",)
    assert not list(scratch.iterdir())


@pytest.mark.parametrize("layout", ["MAG240M", "IGB"])
def test_papers_of_large_sets(layout: str, tmp_path: Path, scratch: Path) -> None:
    processed = tmp_path / layout / "processed"
    labels = Y.astype(np.float32)
    labels[2] = np.nan
    if layout == "MAG240M":
        paper = {"node_feat": X.astype(np.float16), "node_label": labels, "node_year": np.full(9, 2019)}
        cites, edges = "paper___cites___paper", EDGES
    else:
        paper = {"node_feat": X, "node_label_19": labels, "node_label_2K": labels}
        cites, edges = "paper__cites__paper", EDGES.T
    save_npy(processed / "paper", **paper)
    save_npy(processed / cites, edge_index=edges)
    save_npy(processed / "author__writes__paper", edge_index=edges)
    read = Read(tmp_path / layout, scratch)
    assert np.array_equal(np.asarray(read.raw.edge_index), EDGES)
    assert np.asarray(read.raw.features).dtype == paper["node_feat"].dtype
    assert np.array_equal(np.asarray(read.raw.labels), labels, equal_nan=True)
    assert read.raw.masks is None
    left, unused = read.raw.notes
    assert left == "other kinds of nodes and edges are left out: author__writes__paper"
    assert unused.endswith("node_year" if layout == "MAG240M" else "node_label_2K")
    assert read.said == [f"processed: papers and their citations ({cites})"]


def test_one_npy_file_of_edges(tmp_path: Path, scratch: Path) -> None:
    np.save(tmp_path / "e.npy", EDGES.T)
    raw = Read(tmp_path / "e.npy", scratch).raw
    assert np.array_equal(np.asarray(raw.edge_index), EDGES)
    assert raw.num_nodes == EDGES.max() + 1


# GraphBolt


def graphbolt(folder: Path, metadata: str | None = None, **changes: str) -> Path:
    """A raw folder as the documentation of OnDiskDataset makes it."""
    save_npy(folder, feat=X.astype(np.float16), weight=WEIGHT, edges=EDGES)
    np.savetxt(folder / "edges.csv", EDGES.T, fmt="%d", delimiter=",")
    for name, nodes in SPLITS.items():
        save_npy(folder, **{name: np.array(nodes), f"{name}_labels": Y[nodes]})
    torch.save(torch.from_numpy(Y[SPLITS["val"]]), folder / "val_labels.pt")
    text = {
        "nodes": "[{num: 9}]",
        "edges": "[{format: csv, path: edges.csv}]",
        "test": "[{data: [{name: seeds, format: numpy, in_memory: true, path: test.npy}]}]",
    } | changes
    (folder / "metadata.yaml").write_text(
        metadata
        if metadata is not None
        else f"""
dataset_name: mine
graph:
  nodes: {text["nodes"]}
  edges: {text["edges"]}
  feature_data:
    - {{domain: edge, type: null, name: weight, format: numpy, path: weight.npy}}
feature_data:
  - {{domain: node, type: null, name: feat, format: numpy, in_memory: false, path: feat.npy}}
  - {{domain: node, type: null, name: year, format: numpy, in_memory: false, path: feat.npy}}
tasks:
  - name: node_classification
    num_classes: 3
    train_set:
      - type: null
        data:
          - {{name: seeds, format: numpy, in_memory: true, path: train.npy}}
          - {{name: labels, format: numpy, in_memory: true, path: train_labels.npy}}
    validation_set:
      - data:
          - {{name: seeds, format: numpy, path: val.npy}}
          - {{name: labels, format: torch, path: val_labels.pt}}
    test_set: {text["test"]}
  - name: link_prediction
    train_set: [{{data: [{{name: seeds, format: numpy, path: edges.npy}}]}}]
"""
    )
    return folder


@pytest.mark.parametrize("edges", ["{format: csv, path: edges.csv}", "{format: numpy, path: edges.npy}"])
def test_graphbolt(edges: str, tmp_path: Path, scratch: Path) -> None:
    read = Read(graphbolt(tmp_path / "g", edges=f"[{edges}]"), scratch)
    raw = read.raw
    assert np.allclose(matrix(raw), sp.coo_matrix((WEIGHT, tuple(EDGES)), (9, 9)).toarray())
    assert np.asarray(raw.features).dtype == np.float16
    expected = [*Y[:6].tolist(), *[-1] * 3]  # labels of the test set are hidden
    assert np.nan_to_num(np.asarray(raw.labels), nan=-1).tolist() == expected
    assert nodes_of(raw) == list(SPLITS.values())
    assert raw.notes == ("metadata.yaml: not used: task link_prediction, node feature year",)
    assert read.said == ["g: GraphBolt's folder 'mine'"]


def test_features_of_a_graphbolt_graph_and_second_ones(tmp_path: Path, scratch: Path) -> None:
    """Features of nodes beside the edges, and those with another usual name, were lost without a word."""
    folder = graphbolt(tmp_path / "g")
    path = folder / "metadata.yaml"
    feat = "  - {domain: node, type: null, name: feat, format: numpy, in_memory: false, path: feat.npy}\n"
    path.write_text(path.read_text().replace(feat, feat + feat.replace("feat, f", "features, f")))
    assert "node feature feat," in Read(folder, scratch).raw.notes[0]
    path.write_text(
        path.read_text().replace(feat, "").replace("feature_data:\n    -", f"feature_data:\n  {feat}    -")
    )
    raw = Read(folder, tmp_path / "again").raw
    assert raw.features is not None
    assert raw.weight is not None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nodes": "[{type: a, num: 4}, {type: b, num: 5}]"}, "graph.nodes: several kinds .*to_homogeneous"),
        ({"edges": "[{type: 'a:likes:b', format: csv, path: edges.csv}]"}, "several kinds"),
        ({"edges": "[{format: csv, path: ../edges.csv}]"}, "is no path of a file inside the folder"),
        ({"edges": "[{format: csv, path: /etc/passwd}]"}, "is no path of a file inside the folder"),
        ({"edges": "[{format: csv, path: none.csv}]"}, "graph.edges: 'none.csv' can't be read"),
        ({"edges": "[{format: orc, path: edges.csv}]"}, "format 'orc' is not known"),
        ({"edges": "[]"}, "graph.edges is absent"),
        ({"edges": "7"}, "graph.edges: a list of entries is needed"),
        ({"nodes": "[{num: many}]"}, "num: 'many' is no number of nodes"),
        ({"nodes": "[{num: 3}]"}, "validation_set: node id 5 is out of range for 3 nodes"),
        ({"metadata": "graph_topology: {type: FusedCSCSamplingGraph}"}, "give the raw folder"),
        ({"metadata": "[1, 2]"}, "it holds no fields"),
    ],
)
def test_what_a_graphbolt_folder_may_not_hold(
    changes: dict[str, str], message: str, tmp_path: Path, scratch: Path
) -> None:
    with pytest.raises(DataError, match=message):
        Read(graphbolt(tmp_path / "g", **changes), scratch)


# Detection


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "g.pkl",
            pickle.dumps({1: 2}),
            r"a pickle, which would .*convert it yourself.*networkx",
        ),
        ("g.gpickle", pickle.dumps([1], protocol=2), "a pickle"),
        ("graph.bin", b"\x28\xa1\xb4\xf6\xf0\x60\x2e\xdd" + bytes(20), "dgl.load_graphs"),
        ("graph.h5", b"\x89HDF\r\n\x1a\n" + bytes(20), "h5py.File"),
        ("graph.mat", b"MATLAB 5.0 MAT-file" + bytes(20), "scipy.io.loadmat"),
        ("graph.graphml", b"<?xml version='1.0'?><graphml/>", "read_graphml"),
        ("graph.json", b'{"nodes": []}', "node_link_graph"),
        ("graph.db", b"SQLite format 3\0", "to_csv"),
        ("graph.tar", bytes(257) + b"ustar" + bytes(10), "unpack it"),
        ("graph.pkl.gz", gzip.compress(pickle.dumps({1: 2})), "a pickle"),
        ("graph.zip", b"PK\x03\x04nothing", r"begins with .*looked for: .*Matrix.*CSV, TSV or Parquet"),
        ("empty", b"", "looked for"),
        ("bad.npz", b"PK\x03\x04", "looked for"),
    ],
)
def test_what_is_refused_with_a_way_out(
    name: str, content: bytes, message: str, tmp_path: Path, scratch: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        Read(tmp_path / name, scratch)
    assert "\n" not in str(caught.value)


def test_folders_that_are_no_graph(tmp_path: Path, scratch: Path) -> None:
    with pytest.raises(DataError, match="there is no such file or folder"):
        Read(tmp_path / "none", scratch)
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(DataError, match=r"it holds nothing; looked for: .*metadata.yaml.*edge.csv.gz"):
        Read(folder, scratch)
    (folder / "data.mdb").write_bytes(b"")
    (folder / "lock.mdb").write_bytes(b"")
    with pytest.raises(DataError, match="it is LMDB"):
        Read(folder, scratch)
    (folder / "graph.yaml").write_text("")
    with pytest.raises(DataError, match="it is a graph folder already; train on it with --graph"):
        Read(folder, scratch)


def test_a_folder_around_one_file_is_that_file(tmp_path: Path, scratch: Path) -> None:
    raw = tmp_path / "set" / "raw"
    raw.mkdir(parents=True)
    np.savez(raw / "mine.npz", **named())
    check(Read(tmp_path / "set", scratch).raw, weight=True)


# Real files


@pytest.mark.parametrize(
    ("name", "nodes", "edges", "features"),
    [
        ("CityNetwork/pasadena.npz", 12_409, 31_373, 37),
        ("HeterophilousGraphDataset/minesweeper", 10_000, 39_402, 7),
        ("Amazon/Photo", 7_650, 143_663, 745),
        ("OgbnArxivSaint", 169_343, 1_166_243, None),
        ("cnr2000", 325_557, 3_216_152, None),
    ],
)
def test_real_files(name: str, nodes: int, edges: int, features: int | None, scratch: Path) -> None:
    if not (SHARED_DATA / name).exists():
        pytest.skip(f"real data not found in {SHARED_DATA}; set GNNPIPE_TEST_DATA to have these tests run")
    raw = Read(SHARED_DATA / name, scratch).raw
    assert raw.num_nodes == nodes
    assert np.asarray(raw.edge_index).shape == (2, edges)
    assert (None if raw.features is None else raw.features.shape[1]) == features


@pytest.mark.parametrize(
    ("content", "message"),
    [("u,v\n1,2\n".encode("utf-16"), "it is UTF-16; save it as UTF-8"), (b"", "it is empty")],
)
def test_what_is_wrong_with_a_table_is_said_by_its_reader(
    tmp_path: Path, scratch: Path, content: bytes, message: str
) -> None:
    """A folder of tables in UTF-16 was no table, and the message listed all that was looked for."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "edges.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        Read(tmp_path / "in", scratch)
