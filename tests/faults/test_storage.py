"""Damaged and hostile checkpoints are found out before anything is read from them."""

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gnnpipe.checkpoint.state import latest
from gnnpipe.checkpoint.storage import INDEX, StoredCheckpoint, checksum
from gnnpipe.errors import CheckpointError
from tests.faults.runs import Run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with checkpoints after 4 and 6 epochs."""
    run = Run.prepare(tmp_path_factory.mktemp("finished") / "run", stages=2).train()
    return run.folder.path


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """One of one's own."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def newest(folder: Path) -> Path:
    return max((folder / "checkpoints").iterdir())


def data_file(checkpoint: Path) -> Path:
    return max(checkpoint.glob("rank-*.safetensors"), key=lambda path: path.stat().st_size)


def found(folder: Path) -> tuple[int | None, list[str]]:
    """Epochs of the checkpoint that a run would go on from, and what it says."""
    said: list[str] = []
    stored = latest(folder, said.append)
    return (stored.about.epochs if stored else None), said


def test_the_last_two_are_kept(folder: Path) -> None:
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == [
        "epoch-00000004",
        "epoch-00000006",
    ]
    assert found(folder) == (6, [])


def test_truncated(folder: Path) -> None:
    path = data_file(newest(folder))
    os.truncate(path, path.stat().st_size // 2)
    epochs, said = found(folder)
    assert epochs == 4
    assert "bytes instead of" in said[0]
    assert "looking for the checkpoint before it" in said[0]


def test_flipped_byte(folder: Path) -> None:
    path = data_file(newest(folder))
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)
    epochs, said = found(folder)
    assert epochs == 4
    assert "checksum differs" in said[0]


def test_file_gone(folder: Path) -> None:
    data_file(newest(folder)).unlink()
    assert found(folder)[0] == 4
    (newest(folder) / INDEX).unlink()
    assert "it has no index.json" in found(folder)[1][0]


def test_all_damaged(folder: Path) -> None:
    for path in (folder / "checkpoints").iterdir():
        data_file(path).write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"no other checkpoint of .* is whole; start it anew"):
        found(folder)


def test_half_written_is_not_looked_at(folder: Path) -> None:
    newest(folder).rename(newest(folder).with_suffix(".part"))
    assert found(folder) == (4, [])


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), byte=st.integers(1, 255), data=st.data())
def test_any_changed_byte_is_noticed(finished: Path, place: float, byte: int, data: st.DataObject) -> None:
    checkpoint = newest(finished)
    path = data.draw(st.sampled_from(sorted(checkpoint.iterdir())))
    content = path.read_bytes()
    index = int(place * len(content))
    changed = content[:index] + bytes([content[index] ^ byte]) + content[index + 1 :]
    try:
        path.write_bytes(changed)
        if path.name == INDEX and json_means_the_same(content, changed):
            return
        with pytest.raises(CheckpointError):
            StoredCheckpoint.open(checkpoint).verify()
    finally:
        path.write_bytes(content)


def json_means_the_same(one: bytes, other: bytes) -> bool:
    """As with a blank that became another one."""
    try:
        return bool(json.loads(one) == json.loads(other))
    except ValueError:
        return False


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self._path),)


def test_payload_is_not_run(folder: Path, tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    buffer = io.BytesIO()
    torch.save(Payload(proof), buffer)
    plant(newest(folder), "payload", buffer.getvalue())
    stored = StoredCheckpoint.open(newest(folder))
    stored.verify()
    with pytest.raises(CheckpointError, match="can't be read"):
        stored.read("payload")
    assert not proof.exists()
    torch.load(io.BytesIO(buffer.getvalue()), weights_only=False)
    assert proof.exists()  # it would have


def test_another_versions_checkpoint(folder: Path) -> None:
    for checkpoint in (folder / "checkpoints").iterdir():
        (checkpoint / INDEX).write_text(json.dumps({"crc32": 1, "content": "{}"}))
    with pytest.raises(CheckpointError, match="resume with the version that wrote it"):
        found(folder)


def test_files_elsewhere_are_refused(folder: Path) -> None:
    index = content_of(newest(folder))
    index["files"]["../../config.yaml"] = {"size": 1, "xxh3": ""}
    write_index(newest(folder), index)
    with pytest.raises(CheckpointError, match="outside of its files or folder"):
        StoredCheckpoint.open(newest(folder))


@pytest.mark.parametrize(
    ("key", "value"),
    [("epochs", "six"), ("plan", [1, 2]), ("plan", ["a", 1, 1]), ("tables", {}), ("format", 99)],
)
def test_odd_description(folder: Path, key: str, value: object) -> None:
    index = content_of(newest(folder))
    index["about"][key] = value
    write_index(newest(folder), index)
    epochs, said = found(folder)
    assert epochs == 4
    assert said


def content_of(checkpoint: Path) -> dict:  # type: ignore[type-arg]
    return json.loads(json.loads((checkpoint / INDEX).read_text())["content"])  # type: ignore[no-any-return]


def write_index(checkpoint: Path, index: dict) -> None:  # type: ignore[type-arg]
    text = json.dumps(index)
    (checkpoint / INDEX).write_text(json.dumps({"xxh3": checksum(text.encode()), "content": text}))


def plant(checkpoint: Path, name: str, content: bytes) -> None:
    """Add a tensor that is none, with all that the index says in order."""
    index = content_of(checkpoint)
    (checkpoint / name).write_bytes(content)
    index["files"][name] = {"size": len(content), "xxh3": checksum(content)}
    index["tensors"][name] = name
    write_index(checkpoint, index)
