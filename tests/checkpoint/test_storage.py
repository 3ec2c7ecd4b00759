"""Checkpoints that several ranks write together, and what the index says of them."""

from __future__ import annotations

import errno
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from gnnpipe.checkpoint import storage
from gnnpipe.checkpoint.storage import INDEX, About, Storage, StoredCheckpoint
from gnnpipe.comm.groups import Talk
from gnnpipe.errors import CheckpointError
from tests.harness import run_ranks

ABOUT = About(7, (3, 1, 4), {"clean": True, "stale_halo": False}, refreshed=False)


def _write(rank: int, num_ranks: int, folder: str) -> None:
    """Rank 1 has nothing to write."""
    store = Storage(Talk(rank, num_ranks, dist.group.WORLD))
    tensors = {} if rank == 1 else {f"b.{rank}": torch.full((2,), float(rank)), f"a.{rank}": torch.ones(1)}
    target = Path(folder) / "checkpoints" / "epoch-00000007"
    store.begin(target, tensors, replace(ABOUT, epochs=7 + rank), {"note": b"x"} if rank == 0 else {})
    assert store.finish() == target
    assert store.finish() is None


def test_what_ranks_write_is_one_checkpoint(tmp_path: Path) -> None:
    run_ranks(3, _write, str(tmp_path), folder=tmp_path)
    (folder,) = (tmp_path / "checkpoints").iterdir()
    stored = StoredCheckpoint.open(folder)
    stored.verify()
    first, last = "rank-00000.safetensors", "rank-00002.safetensors"
    assert {path.name for path in folder.iterdir()} == {INDEX, first, last, "note"}
    assert [*stored.tensors.items()] == [("b.0", first), ("a.0", first), ("b.2", last), ("a.2", last)]
    assert [*stored.files] == [first, last, "note"]
    assert stored.about == ABOUT  # rank 0's
    assert stored.read("b.2").tolist() == [2, 2]


def _fail(rank: int, num_ranks: int, folder: str, name: str, failing: int) -> str:
    """One rank has no room; the next attempt is undisturbed."""
    store = Storage(Talk(rank, num_ranks, dist.group.WORLD))
    target, tensors = Path(folder) / "epoch-00000007", {f"a.{rank}": torch.ones(1)}

    def full(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    def broken(path: Path, *_: object) -> None:
        raise ValueError("another failure")

    with pytest.MonkeyPatch.context() as patch:
        if rank == failing:
            patch.setattr(storage, name, full)
        elif name == "write_tensors" and rank == 0:
            patch.setattr(storage, name, broken)
        store.begin(target, tensors, ABOUT, {})
        with pytest.raises(OSError, match="No space left on device: ") as failure:
            store.finish()
    dist.barrier()
    assert not list(Path(folder).glob("epoch*"))
    dist.barrier()
    store.begin(target, tensors, ABOUT, {})
    assert store.finish() == target
    return str(failure.value)


@pytest.mark.parametrize(
    ("name", "rank", "file"),
    [
        ("write_tensors", 1, "rank-00001.safetensors"),  # though rank 0 fails of something else
        ("make_folder", 1, ""),
        ("write_file", 0, INDEX),
        ("rename", 0, "-1.part"),
    ],
)
def test_a_failure_on_one_rank_is_raised_on_all(name: str, rank: int, file: str, tmp_path: Path) -> None:
    errors = run_ranks(2, _fail, str(tmp_path), name, rank, folder=tmp_path)
    assert errors[0] == errors[1]
    assert errors[0].endswith(f"{file}'")
    StoredCheckpoint.open(tmp_path / "epoch-00000007").verify()


@pytest.mark.parametrize(
    "about", [ABOUT, replace(ABOUT, tables=None), replace(ABOUT, best={"epoch": 3, "val": 0.5})]
)
def test_a_description_is_read_as_it_was_written(about: About) -> None:
    content = about.content()
    assert [*content] == ["format", "epochs", "plan", "tables", "refreshed", "best"]
    assert About.read(Path(), json.loads(json.dumps(content))) == about


def test_a_checkpoint_of_an_older_version_says_nothing_of_its_weights() -> None:
    content = json.loads(json.dumps(replace(ABOUT, says_best=False).content()))
    assert "best" not in content
    about = About.read(Path(), content | {"more": 1})
    assert (about.best, about.says_best) == (None, False)


@pytest.mark.parametrize("best", [{}, {"epoch": 1}, {"epoch": 1.0, "val": 1.0}, {"epoch": 1, "val": 1}, []])
def test_odd_scores_are_refused(best: object) -> None:
    content = json.loads(json.dumps(ABOUT.content())) | {"best": best}
    with pytest.raises(CheckpointError, match="does not say what run it is of"):
        About.read(Path(), content)
