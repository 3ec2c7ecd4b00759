"""Each name of the catalogue, from small files in the raw layout that torch_geometric's class reads."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import scipy.sparse as sp
import torch
import torch_geometric.datasets

from gnnpipe.config.catalog import find_source
from gnnpipe.config.run import RunConfig
from gnnpipe.errors import DataError
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.data import Graph
from gnnpipe.graph.sources.datasets import load_dataset
from tests.graphs import dense
from tests.payload import Payload

N = 12
RNG = np.random.default_rng(5)
EDGES = np.unique(RNG.integers(0, N, (2, 30)), axis=1)
X = np.round(RNG.standard_normal((N, 4)), 3).astype(np.float32)
Y = np.arange(N) % 3
ROLES = {"train": range(6), "val": range(6, 9), "test": range(9, 12)}
MASKS = {name: np.isin(np.arange(N), list(nodes)) for name, nodes in ROLES.items()}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no network in tests")

    monkeypatch.setattr("urllib.request.urlopen", refuse)


def load(root: Path, name: str, **settings: Any) -> Graph:
    return load_dataset(RunConfig(dataset=name, root=str(root), **settings))


def check(graph: Graph, adjacency: np.ndarray, features: np.ndarray = X, labels: np.ndarray = Y) -> None:
    """Compare with arrays; ``adjacency`` has sources as rows."""
    assert np.array_equal(dense(graph.adjacency).numpy() > 0, adjacency.T > 0)
    rows = dense(graph.features) if isinstance(graph.features, Csr) else graph.features
    assert np.array_equal(rows.numpy(), features)
    assert graph.labels.tolist() == labels.tolist()


def given() -> np.ndarray:
    return sp.coo_matrix((np.ones(EDGES.shape[1]), tuple(EDGES)), (N, N)).toarray()


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("FacebookPagePage", "raw/facebook.npz"),
        ("GitHub", "raw/github.npz"),
        ("DeezerEurope", "raw/deezer_europe.npz"),
        ("LastFMAsia", "raw/lastfm_asia.npz"),
        *((f"Twitch-{name}", f"{name}/raw/{name}.npz") for name in ("DE", "EN", "ES", "FR", "PT", "RU")),
    ],
)
def test_musae(name: str, path: str, tmp_path: Path) -> None:
    (tmp_path / path).parent.mkdir(parents=True)
    np.savez(tmp_path / path, features=X, target=Y, edges=EDGES.T)
    check(load(tmp_path, name.lower()), given())


@pytest.mark.parametrize("name", ["Cora", "Cora_ML", "CiteSeer", "DBLP", "PubMed"])
def test_citation_full(name: str, tmp_path: Path) -> None:
    raw = tmp_path / name.lower() / "raw"
    raw.mkdir(parents=True)
    arrays: dict[str, Any] = {"labels": Y}
    for key, matrix in (("adj", sp.csr_matrix(given())), ("attr", sp.csr_matrix(X * (X > 0)))):
        arrays |= {f"{key}_{part}": getattr(matrix, part) for part in ("data", "indices", "indptr", "shape")}
    # the authors' files hold dictionaries of names, pickled: they must not be opened
    arrays["idx_to_node"] = np.array(Payload(tmp_path / "proof"), dtype=object)
    np.savez(raw / f"{name.lower()}.npz", **arrays)
    graph = load(tmp_path, f"CitationFull-{name}")
    theirs = torch_geometric.datasets.CitationFull(str(tmp_path), name)[0]
    expected = sp.coo_matrix((np.ones(theirs.num_edges), tuple(theirs.edge_index.numpy())), (N, N)).toarray()
    check(graph, expected, theirs.x.numpy())
    assert not (tmp_path / "proof").exists()


@pytest.mark.parametrize("name", ["paris", "shanghai", "la", "london"])
def test_city_network(name: str, tmp_path: Path) -> None:
    content = {
        "node_features_augmented": torch.from_numpy(X),
        "edge_indices": torch.from_numpy(EDGES),
        "10-chunk_16-hop_node_labels": torch.from_numpy(Y),
        "train_mask": torch.from_numpy(MASKS["train"]),
        "valid_mask": torch.from_numpy(MASKS["val"]),
        "test_mask": torch.from_numpy(MASKS["test"]),
    }
    packed = tmp_path / name
    packed.mkdir()
    for key, tensor in content.items():
        torch.save(tensor, packed / f"{key}.pt")
    raw = tmp_path / "root" / name / "raw"
    raw.mkdir(parents=True)
    with tarfile.open(raw / f"{name}.tar.gz", "w:gz") as archive:
        archive.add(packed, name)
    for _ in range(2):  # from the archive, and from what the class made of it
        graph = load(tmp_path / "root", name)
        check(graph, given())
        assert graph.test_mask.tolist() == MASKS["test"].tolist()


@pytest.mark.parametrize("name", ["penn94", "reed98", "amherst41", "cornell5", "johnshopkins55"])
def test_linkx_facebook(name: str, tmp_path: Path) -> None:
    raw = tmp_path / name / "raw"
    raw.mkdir(parents=True)
    info = np.stack([np.arange(N) % 2, Y, np.arange(N) % 4], axis=1).astype(np.float64)
    scipy.io.savemat(raw / "data.mat", {"A": sp.csc_matrix(given()), "local_info": info})
    splits = [{k: np.array(list(v)) for k, v in zip(("train", "valid", "test"), ROLES.values(), strict=True)}]
    splits += [{"train": splits[0]["test"], "valid": splits[0]["valid"], "test": splits[0]["train"]}]
    if name == "penn94":
        np.save(raw / "fb100-Penn94-splits.npy", np.array(splits, dtype=object), allow_pickle=True)
    settings = {"split": 1} if name == "penn94" else {}
    graph = load(tmp_path, name, **settings)
    features = np.concatenate([np.eye(2)[np.arange(N) % 2], np.eye(4)[np.arange(N) % 4]], axis=1)
    check(graph, given(), features, Y - 1)  # label 0 of the file stands for unknown
    if name == "penn94":
        assert graph.train_mask.nonzero().flatten().tolist() == [n for n in ROLES["test"] if Y[n] != 0]


def test_splits_of_penn94_run_nothing(tmp_path: Path) -> None:
    raw = tmp_path / "penn94" / "raw"
    raw.mkdir(parents=True)
    scipy.io.savemat(raw / "data.mat", {"A": sp.csc_matrix(given()), "local_info": np.ones((N, 3))})
    for objects in ([Payload(tmp_path / "proof")], [{"train": Payload(tmp_path / "proof")}], ["text"], [[1]]):
        array = np.empty(1, dtype=object)
        array[0] = objects[0]
        np.save(raw / "fb100-Penn94-splits.npy", array, allow_pickle=True)
        with pytest.raises(DataError, match=r"not unpickled|these are no splits"):
            load(tmp_path, "penn94")
    assert not (tmp_path / "proof").exists()


def test_linkx_genius(tmp_path: Path) -> None:
    raw = tmp_path / "genius" / "raw"
    raw.mkdir(parents=True)
    scipy.io.savemat(raw / "data.mat", {"edge_index": EDGES, "node_feat": X, "label": Y[:, None]})
    check(load(tmp_path, "genius"), given())


def test_actor(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    words = [sorted({node % 5, (node * 3) % 5}) for node in range(N)]
    lines = [f"{node}\t{','.join(map(str, words[node]))}\t{Y[node]}" for node in range(N)]
    (raw / "out1_node_feature_label.txt").write_text("\n".join(["node_id\tfeature\tlabel", *lines]) + "\n")
    edges = [f"{source}\t{target}" for source, target in EDGES.T]
    (raw / "out1_graph_edges.txt").write_text("\n".join(["node_id\tnode_id", *edges]) + "\n")
    for index in range(10):
        np.savez(
            raw / f"film_split_0.6_0.2_{index}.npz",
            **{f"{k}_mask": np.roll(v, index).astype(np.int64) for k, v in MASKS.items()},
        )
    features = np.zeros((N, 5), np.float32)
    for node, columns in enumerate(words):
        features[node, columns] = 1
    graph = load(tmp_path, "actor", split=9)
    check(graph, given(), features)
    assert graph.val_mask.tolist() == np.roll(MASKS["val"], 9).tolist()


def test_wikics_with_its_20_splits(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    links: list[list[int]] = [[] for _ in range(N)]
    for source, target in EDGES.T.tolist():
        links[source].append(target)
    rolled = {name: [np.roll(MASKS[name], i).tolist() for i in range(20)] for name in ("train", "val")}
    tests = (~np.any([*rolled["train"][:1], *rolled["val"][:1]], axis=0)).tolist()
    content = {
        "features": X.tolist(), "labels": Y.tolist(), "links": links, "test_mask": tests,
        "train_masks": rolled["train"], "val_masks": rolled["val"], "stopping_masks": rolled["val"],
    }  # fmt: skip
    (raw / "data.json").write_text(json.dumps(content))
    graph = load(tmp_path, "WikiCS")
    check(graph, given() + given().T)
    assert graph.test_mask.tolist() == tests
    assert any("stopping_mask" in note for note in graph.notes)
    with pytest.raises(DataError, match=r"split: 20 does not exist; WikiCS ships 20|overlap"):
        load(tmp_path, "WikiCS", split=20)


ATTRIBUTED = "Wiki Cora CiteSeer PubMed BlogCatalog PPI Flickr Facebook Twitter TWeibo MAG"


@pytest.mark.parametrize("name", ATTRIBUTED.split())
def test_attributed(name: str, tmp_path: Path) -> None:
    raw = tmp_path / name.lower() / "raw"
    raw.mkdir(parents=True)
    width = 10_050 if name == "Flickr" else 4  # torch_geometric's class leaves wide features sparse
    features = sp.random(N, width, 0.3, format="csr", dtype=np.float32, random_state=1)
    sp.save_npz(raw / "attrs.npz", features)
    separator = {"Wiki": "\t", "PPI": ",", "Cora": "  "}.get(name, " ")
    (raw / "edgelist.txt").write_text("".join(f"{s}{separator}{t}\n" for s, t in EDGES.T))
    several = name in ("PPI", "Facebook")
    classes = [sorted({Y[node] + 1, node % 2 + 1}) if several else [Y[node] + 1] for node in range(N)]
    (raw / "labels.txt").write_text(
        "".join(f"{node} {' '.join(map(str, classes[node]))}\n" for node in range(N))
    )
    expected = np.array([[int(label + 1 in classes[node]) for label in range(3)] for node in range(N)])
    graph = load(tmp_path, f"attributed-{name}")
    check(graph, given(), features.toarray(), expected if several else Y)
    assert graph.task == ("multilabel" if several else "multiclass")


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("labels.txt", "0 0\n", "a class is below 1"),
        ("labels.txt", "0 x\n", "whole numbers are needed"),
        ("labels.txt", f"0 1 {10**15}\n", "are too many"),
        ("edgelist.txt", "1 2 3\n", "two columns are needed, and 3"),
        ("edgelist.txt", "1 200\n", "out of range"),
    ],
)
def test_damaged_attributed(file: str, text: str, message: str, tmp_path: Path) -> None:
    raw = tmp_path / "wiki" / "raw"
    raw.mkdir(parents=True)
    sp.save_npz(raw / "attrs.npz", sp.csr_matrix(X))
    (raw / "edgelist.txt").write_text("0 1\n")
    (raw / "labels.txt").write_text("".join(f"{node} {Y[node] + 1}\n" for node in range(N)))
    (raw / file).write_text(text)
    with pytest.raises(DataError, match=message):
        load(tmp_path, "Attributed-Wiki")


@pytest.mark.parametrize("name", ["Actor", "WikiCS", "penn94", "CitationFull-DBLP", "Attributed-PPI"])
def test_absent_files_are_named(name: str, tmp_path: Path) -> None:
    class_name = find_source(name).class_name
    with pytest.raises(DataError, match=rf"root: {class_name} finds no files in .* can't download"):
        load(tmp_path, name)


def test_names_of_classes_lead_to_their_data_sets() -> None:
    for name, message in (
        ("CityNetwork", "'CityNetwork' stands for several; choose one of paris, shanghai, la, london"),
        ("twitch", "choose one of Twitch-DE, Twitch-EN"),
        ("MAG", r"did you mean 'Attributed-MAG'\?"),
        ("citationfull", "choose one of CitationFull-Cora, CitationFull-Cora_ML"),
    ):
        with pytest.raises(DataError, match=message):
            find_source(name)
