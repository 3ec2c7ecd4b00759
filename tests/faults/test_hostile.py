"""Files that somebody else has made to do harm: nothing in them runs, nothing is written elsewhere, and one
line names them."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from gnnpipe.checkpoint.storage import StoredCheckpoint, checksum
from gnnpipe.cli.main import main
from gnnpipe.config.run import RunConfig
from gnnpipe.errors import CheckpointError, DataError
from gnnpipe.graph.sources.datasets import load_dataset
from tests.faults.stored import ABOUT, checkpoint, run_folder, write_index
from tests.files.test_reading import aliases, npy
from tests.payload import Payload

SECRET = "the user's own words"
TEN_GIB = 10 << 30
HOLES, PIPE = b"ten gigabytes that are not there", b"a file that never ends"
FLAGS = ["--layers", "2", "--hidden", "8", "--epochs", "1", "--threads", "1", "--checkpoint-every", "0"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a user works, with a file of their own."""
    path = tmp_path / "home"
    path.mkdir()
    (path / "mine").write_text(SECRET)
    monkeypatch.chdir(path)
    return path


@pytest.fixture
def proof(tmp_path: Path) -> Path:
    """Is there if a payload ran."""
    return tmp_path / "proof"


@pytest.fixture
def refused(home: Path, proof: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that must end in one line, with the user's files as they were."""

    def check(*arguments: str) -> str:
        capsys.readouterr()
        before = {path for path in home.iterdir() if path.name not in ("runs", "new")}
        assert main([*arguments]) == 2
        error = [
            line
            for line in capsys.readouterr().err.splitlines()
            if not line.startswith("warning: ") and not line.endswith(" ...")
        ]
        assert len([line for line in error if line.startswith("gnnpipe: error: ")]) == 1, error
        assert len(error) == 1 or error[0].startswith("data are read from"), error
        assert len(error[-1]) < 1500
        assert not proof.exists()
        assert (home / "mine").read_text() == SECRET
        assert SECRET not in error[-1]
        assert {path for path in home.iterdir() if path.name not in ("runs", "new")} == before
        return error[-1]

    return check


def saved(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def cora(root: Path, proof: Path, **files: bytes) -> Path:
    """A data root with payloads wherever torch_geometric would look, unless ``files`` say other things."""
    raw, processed = root / "Cora" / "raw", root / "Cora" / "processed"
    raw.mkdir(parents=True)
    processed.mkdir()
    for name in ("x", "tx", "allx", "y", "ty", "ally", "graph"):
        (raw / f"ind.cora.{name}").write_bytes(pickle.dumps(Payload(proof)))
    (raw / "ind.cora.test.index").write_text("0\n")
    for name, content in files.items():
        (processed / f"{name}.pt").write_bytes(content)
    return root


def flickr(root: Path, **files: bytes) -> Path:
    """A small graph in the layout that torch_geometric's Flickr reads, with some files replaced."""
    raw = root / "raw"
    raw.mkdir(parents=True)
    ring = np.arange(12)
    np.savez(
        raw / "adj_full.npz", data=np.ones(12), indices=(ring + 1) % 12, indptr=np.arange(13), shape=[12, 12]
    )
    np.save(raw / "feats.npy", np.random.default_rng(0).normal(size=(12, 3)))
    (raw / "class_map.json").write_text(json.dumps({str(node): node % 2 for node in range(12)}))
    roles = {"tr": list(range(6)), "va": list(range(6, 9)), "te": list(range(9, 12))}
    (raw / "role.json").write_text(json.dumps(roles))
    for name, content in files.items():
        path = raw / name.replace("__", ".")
        path.unlink()
        if content is PIPE:
            os.mkfifo(path)
        elif content is HOLES:
            ten_gigabytes(path)
        else:
            path.write_bytes(content)
    return root


def minesweeper(root: Path) -> Path:
    """A small graph in the layout of one of torch_geometric's classes, which processes it and keeps that."""
    raw = root / "minesweeper" / "raw"
    raw.mkdir(parents=True)
    ring = np.arange(12)
    np.savez(
        raw / "minesweeper.npz",
        node_features=np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32),
        node_labels=ring % 2,
        edges=np.stack([ring, (ring + 1) % 12], axis=1),
        train_masks=ring[None] < 6,
        val_masks=(ring[None] >= 6) & (ring[None] < 9),
        test_masks=ring[None] >= 9,
    )
    return root


@pytest.mark.parametrize("way", ["resume", "config", "below", "link", "absolute"])
def test_data_that_came_with_a_run_are_not_read(
    way: str, home: Path, proof: Path, refused: Callable[..., str]
) -> None:
    evil = home / "evil"
    other = {"below": "evil/../evil/data", "link": "innocent", "absolute": str(evil / "data")}
    root = other.get(way, "evil/data")
    run_folder(evil, 1, dataset="Cora", root=root)
    cora(evil / "data", proof, data=saved(Payload(proof)))
    (home / "innocent").symlink_to(evil / "data")
    config = ["--config", str(evil / "config.yaml"), "--out", "new"]
    flags = config if way == "config" else ["--resume", "evil"]
    assert f"root: '{root}' lies in '" in refused("train", *flags)
    (home / "runs").mkdir()
    for name in ("records.jsonl", "plan.json", "checkpoints"):  # it may as well be no run
        (evil / name).rename(home / "runs" / name)
    assert f"root: '{root}' lies in '" in refused("train", *config)
    (evil / "config.yaml").write_text(f"dataset: Cora\nroot: {root}\n")
    assert f"root: '{root}' lies in '" in refused("plan", "--config", str(evil / "config.yaml"))


def test_a_run_in_its_own_folder_as_root(
    home: Path, proof: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_folder(home / "evil", 1, dataset="Cora")
    cora(home / "evil" / "data" / "Planetoid", proof, data=saved(Payload(proof)))
    monkeypatch.chdir(home / "evil")
    assert main(["train", "--resume", "."]) == 2
    assert not proof.exists()


def test_data_elsewhere_are_named(home: Path, proof: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_folder(home / "evil", 1, dataset="Cora", root="other")
    cora(home / "other", proof, data=saved(Payload(proof)))
    assert main(["train", "--resume", "evil"]) == 2
    named, error = capsys.readouterr().err.splitlines()[:2]
    assert named == f"data are read from '{home / 'other'}', as 'evil' says"
    assert "mkdir" in error
    assert not proof.exists()


DATA = {
    "data set": lambda proof: {"data": saved(Payload(proof))},
    "inner": lambda proof: {"data": saved(({"x": Payload(proof)}, None, Data))},
    "class": lambda proof: {"data": saved(({}, None, os.mkdir))},
    "transform": lambda proof: {"pre_transform": saved(Payload(proof))},
    "legacy": lambda proof: {"data": pickle.dumps(Payload(proof))},
    "raw": lambda proof: {},
    "expanded": lambda proof: {"data": saved(({"x": torch.zeros(1).expand(TEN_GIB)}, None, Data))},
}


@pytest.mark.parametrize("kind", DATA)
@pytest.mark.filterwarnings("ignore")
def test_a_data_root_is_not_unpickled(
    kind: str, home: Path, proof: Path, refused: Callable[..., str]
) -> None:
    cora(home / "root", proof, **DATA[kind](proof))
    error = refused("train", "--dataset", "Cora", "--root", "root", "--out", "new", *FLAGS)
    assert error.startswith("gnnpipe: error: root: can't read Cora from 'root' (")
    assert not (home / "new").exists()


def test_a_graph_of_ones_own_is_read(home: Path) -> None:
    data = load_dataset(RunConfig(dataset="Flickr", root=str(flickr(home / "root"))))
    assert (data.num_nodes, data.num_edges) == (12, 12)
    assert not (home / "root" / "processed").exists()


def test_what_torch_geometric_has_processed_is_read(home: Path) -> None:
    config = RunConfig(dataset="Minesweeper", root=str(minesweeper(home / "root")))
    data = load_dataset(config)
    assert (data.num_nodes, data.num_edges) == (12, 24)
    assert (home / "root/minesweeper/processed/data.pt").exists()
    np.savez(home / "root/minesweeper/raw/minesweeper.npz")
    again = load_dataset(config)  # from what was processed, as the raw file is empty now
    assert torch.equal(again.labels, data.labels)
    assert torch.equal(again.features, data.features)


def bomb() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("data.npy", "w") as file:
        file.write(npy(((300 << 20) // 8,), b""))
        for _ in range(300):
            file.write(bytes(1 << 20))
    return buffer.getvalue()


def objects(proof: Path) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, data=np.array([Payload(proof)], dtype=object))
    return buffer.getvalue()


FILES = {
    "zip bomb": (lambda proof: {"adj_full__npz": bomb()}, "would unfold into"),
    "ten gigabytes": (lambda proof: {"feats__npy": npy((TEN_GIB // 8,), b"x" * 80)}, "takes 10,737,418,240"),
    "objects": (lambda proof: {"adj_full__npz": objects(proof)}, "would be unpickled"),
    "holes": (lambda proof: {"role__json": HOLES}, "claims 10,737,418,240 bytes, of which"),
    "pipe": (lambda proof: {"class_map__json": PIPE}, "it is no ordinary file"),
    "pickle": (lambda proof: {"feats__npy": pickle.dumps(Payload(proof))}, "can't read Flickr"),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_graph_file_is_not_believed(
    kind: str, home: Path, proof: Path, refused: Callable[..., str]
) -> None:
    files, message = FILES[kind]
    flickr(home / "root", **files(proof))
    assert message in refused("train", "--dataset", "Flickr", "--root", "root", "--out", "new", *FLAGS)


def test_indices_outside_of_the_graph(home: Path) -> None:
    raw = home / "root" / "Photo" / "raw"
    raw.mkdir(parents=True)
    parts = {
        "data": np.ones(2),
        "indices": np.array([0, 10**9]),
        "indptr": np.array([0, 1, 2]),
        "shape": [2, 2],
    }
    content = {f"{name}_{part}": value for name in ("attr", "adj") for part, value in parts.items()}
    np.savez(raw / "amazon_electronics_photo.npz", labels=np.zeros(2), **content)
    with pytest.raises(DataError, match="adj_indices: node id 1000000000 is out of range for 2 nodes"):
        load_dataset(RunConfig(dataset="Photo", root=str(home / "root")))


@pytest.mark.parametrize("link", ["processed", "processed/data.pt", "processed/pre_filter.pt", "raw"])
def test_a_data_root_does_not_lead_writing_elsewhere(
    link: str, home: Path, tmp_path: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text(SECRET)
    folder = minesweeper(home / "root") / "minesweeper"
    if link == "raw":
        (folder / "raw" / "minesweeper.npz").unlink()
        (folder / "raw").rmdir()
    (folder / link).parent.mkdir(exist_ok=True)
    target = {"processed/data.pt": "new", "processed/pre_filter.pt": "file"}.get(link, ".")
    (folder / link).symlink_to(outside / target)
    error = refused("train", "--dataset", "Minesweeper", "--root", "root", "--out", "new", *FLAGS)
    assert f"'root/minesweeper/{link}' is a link, and files would be written through it" in error
    assert {path.name: path.read_text() for path in outside.iterdir()} == {"file": SECRET}


CONFIGS = {
    "tag": "layers: !!python/object/apply:os.mkdir ['{proof}']\n",
    "new": "layers: !!python/object/new:os.mkdir ['{proof}']\n",
    "list": aliases("list") + "\n",
    "merge": aliases("merge") + "\n",
    "deep": "layers: " + "[" * 3000 + "\n",
    "long": "dataset: " + "x" * (2 << 20) + "\n",
    "binary": "\x00\x01",
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_config_runs_and_unfolds_nothing(
    kind: str, home: Path, proof: Path, refused: Callable[..., str]
) -> None:
    text = CONFIGS[kind].replace("{proof}", str(proof))
    (home / "config.yaml").write_text(text)
    assert "config" in refused("train", "--config", "config.yaml", "--out", "new")
    run_folder(home / "evil", 1)
    (home / "evil" / "config.yaml").write_text(text)
    assert "evil/config.yaml" in refused("train", "--resume", "evil")
    out = ["--plans", "1x1", "1x1x2", "--out", "plans"]
    (home / "plans").mkdir()
    (home / "evil").rename(home / "plans" / "1x1")
    assert "1x1" in refused("compare", *out, "--layers", "2")


def test_a_config_replaces_no_run(home: Path, refused: Callable[..., str]) -> None:
    run_folder(home / "dear", 1)
    (home / "config.yaml").write_text("out: dear\noverwrite: true\n")
    assert "overwrite: 'config.yaml' can't ask for it" in refused("train", "--config", "config.yaml")
    (home / "dear" / "config.yaml").write_text("overwrite: true\n")
    assert "which no run writes there" in refused("train", "--resume", "dear")
    assert (home / "dear" / "checkpoints").exists()


@pytest.mark.parametrize("name", ["config.yaml", "plan.json", "records.jsonl", "checkpoints"])
def test_links_in_a_run_are_not_read(name: str, home: Path, refused: Callable[..., str]) -> None:
    run_folder(home / "evil", 1)
    (home / "evil" / name).rename(home / "evil" / "other")
    (home / "evil" / name).symlink_to(home / "mine" if name != "checkpoints" else home / "evil" / "other")
    assert "link" in refused("train", "--resume", "evil")


@pytest.mark.parametrize("name", ["config.yaml", "records.jsonl", "summary.json", "plan.json"])
def test_files_of_a_run_that_never_end(name: str, home: Path, refused: Callable[..., str]) -> None:
    for make in (lambda path: os.mkfifo(path), lambda path: path.symlink_to("/dev/zero"), ten_gigabytes):
        run_folder(home / "runs" / "evil", 1)
        (home / "runs/evil/summary.json").write_text("{}")
        (home / "runs" / "evil" / name).unlink()
        make(home / "runs" / "evil" / name)
        assert name in refused("show", "runs/evil", "--json") if name == "summary.json" else True
        assert "runs/evil" in refused("compare", "runs/evil", "runs/evil")
        done = home / "runs" / f"done-{len(list((home / 'runs').iterdir()))}"
        (home / "runs" / "evil").rename(done)


def ten_gigabytes(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(TEN_GIB)


def test_a_checkpoint_is_not_believed(home: Path, proof: Path, refused: Callable[..., str]) -> None:
    header = json.dumps(
        {"weights.a": {"dtype": "F32", "shape": [TEN_GIB // 4], "data_offsets": [0, TEN_GIB]}}
    )
    lying = struct.pack("<Q", len(header)) + header.encode()
    for number, content in enumerate((saved(Payload(proof)), pickle.dumps(Payload(proof)), lying)):
        path = home / "runs" / f"evil{number}"
        run_folder(path, 1)
        stored = checkpoint(path, 2)
        name = "rank-00000.safetensors"
        (stored / name).write_bytes(content)
        file = {"size": len(content), "xxh3": checksum(content)}
        write_index(stored, {"about": ABOUT.content(), "tensors": {"weights.a": name}, "files": {name: file}})
        with pytest.raises(CheckpointError, match=r"'weights.a' of .* can't be read"):
            StoredCheckpoint.open(stored).read("weights.a")
    for number, spoil in enumerate((ten_gigabytes, os.mkfifo, lambda path: path.symlink_to(home / "mine"))):
        path = home / "runs" / f"spoilt{number}"
        run_folder(path, 1)
        file = path / "checkpoints/epoch-00000001/rank-00000.safetensors"
        file.unlink()
        spoil(file)
        assert f"'runs/spoilt{number}' is whole; start it anew" in refused(
            "train", "--resume", str(path.relative_to(home))
        )
    assert not proof.exists()


def test_links_in_a_run_are_not_written_through(home: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    evil = run_folder(home / "evil", 1).path
    names = (
        "summary.json",
        "report.png",
        "records.jsonl.part",
        "model.safetensors",
        ".owner.json",
        ".making",
    )
    for name in names:
        (evil / name).unlink(missing_ok=True)
        (evil / name).symlink_to(outside / f"{name}-new")
    (evil / "checkpoints" / "epoch-00000002.part").symlink_to(outside)
    (evil / "checkpoints" / "epoch-00000003").symlink_to(outside)
    (outside / "file").write_text(SECRET)
    run = ["train", "--out", "evil", "--overwrite", "--synthetic.num_nodes", "300", *FLAGS]
    assert main(run) == 0
    assert main(["show", "evil"]) == 0
    assert [path.name for path in outside.iterdir()] == ["file"]
    assert not any(path.is_symlink() for path in evil.rglob("*"))
    (evil / ".lock").unlink()
    (evil / ".lock").symlink_to(outside / "lock")
    assert main(run) == 2
    assert [path.name for path in outside.iterdir()] == ["file"]


def test_a_profile_is_not_believed(home: Path, refused: Callable[..., str]) -> None:
    ten_gigabytes(home / "profile.json")
    assert "hardware: 'profile.json' is no profile" in refused("plan", "--hardware", "profile.json")
    (home / "profile.json").write_text('{"a": ' + "[" * 100_000)
    assert "hardware: 'profile.json' is no profile" in refused("plan", "--hardware", "profile.json")
