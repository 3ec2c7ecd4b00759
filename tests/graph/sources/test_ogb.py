"""OGB's node data sets in small, in the forms that its archives have; without its package."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch_geometric.data

from gnnpipe.cli.main import main
from gnnpipe.config.importing import TablesConfig
from gnnpipe.config.run import RunConfig
from gnnpipe.errors import DataError
from gnnpipe.graph.data import Graph
from gnnpipe.graph.sources.datasets import load_dataset
from gnnpipe.graph.sources.detect import read_source
from gnnpipe.graph.sources.raw import RawGraph
from tests.graph.sources.test_raw_files import (
    FEATURES,
    LABELS,
    NUM_NODES,
    ROLE,
    SOURCE,
    TARGET,
    Bomb,
    csv,
    expected,
    ogb,
)
from tests.graphs import dense

EDGES = np.array([SOURCE, TARGET])
YEARS = [2010] * 6 + [2018] * 3 + [2019, 2020, 2021]
RNG = np.random.default_rng(1)


def load(root: Path, name: str) -> Graph:
    return load_dataset(RunConfig(dataset=name, root=str(root)))


def imported(path: Path, scratch: Path) -> tuple[RawGraph, list[str]]:
    scratch.mkdir(exist_ok=True)
    said: list[str] = []
    return read_source(path, TablesConfig(), scratch, said.append), said


def splits_of(graph: Graph) -> list[list[int]]:
    return [mask.nonzero().flatten().tolist() for mask in graph.masks.values()]


def proteins(root: Path, **changes: Any) -> np.ndarray:
    """Write ogbn-proteins: no features of nodes, but 8 of each edge; returns these."""
    of_edges = np.round(RNG.random((len(SOURCE), 8)), 3)
    content: dict[str, Any] = {
        "node-feat": None,
        "edge-feat": of_edges,
        "node-label": RNG.integers(0, 2, (NUM_NODES, 112)),
        "node_species": [9606] * NUM_NODES,
    }
    ogb(root, "proteins", "species", **(content | changes))
    return of_edges


def mag(root: Path, **changes: Any) -> Path:
    """Write ogbn-mag: four kinds of nodes, of which papers have features and labels."""
    place, raw = root / "mag", root / "mag" / "raw"
    cites = raw / "relations" / "paper___cites___paper"
    content: dict[Path, Any] = {
        cites / "edge": EDGES.T,
        cites / "num-edge-list": [len(SOURCE)],
        cites / "edge_reltype": [0] * len(SOURCE),
        raw / "relations" / "author___writes___paper" / "edge": [(0, 1)],
        raw / "node-feat" / "paper" / "node-feat": FEATURES,
        raw / "node-feat" / "paper" / "node_year": YEARS,
        raw / "node-label" / "paper" / "node-label": LABELS,
        raw / "nodetype-has-feat": [["author", "paper"], ["False", "True"]],
        raw / "num-node-dict": [["author", "paper"], [3, NUM_NODES]],
    }
    for name, part in (("train", "tr"), ("valid", "va"), ("test", "te")):
        content[place / "split" / "time" / "paper" / name] = ROLE[part]
    for path, rows in (content | {raw / key: value for key, value in changes.items()}).items():
        if rows is not None:
            csv(path, rows)
    return place


def test_proteins_get_the_mean_of_their_edges(tmp_path: Path) -> None:
    of_edges = proteins(tmp_path)
    graph = load(tmp_path, "ogbn-proteins")
    assert torch.equal(dense(graph.adjacency), expected() + expected().T)
    assert (graph.task, graph.num_classes) == ("multilabel", 112)
    assert splits_of(graph) == list(ROLE.values())
    means = np.zeros((NUM_NODES, 8))
    for node in range(NUM_NODES):
        ends = [
            row for s, t, row in zip(SOURCE, TARGET, of_edges, strict=True) for end in (s, t) if end == node
        ]
        means[node] = np.mean(ends, axis=0)
    assert isinstance(graph.features, torch.Tensor)
    assert np.allclose(graph.features.numpy(), means)
    # an edge and its reverse have the same features
    pairs = [*zip(SOURCE, TARGET, strict=True), *zip(TARGET, SOURCE, strict=True)]
    rows = sorted((t, s, *row) for (s, t), row in zip(pairs, [*of_edges, *of_edges], strict=True))
    assert graph.edge_attr is not None
    target = torch.repeat_interleave(torch.arange(NUM_NODES), graph.adjacency.rowptr.diff())
    ours = torch.cat([torch.stack([target, graph.adjacency.col], 1), graph.edge_attr], dim=1)
    assert np.allclose(sorted(ours.tolist()), rows)
    assert graph.notes == (
        "features: nodes have none; each gets the mean of its edges' 8 features, as in OGB's own example",
        "raw: not used: node_species",
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"edge-feat": [[0.5] * 8] * 3}, "edge-feat: it says 3, but there are 13"),
        ({"edge-feat": [[0.5] * 8] * 14}, "edge-feat: it says 14, but there are 13"),
        ({"edge-feat": []}, "edge-feat: it says 0, but there are 13"),
        ({"edge": [(0, 40)] * 13}, "edge: node id 40 is out of range for 12 nodes"),
        ({"edge": [(0, -1)] * 13}, "edge: node id -1 is out of range"),
        ({"edge-feat": None}, "holds no node-feat"),
    ],
)
def test_damaged_proteins(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    proteins(tmp_path, **changes)
    with pytest.raises(DataError, match=message):
        load(tmp_path, "ogbn-proteins")


def test_of_mag_the_papers_are_read(tmp_path: Path) -> None:
    mag(tmp_path)
    graph = load(tmp_path, "ogbn-mag")
    assert torch.equal(dense(graph.adjacency), expected())
    assert torch.equal(torch.as_tensor(graph.features), torch.from_numpy(FEATURES))
    assert graph.labels.tolist() == LABELS
    assert splits_of(graph) == list(ROLE.values())
    assert graph.notes == (
        "paper___cites___paper is read: papers and their citations; left out, as one kind of nodes and edges "
        "is trained: author___writes___paper",
        "raw: not used: edge_reltype, node_year",
    )


def write(root: Path, name: str) -> None:
    """Write a set as its archive has it, or one that OGB does not know, as arxiv's."""
    if name == "proteins":
        proteins(root)
    elif name == "mag":
        mag(root)
    elif name == "papers100M":
        place = ogb(root, "papers100M-bin", **dict.fromkeys(("edge", "node-feat", "node-label")))
        np.savez(place / "raw" / "data.npz", edge_index=EDGES, node_feat=FEATURES.astype(np.float16))
        np.savez(place / "raw" / "node-label.npz", node_label=np.array(LABELS)[:, None])
    else:
        ogb(root, name, "sales_ranking" if name == "products" else "time")


@pytest.mark.parametrize("name", ["ogbn-arxiv", "ogbn-mag", "ogbn-papers100M"])
def test_the_split_by_time_is_made_from_years(name: str, tmp_path: Path) -> None:
    labels = np.array(LABELS, dtype=np.float32)
    if name == "ogbn-arxiv":
        place = ogb(tmp_path, node_year=YEARS)
    elif name == "ogbn-mag":
        place = mag(tmp_path)
    else:
        place = ogb(tmp_path, "papers100M-bin", **dict.fromkeys(("edge", "node-feat", "node-label")))
        labels[0] = np.nan
        np.savez_compressed(
            place / "raw" / "data.npz", edge_index=EDGES, node_feat=FEATURES.astype(np.float16),
            node_year=np.array(YEARS)[:, None], num_nodes_list=np.array([12]), num_edges_list=np.array([13]),
        )  # fmt: skip
        np.savez(place / "raw" / "node-label.npz", node_label=labels[:, None])
    shutil.rmtree(place / "split")
    graph = load(tmp_path, name)
    assert splits_of(graph) == [[n for n in ROLE["tr"] if not np.isnan(labels[n])], ROLE["va"], ROLE["te"]]
    assert any("made from node_year, as OGB did: training to 2017" in note for note in graph.notes)
    assert not any("not used" in note and "node_year" in note for note in graph.notes)
    (place / "raw" / "node_year.csv.gz").unlink(missing_ok=True)
    if name == "ogbn-arxiv":
        with pytest.raises(DataError, match=r"time' is not there; it holds train.csv.gz"):
            load(tmp_path, name)
        csv(place / "raw" / "node_year", [2010] * 3)
        with pytest.raises(DataError, match="node_year: one year for each of 12 nodes"):
            load(tmp_path, name)


@pytest.mark.parametrize("name", ["arxiv", "products", "proteins", "mag", "papers100M", "my-own"])
def test_a_folder_is_imported(name: str, tmp_path: Path) -> None:
    """Under its own name, or the archive's; as the folder, or as the one in it that is called raw."""
    write(tmp_path, name)
    folder = next(path for path in tmp_path.iterdir() if path.is_dir())
    for source in (folder, folder / "raw"):
        raw, said = imported(source, tmp_path / "scratch")
        known = "" if name == "my-own" else f", ogbn-{name}"
        assert said == [f"{source.name}: OGB's raw files{known}"]
        both_ways = name in ("products", "proteins")
        assert np.asarray(raw.edge_index).shape == (2, 26 if both_ways else 13)
        assert raw.num_nodes == NUM_NODES
        assert raw.masks is not None
        assert [mask.nonzero().flatten().tolist() for mask in raw.masks] == list(ROLE.values())
        if name == "papers100M":
            assert np.asarray(raw.features).dtype == np.float16
        shutil.rmtree(tmp_path / "scratch")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["arxiv", "products", "proteins", "mag", "papers100M"])
def test_every_set_trains(name: str, tmp_path: Path) -> None:
    write(tmp_path / "data", name)
    flags = ["--layers", "2", "--epochs", "2", "--out", str(tmp_path / "run")]
    assert main(["train", "--dataset", f"ogbn-{name}", "--root", str(tmp_path / "data"), *flags]) == 0
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["epochs"] == 2


@pytest.mark.parametrize("name", ["arxiv", "products", "proteins", "mag"])
def test_an_imported_set_is_the_one_by_name(name: str, tmp_path: Path) -> None:
    {"proteins": proteins, "mag": mag}.get(name, lambda root: ogb(root, name, "time"))(tmp_path)
    assert main(["import", str(tmp_path / name), "--out", str(tmp_path / "graph"), "--task", "classes"]) == 0
    by_name = load(tmp_path, f"ogbn-{name}")
    by_folder = load_dataset(RunConfig(graph=str(tmp_path / "graph")))
    assert torch.equal(dense(by_folder.adjacency), dense(by_name.adjacency))
    assert torch.equal(torch.as_tensor(by_folder.features), torch.as_tensor(by_name.features))
    assert torch.equal(by_folder.labels, by_name.labels)
    assert splits_of(by_folder) == splits_of(by_name)


def test_tables_of_many_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gnnpipe.files.mapped._TEXT_BLOCK", 32)
    monkeypatch.setattr("gnnpipe.files.mapped.SMALL_ARRAY", 64)
    ogb(tmp_path, "products", "sales_ranking", **{"node-label": [None, *LABELS[1:]]})
    raw, _ = imported(tmp_path / "products", tmp_path / "scratch")
    assert isinstance(raw.features, np.memmap)
    assert np.array_equal(raw.features, FEATURES)
    forward = {tuple(edge) for edge in EDGES.T.tolist()}
    assert sorted(map(tuple, np.asarray(raw.edge_index).T.tolist())) == sorted(
        [*forward, *((target, source) for source, target in forward)]
    )
    assert np.isnan(np.asarray(raw.labels)[0])
    # a graph by name outlives the scratch folder that its features are mapped from
    graph = load(tmp_path, "ogbn-products")
    assert torch.equal(torch.as_tensor(graph.features), torch.from_numpy(FEATURES))


def test_a_damaged_row_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gnnpipe.files.mapped._TEXT_BLOCK", 16)
    ogb(tmp_path, edge=[*EDGES.T.tolist()[:10], ["x", 1], *EDGES.T.tolist()[11:]])
    with pytest.raises(DataError, match=r"edge.csv.gz' can't be read \(row 11, column 1: 'x' is no number\)"):
        load(tmp_path, "ogbn-arxiv")
    csv(tmp_path / "ogbn_arxiv" / "raw" / "edge", [*EDGES.T.tolist()[:9], [1], *EDGES.T.tolist()[10:]])
    with pytest.raises(DataError, match=r"\(row 10 has 1 columns, and those before have 2\)"):
        load(tmp_path, "ogbn-arxiv")


# Downloads


def stub(monkeypatch: pytest.MonkeyPatch, archive: Path | None) -> list[str]:
    """Stand-in for the network; returns the addresses that were asked for."""
    asked: list[str] = []

    def download_url(url: str, folder: str) -> str:
        asked.append(url)
        if archive is None:
            raise OSError("Network is unreachable")
        return shutil.copy(archive, folder)

    monkeypatch.setattr(torch_geometric.data, "download_url", download_url)
    return asked


def test_an_absent_set_is_downloaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ogb(tmp_path / "there", "arxiv")
    archive = Path(shutil.make_archive(str(tmp_path / "arxiv"), "zip", tmp_path / "there"))
    asked = stub(monkeypatch, archive)
    root = tmp_path / "data" / "ogbn"
    for _ in range(2):
        assert load(root, "ogbn-arxiv").labels.tolist() == LABELS
    assert asked == ["https://snap.stanford.edu/ogb/data/nodeproppred/arxiv.zip"]
    assert [path.name for path in root.iterdir()] == ["arxiv"]


@pytest.mark.parametrize("kind", ["no network", "no zip", "another set"])
def test_a_download_that_fails_leaves_nothing(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive: Path | None = tmp_path / "arxiv.zip"
    if kind == "no zip":
        (tmp_path / "arxiv.zip").write_bytes(b"<html>not found</html>")
    elif kind == "another set":
        ogb(tmp_path / "there", "products")
        shutil.make_archive(str(tmp_path / "arxiv"), "zip", tmp_path / "there")
    else:
        archive = None
    stub(monkeypatch, archive)
    root = tmp_path / "root"
    with pytest.raises(
        DataError,
        match=r"ogbn-arxiv is not in '.*ogbn_arxiv', '.*arxiv'.* can't be downloaded .*download "
        r"https://snap.stanford.edu/ogb/data/nodeproppred/arxiv.zip, unpack it, and give --root",
    ):
        load(root, "ogbn-arxiv")
    assert not list(root.iterdir())


def test_no_room_for_a_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = stub(monkeypatch, None)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**12, 0, 10**11))
    with pytest.raises(DataError, match=r"about 171.0 GB are needed there, and 100.0 are free"):
        load(tmp_path, "ogbn-papers100M")
    assert not asked


def test_bombs_beside_the_files_are_never_opened(tmp_path: Path) -> None:
    """`ogb` writes files that fail the test when they are unpickled, as OGB's package leaves pickles."""
    place = ogb(tmp_path, "arxiv")
    assert (place / "split" / "time" / "split_dict.pt").exists()
    assert Bomb.__doc__
    imported(place, tmp_path / "scratch")
