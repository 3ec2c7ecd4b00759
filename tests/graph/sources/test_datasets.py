"""Data sets by name; the real ones where their files are to be had."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.datasets import Amazon

from gnnpipe.config.catalog import dataset_names
from gnnpipe.config.run import RunConfig, SyntheticConfig
from gnnpipe.errors import ConfigError, DataError
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.cut.locality import Locality
from gnnpipe.graph.data import Graph
from gnnpipe.graph.sources.datasets import load_dataset
from gnnpipe.graph.sources.synthetic import planted_partition
from gnnpipe.graph.splits import per_class_split, random_split
from tests.graphs import dense, one_node_each, private_root


def test_unknown_name() -> None:
    with pytest.raises(
        DataError,
        match=r"dataset: 'Coar' is not known; did you mean 'Cora'\? Choose one of synthetic; Cora, CiteSeer",
    ):
        load_dataset(RunConfig(dataset="Coar"))


def test_absent_files_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(self: Amazon) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(Amazon, "download", no_network)
    with pytest.raises(
        DataError,
        match=r"root: Amazon finds no files in '.*Photo.raw'.*put there: amazon_electronics_photo.npz",
    ):
        load_dataset(RunConfig(dataset="photo", root=str(tmp_path)))


def test_corrupt_files(tmp_path: Path) -> None:
    raw = tmp_path / "Photo" / "raw"
    raw.mkdir(parents=True)
    (raw / "amazon_electronics_photo.npz").write_bytes(b"not a zip file")
    with pytest.raises(DataError, match=r"root: can't read Photo from .*give the folder"):
        load_dataset(RunConfig(dataset="photo", root=str(tmp_path)))
    with pytest.raises(DataError, match=r"root: can't read Photo from '.*npz' \(NotADirectoryError"):
        load_dataset(RunConfig(dataset="photo", root=str(raw / "amazon_electronics_photo.npz")))


def test_names_are_unique_in_any_case() -> None:
    names = dataset_names()
    assert len({name.lower() for name in names}) == len(names)


@pytest.mark.parametrize(
    ("name", "folder", "nodes", "edges", "features", "classes", "train"),
    [
        ("Cora", "Planetoid", 2708, 10556, 1433, 7, 140),
        ("citeseer", "Planetoid", 3327, 9104, 3703, 6, 120),
        ("Photo", "Amazon", 7650, 238162, 745, 8, 4590),
        ("chameleon", "WikipediaNetwork", 2277, 36101, 2325, 5, 1092),
        ("tolokers", "HeterophilousGraphDataset", 11758, 1038000, 10, 2, 5879),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # numpy's, from unpickling Planetoid's files in PyG
def test_real_graphs(
    tmp_path: Path, name: str, folder: str, nodes: int, edges: int, features: int, classes: int, train: int
) -> None:
    data = load_dataset(RunConfig(dataset=name, root=str(private_root(tmp_path, folder))))
    assert (data.num_nodes, data.num_edges) == (nodes, edges)
    assert (data.num_features, data.num_classes) == (features, classes)
    assert int(data.train_mask.sum()) == train


def test_splits_that_ship(tmp_path: Path) -> None:
    root = str(private_root(tmp_path, "WikipediaNetwork"))
    first, second = (load_dataset(RunConfig(dataset="chameleon", root=root, split=i)) for i in (0, 1))
    assert not torch.equal(first.train_mask, second.train_mask)
    with pytest.raises(DataError, match=r"split: 10 does not exist; chameleon ships 10 \(use 0 to 9\)"):
        load_dataset(RunConfig(dataset="chameleon", root=root, split=10))


def test_sparse_reader_equals_torch_geometric(tmp_path: Path) -> None:
    root = private_root(tmp_path, "Amazon")
    ours = load_dataset(RunConfig(dataset="Photo", root=str(root)))
    theirs = Amazon(str(root), "Photo")[0]
    features = ours.features if isinstance(ours.features, torch.Tensor) else dense(ours.features)
    assert torch.equal(features, theirs.x)
    assert torch.equal(ours.labels, theirs.y)
    adjacency = torch.zeros(ours.num_nodes, ours.num_nodes)
    adjacency[theirs.edge_index[1], theirs.edge_index[0]] = 1.0
    assert torch.equal(dense(ours.adjacency), adjacency)


def test_physics_stays_sparse(tmp_path: Path) -> None:
    data = load_dataset(RunConfig(dataset="Physics", root=str(private_root(tmp_path, "Coauthor"))))
    assert isinstance(data.features, Csr)
    assert data.features.num_entries == 1_137_311
    assert data.features.nbytes < 10 * 2**20


def test_synthetic_is_a_function_of_its_config() -> None:
    one, two = (planted_partition(SyntheticConfig(num_nodes=500)) for _ in range(2))
    other = planted_partition(SyntheticConfig(num_nodes=500, seed=1))
    assert torch.equal(one.adjacency.col, two.adjacency.col)
    assert not torch.equal(one.labels, other.labels)


def test_reach_keeps_edges_among_neighbouring_blocks() -> None:
    config = SyntheticConfig(num_nodes=3000, blocks_per_class=3, homophily=0.5, reach=2)
    data = planted_partition(config)
    locality = Locality(data.adjacency, np.ones(3000))
    assert locality.cut(8).width <= 2
    assert Locality(planted_partition(replace(config, reach=0)).adjacency, np.ones(3000)).cut(8).width == 7


def test_synthetic_is_what_was_asked_for() -> None:
    config = SyntheticConfig(num_nodes=4000, avg_degree=12, num_classes=4, homophily=0.8)
    data = planted_partition(config)
    adjacency = data.adjacency.to_scipy()
    assert (adjacency != adjacency.T).nnz == 0
    assert adjacency.diagonal().sum() == 0
    assert data.num_edges / 4000 == pytest.approx(12, rel=0.1)  # parallel edges of a block merge
    rows = adjacency.tocoo()
    same = (data.labels[rows.row] == data.labels[rows.col]).float().mean()
    assert float(same) == pytest.approx(0.8 + 0.2 / 4, abs=0.03)
    assert data.num_classes == 4


@pytest.mark.slow
def test_a_million_nodes_in_seconds() -> None:
    start = time.process_time()
    data = planted_partition(SyntheticConfig(num_nodes=1_000_000, avg_degree=10))
    assert data.num_edges > 9_900_000
    assert time.process_time() - start < 20  # the promise is 10 s on a quiet machine


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (SyntheticConfig(num_nodes=4), "synthetic.num_nodes: 4 is out of range; use 5 to 1e.09"),
        (SyntheticConfig(num_nodes=10**22), "synthetic.num_nodes: .* is out of range; use 5 to"),
        (
            SyntheticConfig(blocks_per_class=10**7),
            "blocks_per_class: 10000000 is out of range; use 1 to 10000",
        ),
        (SyntheticConfig(seed=-1), "synthetic.seed: -1 is out of range"),
        (
            SyntheticConfig(num_nodes=60, reach=1),
            "synthetic.reach: 1 needs a node in each of the 100 blocks, but there are 60; use fewer",
        ),
        (SyntheticConfig(homophily=1.5), "synthetic.homophily: 1.5 is out of range; use 0 to 1"),
        (
            SyntheticConfig(num_nodes=10, avg_degree=20),
            "synthetic.avg_degree: 20 is out of range; use 0 to 9",
        ),
        (SyntheticConfig(noise=-1), "synthetic.noise: -1 is out of range"),
    ],
)
def test_synthetic_errors(config: SyntheticConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        planted_partition(config)


def test_random_split_shares() -> None:
    train, val, test = random_split(100, seed=3)
    assert [int(mask.sum()) for mask in (train, val, test)] == [60, 20, 20]
    assert (train.int() + val.int() + test.int() == 1).all()
    assert torch.equal(train, random_split(100, seed=3)[0])
    assert not torch.equal(train, random_split(100, seed=4)[0])


def test_per_class_split() -> None:
    labels = torch.arange(3000) % 3
    train, val, test = per_class_split(labels, seed=0)
    assert torch.bincount(labels[train]).tolist() == [20, 20, 20]
    assert [int(val.sum()), int(test.sum())] == [500, 1000]
    small_train, small_val, small_test = per_class_split(labels[:100], seed=0)
    assert int(small_train.sum() + small_val.sum() + small_test.sum()) == 100
    assert not (small_val & small_test).any()


def test_own_splits_leave_out_nodes_without_a_label() -> None:
    labels = torch.arange(1000) % 4
    labels[torch.arange(0, 1000, 7)] = -1
    known = labels >= 0
    for masks in (random_split(1000, seed=1, among=known), per_class_split(labels, seed=1)):
        assert all(bool((mask & known).any()) and not bool((mask & ~known).any()) for mask in masks)
    shares = [int(mask.sum()) for mask in random_split(1000, seed=1, among=known)]
    assert shares == [514, 171, 172]  # 60, 20 and 20 % of 857


def of_pyg(monkeypatch: pytest.MonkeyPatch, **contents: Any) -> Graph:
    """Cora, were these its contents."""
    edge_index = torch.tensor([[0, 1, 2], [1, 2, 3]])
    whole: dict[str, Any] = {
        "x": torch.ones(5, 2),
        "y": torch.tensor([0, 1, 0, 1, 0]),
        "edge_index": edge_index,
    }
    masks = {
        f"{name}_mask": mask for name, mask in zip(("train", "val", "test"), one_node_each(5), strict=True)
    }
    kept = {key: value for key, value in (whole | masks | contents).items() if value is not None}
    monkeypatch.setattr("gnnpipe.graph.sources.datasets._open", lambda *_, **__: [Data(**kept)])
    return load_dataset(RunConfig(dataset="Cora"))


def test_what_a_pyg_graph_has_and_nobody_uses_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    data = of_pyg(monkeypatch, edge_attr=torch.tensor([[0.5], [2.0], [1.0]]), node_year=torch.zeros(5))
    hint = "(one column) is taken as a feature; weights of edges are to be named edge_weight"
    assert data.notes == ("Cora: not used: node_year", f"edges: edge_attr {hint}")
    assert data.adjacency.value.tolist() == [1.0] * 3
    assert data.edge_attr is not None
    assert data.edge_attr.flatten().tolist() == [0.5, 2.0, 1.0]


def test_weights_of_a_pyg_graph_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    data = of_pyg(monkeypatch, edge_weight=torch.tensor([0.5, 2.0, 1.0]))
    assert data.weighted
    assert data.notes == ("edges: weights from 0.5 to 2 are used",)
    assert data.adjacency.value.tolist() == [0.5, 2.0, 1.0]


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ({"val_mask": None}, "dataset: Cora has train_mask, but no val_mask; all three are needed"),
        ({"x": None}, "features: Cora has none; --features degree or --features laplacian:16 makes some"),
        ({"y": None}, "labels: Cora has none; to train, give those of some nodes"),
        ({"val_mask": torch.zeros(5, dtype=torch.bool)}, "val_mask: it is empty; mark at least one node"),
        ({"val_mask": torch.tensor([0, 2, 0, 0, 0])}, "val_mask: 2 of node 1 is neither 0 nor 1"),
        ({"y": torch.tensor([0.0, 4.206, 1, 0, 1])}, "labels: 4.206 of node 1 is no class number"),
        (
            {"x": torch.tensor([[1.0, float("inf")]] * 5)},
            "features: .* first inf of node 0, column 1",
        ),
    ],
)
def test_what_a_pyg_graph_may_not_lack(
    contents: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match=message):
        of_pyg(monkeypatch, **contents)
