"""A disk that is full, and a folder that is gone or in use."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gnnpipe.checkpoint.state import latest
from gnnpipe.errors import ConfigError, TrainingError
from gnnpipe.records.folder import RunFolder
from gnnpipe.records.lock import held
from gnnpipe.records.recorder import Recorder
from tests.faults.runs import Run
from tests.made import record


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder with room for a megabyte."""
    path = tmp_path / "small"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(path)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small file system can't be mounted here; that needs root")
    yield path
    subprocess.run(["umount", str(path)], check=True)


def fill(disk: Path, but: int = 0) -> Path:
    """Use all of a disk up but for some bytes."""
    free = os.statvfs(disk)
    path = disk / "filler"
    path.write_bytes(bytes(max(0, free.f_bavail * free.f_bsize - but)))
    return path


def test_full_disk_stops_a_run_and_spares_its_checkpoint(small_disk: Path, tmp_path: Path) -> None:
    run = Run.prepare(small_disk / "run", stages=2, epochs=2).train()
    checkpoint = latest(run.folder.path, pytest.fail)
    assert checkpoint
    filler = fill(small_disk, 20_000)
    more = Run.prepare_again(run, epochs=40)
    with pytest.raises(TrainingError, match=r"out: can't write to .*No space left on device.*--resume"):
        more.train()
    again = latest(run.folder.path, pytest.fail)
    assert again
    assert again.about.epochs >= checkpoint.about.epochs
    filler.unlink()
    assert len(more.again().train().losses()) == 40


def test_full_disk_may_be_waited_for(small_disk: Path) -> None:
    folder = RunFolder(small_disk)
    (small_disk / "records.jsonl").touch()
    said: list[str] = []
    recorder = Recorder(folder, "continue", said.append)
    long = (0.5,) * 1000
    filler = fill(small_disk)
    recorder.append(record(0, fresh=long))
    recorder.append(record(1, fresh=long))
    assert folder.records() == []
    assert len(said) == 1
    assert "training goes on" in said[0]
    filler.unlink()
    recorder.append(record(2, fresh=long))
    assert [item.epoch for item in folder.records()] == [0, 1, 2]


def test_half_a_line_is_taken_back(small_disk: Path) -> None:
    folder = RunFolder(small_disk)
    (small_disk / "records.jsonl").touch()
    folder.append(record(0))
    fill(small_disk, 0)
    with pytest.raises(OSError, match="No space"):
        folder.append(record(1, fresh=(0.5,) * 10_000))
    assert folder.records() == [record(0)]
    assert (small_disk / "records.jsonl").read_text().endswith("\n")


def test_folder_gone(tmp_path: Path) -> None:
    said: list[str] = []
    recorder = Recorder(RunFolder(tmp_path / "gone"), "stop", said.append)
    with pytest.raises(
        TrainingError, match=r"can't write to .*gone' \(No such file or directory\); make room or bring"
    ):
        recorder.append(record(0))


def test_one_run_at_a_time(tmp_path: Path) -> None:
    with held(tmp_path):
        owner = rf"process {os.getpid()} on {socket.gethostname()} since 20.*; choose another --out, or wait"
        with pytest.raises(ConfigError, match=f"out: '.*' is in use by {owner}"), held(tmp_path):
            pass
    with held(tmp_path):
        pass


def test_lock_of_a_dead_run_is_nothing(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    (tmp_path / ".owner.json").write_text(json.dumps({"pid": 1, "host": "gone", "since": "then"}))
    with held(tmp_path):
        pass


def test_two_runs_started_by_users(tmp_path: Path) -> None:
    run = Run.prepare(tmp_path / "run")
    code = (
        "import sys; from pathlib import Path; from gnnpipe.records.lock import held\n"
        "with held(Path(sys.argv[1])):\n    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(run.folder.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout
    assert other.stdout.readline() == "held\n"
    with pytest.raises(ConfigError, match=f"process {other.pid} on"), held(run.folder.path):
        pass
    other.kill()
    other.communicate()
    with held(run.folder.path):
        pass
