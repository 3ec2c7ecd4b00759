"""Layouts of raw files, written here, as `load_dataset` reads them."""

from __future__ import annotations

import gzip
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from gnnpipe.config.run import RunConfig
from gnnpipe.errors import DataError
from gnnpipe.graph.data import Graph
from gnnpipe.graph.sources.datasets import load_dataset
from tests.graphs import dense

NUM_NODES = 12
# a ring, and 0 -> 5
SOURCE = [*range(NUM_NODES), 0]
TARGET = [*range(1, NUM_NODES), 0, 5]
FEATURES = np.arange(NUM_NODES * 3, dtype=np.float32).reshape(NUM_NODES, 3)
LABELS = [node % 3 for node in range(NUM_NODES)]
ROLE: dict[str, Any] = {"tr": [0, 1, 2, 3, 4, 5], "va": [6, 7, 8], "te": [9, 10, 11]}


class Bomb:
    """Whoever unpickles it fails the test."""

    def __reduce__(self) -> Any:
        return pytest.fail, ("a file was unpickled",)


def adjacency() -> sp.csr_matrix:
    ones = np.ones(len(SOURCE), dtype=np.float32)
    return sp.csr_matrix((ones, (SOURCE, TARGET)), shape=(NUM_NODES, NUM_NODES))


def expected() -> torch.Tensor:
    matrix = torch.zeros(NUM_NODES, NUM_NODES)
    matrix[TARGET, SOURCE] = 1
    return matrix


# GraphSAINT's layout


def saint(root: Path, **changes: Any) -> RunConfig:
    raw = root / "raw"
    raw.mkdir(parents=True)
    content: dict[str, Any] = {
        "adj": {part: getattr(adjacency(), part) for part in ("data", "indices", "indptr", "shape")},
        "feats": FEATURES,
        "classes": {str(node): label for node, label in enumerate(LABELS)},
        "role": ROLE,
    }
    content |= changes
    np.savez(raw / "adj_full.npz", **content["adj"])
    np.save(raw / "feats.npy", content["feats"], allow_pickle=True)
    (raw / "class_map.json").write_text(json.dumps(content["classes"]))
    (raw / "role.json").write_text(json.dumps(content["role"]))
    return RunConfig(dataset="Flickr", root=str(root))


def weighted() -> dict[str, Any]:
    matrix = adjacency()
    return {
        "data": matrix.data * 0.5,
        "indices": matrix.indices,
        "indptr": matrix.indptr,
        "shape": matrix.shape,
    }


def test_a_saint_graph_is_what_its_files_say(tmp_path: Path) -> None:
    data = load_dataset(saint(tmp_path))
    assert torch.equal(dense(data.adjacency), expected())
    assert data.labels.tolist() == LABELS
    assert {name: mask.nonzero().flatten().tolist() for name, mask in data.masks.items()} == {
        "train": ROLE["tr"], "val": ROLE["va"], "test": ROLE["te"],
    }  # fmt: skip
    assert data.notes == ()


def test_weights_of_edges_are_kept(tmp_path: Path) -> None:
    data = load_dataset(saint(tmp_path, adj=weighted()))
    assert data.weighted
    assert torch.equal(dense(data.adjacency), expected() * 0.5)
    assert data.notes == ("edges: weights from 0.5 to 0.5 are used",)


def test_nodes_without_a_class_are_not_trained_on(tmp_path: Path) -> None:
    classes = {str(node): label for node, label in enumerate(LABELS) if node != 3}
    data = load_dataset(saint(tmp_path, classes=classes | {"7": float("nan")}))
    assert data.labels[[3, 7]].tolist() == [-1, -1]
    assert data.notes == (
        "train_mask: 1 of 6 nodes have no label and are left out",
        "val_mask: 1 of 3 nodes have no label and are left out",
    )


def test_several_labels_a_node(tmp_path: Path) -> None:
    classes = {str(node): [node % 2, 1, 0] for node in range(NUM_NODES) if node != 11}
    data = load_dataset(saint(tmp_path, classes=classes))
    assert data.task == "multilabel"
    assert data.labels[11].isnan().all()
    assert data.test_mask.tolist() == [False] * 9 + [True, True, False]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"role": ROLE | {"va": []}},
            "role.json: 'va' names no node; training, validation",
        ),
        ({"role": ROLE | {"tr": []}}, "role.json: 'tr' names no node"),
        ({"role": ROLE | {"te": []}}, "role.json: 'te' names no node"),
        ({"role": {"tr": [0], "te": [1]}}, "role.json: 'va' is missing"),
        ({"role": ROLE | {"va": [6.5]}}, "role.json: 'va': 6.5 is no whole number"),
        (
            {"role": ROLE | {"va": [-1]}},
            r"role.json: 'va': node id -1 is out of range for 12",
        ),
        ({"role": ROLE | {"va": [12]}}, "role.json: 'va': node id 12 is out of range"),
        ({"role": ROLE | {"va": ["six"]}}, "role.json: 'va': .*six.* is no list of node ids"),
        ({"role": ROLE | {"va": [5]}}, "train_mask and val_mask overlap in 1 nodes"),
        ({"classes": {str(n): 4.206 + n for n in range(12)}}, "labels: 4.206 of node 0 is no class number"),
        ({"classes": {"0": "cat"}}, "class_map.json: 'cat' is neither a class number nor a list"),
        ({"classes": {"zero": 1}}, "class_map.json: a key is no node id"),
        ({"classes": {"12": 1}}, "class_map.json: node id 12 is out of range for 12 nodes"),
        (
            {"classes": {"0": [1, 0], "1": [1]}},
            "class_map.json: give each node one class",
        ),
        (
            {"classes": {"0": [1, 0], "1": 1}},
            "class_map.json: give each node one class",
        ),
        ({"classes": {}}, "none of its 6 nodes has a label"),
        (
            {"feats": np.full((12, 2), np.nan)},
            "features: 24 of 24 entries are NaN",
        ),
        ({"feats": np.full((12, 2), "x")}, "feats.npy: it holds values of type <U1"),
        ({"feats": np.array([[Bomb()] * 2] * 12)}, "it holds Python objects, which would be unpickled"),
        ({"feats": FEATURES[:5]}, "adj_full.npz: it is 12 x 12, and feats.npy has 5 rows"),
        (
            {"adj": {**weighted(), "indices": np.full(13, 40)}},
            "indices: node id 40 is out of range",
        ),
        ({"adj": {**weighted(), "indices": np.full(13, 0.5)}}, "indices: 0.5 is no whole number"),
        ({"adj": {**weighted(), "indptr": np.arange(13) * 2}}, "indptr: it does not rise from 0 to 13"),
        ({"adj": {**weighted(), "indptr": np.arange(3)}}, "indptr: 2 rows for a matrix of 12"),
        ({"adj": {"data": np.ones(3)}}, "adj_full.npz: indices, indptr, shape absent"),
    ],
)
def test_what_a_saint_file_may_not_hold(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load_dataset(saint(tmp_path, **changes))
    assert "\n" not in str(caught.value)


# The layout of Amazon and Coauthor


def photo(root: Path, **changes: Any) -> RunConfig:
    raw = root / "Photo" / "raw"
    raw.mkdir(parents=True)
    features = sp.csr_matrix(FEATURES > 5, dtype=np.float32)
    content: dict[str, Any] = {"labels": np.array(LABELS)}
    for name, matrix in (("adj", adjacency()), ("attr", features)):
        content |= {
            f"{name}_{part}": getattr(matrix, part) for part in ("data", "indices", "indptr", "shape")
        }
    np.savez(raw / "amazon_electronics_photo.npz", **(content | changes))
    return RunConfig(dataset="Photo", root=str(root))


def test_photo_with_weights_counts_and_loops_says_what_is_made_of_them(tmp_path: Path) -> None:
    looped = adjacency()
    looped.setdiag(2.0)
    counts = sp.csr_matrix(FEATURES)
    changes = {f"adj_{part}": getattr(looped, part) for part in ("data", "indices", "indptr", "shape")}
    changes |= {f"attr_{part}": getattr(counts, part) for part in ("data", "indices", "indptr", "shape")}
    data = load_dataset(photo(tmp_path, **changes))
    assert data.notes == (
        "amazon_electronics_photo.npz: adj_data: edge weights (1 to 2) are not used; every edge counts 1",
        "features: 34 entries above 0 are taken as 1, as torch_geometric does",
        "edges: 12 self loops are left out and 13 edges become 26, one each way, as torch_geometric does",
    )
    both = ((expected() + expected().T) > 0).float()
    assert torch.equal(dense(data.adjacency), both)


def test_photo_with_nodes_without_a_label_gets_a_split_of_the_others(tmp_path: Path) -> None:
    labels = np.array(LABELS)
    labels[:4] = -1
    data = load_dataset(photo(tmp_path, labels=labels))
    used = data.train_mask | data.val_mask | data.test_mask
    assert used.tolist() == [False] * 4 + [True] * 8


def test_too_few_labels_to_make_a_split_of(tmp_path: Path) -> None:
    labels = np.full(NUM_NODES, np.nan)
    labels[:3] = 1
    with pytest.raises(DataError, match="labels: 3 nodes have one, and Photo ships no split; 5 are needed"):
        load_dataset(photo(tmp_path, labels=labels))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.linspace(0, 4.5, NUM_NODES), "labels: 0.4.* of node 1 is no class number"),
        (np.array([1j] * NUM_NODES), "labels: it holds values of type complex128"),
        (np.arange(NUM_NODES - 1), "labels: 11 rows for 12 nodes|out of range"),
    ],
)
def test_labels_that_a_photo_file_may_not_hold(labels: np.ndarray, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        load_dataset(photo(tmp_path, labels=labels))


# OGB's layout


def csv(path: Path, rows: Any, *, packed: bool = True) -> None:
    cells = ([*row] if isinstance(row, list | tuple | np.ndarray) else [row] for row in rows)
    text = "".join(",".join("" if v is None else str(v) for v in row) + "\n" for row in cells)
    path.parent.mkdir(parents=True, exist_ok=True)
    if packed:
        with gzip.open(f"{path}.csv.gz", "wt") as file:
            file.write(text)
    else:
        path.with_name(f"{path.name}.csv").write_text(text)


def ogb(root: Path, folder: str = "ogbn_arxiv", split: str = "time", **changes: Any) -> Path:
    content: dict[str, Any] = {
        "edge": list(zip(SOURCE, TARGET, strict=True)),
        "node-feat": FEATURES,
        "node-label": LABELS,
        "num-node-list": [NUM_NODES],
        "num-edge-list": [len(SOURCE)],
        "train": ROLE["tr"],
        "valid": ROLE["va"],
        "test": ROLE["te"],
    }
    place = root / folder
    for name, rows in (content | changes).items():
        if rows is not None:
            inside = f"split/{split}" if name in ("train", "valid", "test") else "raw"
            csv(place / inside / name, rows)
    # what OGB's own package leaves behind
    for name in ("processed/geometric_data_processed.pt", f"split/{split}/split_dict.pt", "raw/data.pt"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(pickle.dumps(Bomb()))
    return place


def load_ogb(root: Path, name: str = "ogbn-arxiv") -> Graph:
    return load_dataset(RunConfig(dataset=name, root=str(root)))


@pytest.mark.parametrize("folder", ["ogbn_arxiv", "arxiv", "."])
def test_ogbn_arxiv_is_read_from_its_raw_files(folder: str, tmp_path: Path) -> None:
    ogb(tmp_path, folder)
    data = load_ogb(tmp_path)
    assert torch.equal(dense(data.adjacency), expected())
    assert isinstance(data.features, torch.Tensor)
    assert torch.equal(data.features, torch.from_numpy(FEATURES))
    assert data.labels.tolist() == LABELS
    assert [mask.nonzero().flatten().tolist() for mask in data.masks.values()] == list(ROLE.values())
    assert data.notes == ()


def test_ogbn_products_gets_each_edge_both_ways(tmp_path: Path) -> None:
    """OGB's reader does so, too, for data sets that list an undirected edge once."""
    ogb(tmp_path, "ogbn_products", "sales_ranking")
    data = load_ogb(tmp_path, "ogbn-products")
    assert torch.equal(dense(data.adjacency), expected() + expected().T)


def test_ogbn_papers_is_read_from_its_arrays(tmp_path: Path) -> None:
    raw = ogb(tmp_path, "ogbn_papers100M", **dict.fromkeys(("edge", "node-feat", "node-label"))) / "raw"
    np.savez(
        raw / "data.npz", edge_index=np.array([SOURCE, TARGET]), node_feat=FEATURES.astype(np.float16),
        node_year=np.zeros((NUM_NODES, 1)), num_nodes_list=np.array([NUM_NODES]),
        num_edges_list=np.array([13]),
    )  # fmt: skip
    labels = np.array(LABELS, dtype=np.float32).reshape(-1, 1)
    labels[[0, 6]] = np.nan
    np.savez(raw / "node-label.npz", node_label=labels)
    data = load_ogb(tmp_path, "ogbn-papers100M")
    assert torch.equal(dense(data.adjacency), expected())
    assert data.labels.tolist() == [-1, 1, 2, 0, 1, 2, -1, 1, 2, 0, 1, 2]
    assert data.notes == (
        "data.npz: not used: node_year",
        "train_mask: 1 of 6 nodes have no label and are left out",
        "val_mask: 1 of 3 nodes have no label and are left out",
    )


def test_plain_csv_files_and_unused_tables(tmp_path: Path) -> None:
    place = ogb(tmp_path, edge=None, **{"edge-feat": [[0.5]] * 13, "node_year": [2010] * NUM_NODES})
    csv(place / "raw" / "edge", zip(SOURCE, TARGET, strict=True), packed=False)
    data = load_ogb(tmp_path)
    assert torch.equal(dense(data.adjacency), expected())
    assert data.notes == ("raw: not used: node_year",)
    assert data.edge_attr is not None
    assert data.edge_attr.tolist() == [[0.5]] * 13


def test_an_empty_cell_is_no_label(tmp_path: Path) -> None:
    ogb(tmp_path, **{"node-label": [None, *LABELS[1:9], "nan", *LABELS[10:]]})
    assert load_ogb(tmp_path).labels.tolist() == [-1, *LABELS[1:9], -1, *LABELS[10:]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"edge": None}, r"raw' holds no edge; expected edge.csv.gz or edge.csv or edge.npz"),
        ({"node-feat": None}, "holds no node-feat"),
        ({"node-label": None}, "holds no node-label"),
        ({"valid": None}, "time' holds no valid"),
        ({"edge": [(0, 12)]}, "num-edge-list: it says 13, but there are 1|node id 12 is out of range"),
        ({"edge": [(0, 1.5)] * 13}, "edge: 1.5 is no whole number"),
        ({"edge": [(0, -1)] * 13}, "node id -1 is out of range"),
        ({"edge": [(0, 1, 2)] * 13}, "edge: expected two columns"),
        ({"edge": [("a", "b")] * 13}, "edge.csv.gz' can't be read"),
        ({"node-feat": [[1, 2], [1]]}, "node-feat.csv.gz' can't be read"),
        ({"node-feat": FEATURES[:5]}, "num-node-list: it says 12, but there are 5"),
        ({"node-feat": [[None, 2]] * 12}, "can't be read|features: 12 of 24 entries are NaN"),
        ({"num-node-list": [6, 6]}, "num-node-list: it lists 2 graphs, and one is needed"),
        ({"node-label": LABELS[:5]}, "labels: 5 rows for 12 nodes"),
        ({"node-label": [4.206] * 12}, "labels: 4.206 of node 0 is no class number"),
        ({"train": [40]}, "time/train: node id 40 is out of range for 12 nodes"),
        ({"train": []}, "time/train names no node"),
        ({"test": [0.5]}, "time/test: 0.5 is no whole number"),
    ],
)
def test_what_an_ogb_file_may_not_hold(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    ogb(tmp_path, **changes)
    with pytest.raises(DataError, match=message) as caught:
        load_ogb(tmp_path)
    assert "\n" not in str(caught.value)


def test_an_empty_raw_folder_is_not_downloaded_again(tmp_path: Path) -> None:
    (tmp_path / "ogbn_arxiv" / "raw").mkdir(parents=True)
    with pytest.raises(DataError, match="holds no edge"):
        load_ogb(tmp_path)


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    place = ogb(tmp_path)
    (place / "raw" / "edge.csv.gz").write_bytes(b"not gzip")
    with pytest.raises(DataError, match=r"edge.csv.gz' can't be read .*download it anew"):
        load_ogb(tmp_path)
    (place / "raw" / "edge.csv.gz").write_bytes(gzip.compress(b"0,1\n" * 1000)[:-12])
    with pytest.raises(DataError, match=r"edge.csv.gz' can't be read"):
        load_ogb(tmp_path)
