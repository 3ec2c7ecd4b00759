"""Callbacks of whole runs: where they run, and what they can do to a run."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

import gnnpipe
from gnnpipe.cli.main import main
from gnnpipe.config.run import SyntheticConfig
from gnnpipe.errors import ConfigError, StoppedError
from tests.cli.commands import BIN, environment, run
from tests.cli.commands import SMALL as FLAGS
from tests.cli.commands import gnnpipe as command

SMALL: dict[str, Any] = {
    "synthetic": SyntheticConfig(num_nodes=400, blocks_per_class=2), "layers": 4, "hidden": 8, "epochs": 12,
    "eval_every": 5, "threads": 1, "checkpoint_every": 100, "stages": 2,
}  # fmt: skip


class At(gnnpipe.Callback):
    """Does something at an epoch, and keeps what it is told."""

    def __init__(self, epoch: int, act: Any) -> None:
        self.epoch, self.act = epoch, act
        self.starts: list[gnnpipe.RunInfo] = []
        self.records: list[dict[str, Any]] = []
        self.evaluated: list[int] = []
        self.ends: list[Any] = []

    @property
    def epochs(self) -> list[int]:
        return [record["epoch"] for record in self.records]

    def on_train_start(self, run: gnnpipe.RunInfo) -> None:
        self.starts.append(run)

    def on_epoch_end(self, record: dict[str, Any]) -> Any:
        self.records.append(record)
        return self.act() if record["epoch"] == self.epoch else None

    def on_evaluate(self, record: dict[str, Any]) -> None:
        self.evaluated.append(record["epoch"])

    def on_train_end(self, summary: dict[str, Any]) -> None:
        self.ends.append(summary)

    def on_exception(self, error: BaseException) -> None:
        self.ends.append(error)


def same_numbers(run: gnnpipe.Run, other: gnnpipe.Run) -> bool:
    keys = ("epoch", "loss", "train", "val", "test")
    return [[record.get(key) for key in keys] for record in run.records()] == [
        [record.get(key) for key in keys] for record in other.records()
    ]


def test_a_callback_ends_a_run_as_finished(tmp_path: Path) -> None:
    """It is a local class with a lock, which no other process could be sent, and it keeps its state. The
    epoch with which the run ends is evaluated, though none was due."""
    lock = threading.Lock()

    class Mine(At):
        def on_epoch_end(self, record: dict[str, Any]) -> Any:
            with lock:
                return super().on_epoch_end(record)

    mine = Mine(6, lambda: gnnpipe.STOP("seven will do"))
    done = gnnpipe.train(out=tmp_path / "run", callbacks=[mine], log="csv", **SMALL)
    assert (mine.epochs, mine.evaluated) == ([*range(7)], [4, 6])
    rest = {"elapsed": 0, "classes": 0}  # the seconds of callbacks count; counts by class are left out
    lines = [{**record, **rest} for record in done.records()]
    assert [{**record, **rest} for record in mine.records[:6]] == lines[:6]
    assert mine.records[6].items() <= {**done.records()[6], "elapsed": mine.records[6]["elapsed"]}.items()
    (start,) = mine.starts
    assert (start.first_epoch, start.epochs, start.metric, start.records) == (0, 12, "accuracy", [])
    assert start.config["model"] == "gcnii"
    assert start.plan["plan"]["num_stages"] == 2
    assert mine.ends == [done.summary]
    assert done.summary["stopped_early"] == {"epoch": 6, "reason": "Mine: seven will do"}
    assert done.summary["epochs"] == len(done.records()) == 7
    assert [record["epoch"] for record in done.records() if "val" in record] == [4, 6]
    with (done.folder / "logs" / "records.csv").open(newline="") as file:
        rows = [(float(row["train/loss"]), row["val/accuracy"]) for row in csv.DictReader(file)]
    assert rows == [(record["loss"], str(record.get("val", ""))) for record in done.records()]


def test_every_seed_calls_the_same_callbacks(tmp_path: Path) -> None:
    mine, early = At(2, lambda: gnnpipe.STOP), gnnpipe.EarlyStopping("loss", patience=2, min_delta=10)
    settings = {**SMALL, "stages": 1}
    seeds = gnnpipe.train_seeds((3, 4), out=tmp_path, callbacks=[mine, early], **settings)
    assert mine.epochs == [0, 1, 2, 0, 1, 2]  # early stopping begins anew with each run
    assert [start.config["seed"] for start in mine.starts] == [3, 4]
    assert [run.epochs for run in seeds.runs] == [3, 3]
    with pytest.raises(ConfigError, match=r"callbacks: At is a class; give an object of it"):
        gnnpipe.train_seeds((3, 4), out=tmp_path, callbacks=[At], **settings)


@pytest.mark.slow
def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    whole = gnnpipe.train(out=tmp_path / "whole", **SMALL)
    first = At(4, lambda: gnnpipe.STOP)
    gnnpipe.train(out=tmp_path / "run", callbacks=[first], **SMALL)
    second = At(-1, None)
    done = gnnpipe.resume(tmp_path / "run", callbacks=[second])
    assert second.epochs == [*range(5, 12)]
    assert [record["epoch"] for record in second.starts[0].records] == [*range(5)]
    assert "stopped_early" not in done.summary
    assert same_numbers(done, whole)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [{"stages": 2, "chunks": 4}, {"stages": 1, "parts": 2, "halo": "stale"}])
def test_the_epoch_that_becomes_the_last_is_evaluated_like_one(shape: dict[str, Any], tmp_path: Path) -> None:
    """Though rows may be under way that an evaluation waits for elsewhere. The run goes on from there."""
    changes = {**SMALL, **shape, "checkpoint_every": 7}
    short = gnnpipe.train(out=tmp_path / "short", **{**changes, "epochs": 7})
    stopped = gnnpipe.train(out=tmp_path / "run", callbacks=[At(6, lambda: gnnpipe.STOP)], **changes)
    assert same_numbers(stopped, short)
    long, done = gnnpipe.resume(short, epochs=12), gnnpipe.resume(stopped)
    assert same_numbers(done, long)


@pytest.mark.slow
@pytest.mark.parametrize("epoch", [6, 11])
def test_what_a_callback_raises_ends_the_run_resumably(epoch: int, tmp_path: Path) -> None:
    whole = gnnpipe.train(out=tmp_path / "whole", **SMALL)
    error = ZeroDivisionError("in my callback")

    def fail() -> None:
        raise error

    bad, other = At(epoch, fail), At(-1, None)
    with pytest.raises(ZeroDivisionError, match="in my callback") as raised:
        gnnpipe.train(out=tmp_path / "run", callbacks=[bad, other], **SMALL)
    assert raised.value is error
    assert raised.traceback[-1].name == "fail"
    assert bad.ends == other.ends == [error]
    assert other.epochs == [*range(epoch + 1)]
    stopped = gnnpipe.open(tmp_path / "run")
    assert len(stopped.records()) == epoch + 1
    if epoch == 11:  # nothing was left to do
        assert stopped.finished
    else:
        assert not stopped.finished
        stopped = gnnpipe.resume(stopped)
    assert same_numbers(stopped, whole)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["start", "end"])
def test_what_is_raised_before_and_after_training(where: str, tmp_path: Path) -> None:
    class Bad(At):
        def on_train_start(self, run: gnnpipe.RunInfo) -> None:
            if where == "start":
                raise OSError("no disk")

        def on_train_end(self, summary: dict[str, Any]) -> None:
            raise OSError("no disk")

    bad = Bad(-1, None)
    with pytest.raises(OSError, match="no disk"):
        gnnpipe.train(out=tmp_path / "run", callbacks=[bad], **SMALL)
    assert gnnpipe.open(tmp_path / "run").finished == (where == "end")
    assert len(bad.epochs) == (12 if where == "end" else 0)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["raised", "signal"])
def test_ctrl_c_in_a_callback_is_ctrl_c(how: str, tmp_path: Path) -> None:
    began: list[float] = []

    def wait() -> None:
        if how == "raised":
            raise KeyboardInterrupt
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        began.append(time.monotonic())
        time.sleep(60)

    waits = At(3, wait)
    with pytest.raises(
        StoppedError, match=r"^interrupted; saved in .*: 4 epochs in records.jsonl; .* epoch 4$"
    ):
        gnnpipe.train(out=tmp_path / "run", callbacks=[waits], **SMALL)
    assert not began or time.monotonic() - began[0] < 20
    (error,) = waits.ends
    assert isinstance(error, StoppedError)
    assert len(gnnpipe.resume(tmp_path / "run").records()) == 12


@pytest.mark.slow
def test_ranks_wait_for_a_callback_longer_than_their_timeout(tmp_path: Path) -> None:
    slow = At(3, lambda: time.sleep(4))
    done = gnnpipe.train(out=tmp_path / "run", callbacks=[slow], timeout=1.5, **SMALL)
    assert len(done.records()) == 12


@pytest.mark.slow
def test_a_restart_is_another_start(tmp_path: Path) -> None:
    """After an epoch's end a rank is killed; the run goes back to its last checkpoint."""

    def kill() -> None:
        if len(told.starts) == 1:
            processes = psutil.Process().children(recursive=True)
            ranks = [process for process in processes if not process.children()]
            ranks[-1].kill()

    told = At(7, kill)
    changes = {**SMALL, "checkpoint_every": 3, "max_restarts": 1}
    done = gnnpipe.train(out=tmp_path / "run", callbacks=[told], **changes)
    first, second = told.starts
    assert (first.first_epoch, second.first_epoch) in ((0, 3), (0, 6))
    assert told.epochs == [*range(8), *range(second.first_epoch, 12)]
    assert told.ends == [done.summary]
    assert same_numbers(done, gnnpipe.train(out=tmp_path / "whole", **SMALL))


TORCHRUN = """
import os
import gnnpipe
class Mine(gnnpipe.Callback):
    def on_epoch_end(self, record):
        os.write(1, f"rank {os.environ['RANK']} epoch {record['epoch']}\\n".encode())
        if record["epoch"] == 3:
            ACT
    def on_exception(self, error):
        os.write(1, f"{type(error).__name__}\\n".encode())
run = gnnpipe.train(
    stages=2, synthetic={"num_nodes": 400, "blocks_per_class": 2}, layers=4, hidden=8, epochs=8, threads=1,
    out="run", log="csv", callbacks=[Mine()] if os.environ["RANK"] == "0" else [],
)
os.write(1, f"{run.summary['stopped_early']}\\n".encode())
"""


@pytest.mark.slow
def test_under_torchrun_they_run_on_rank_0(tmp_path: Path) -> None:
    """Also where the other processes were given none."""
    torchrun = [str(BIN / "torchrun"), "--nproc-per-node", "2", "script.py"]
    (tmp_path / "script.py").write_text(TORCHRUN.replace("ACT", "return gnnpipe.STOP"))
    done = run(torchrun, tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line for line in lines if "epoch" in line and "rank" in line] == [
        f"rank 0 epoch {epoch}" for epoch in range(4)
    ]
    assert lines.count("{'epoch': 3, 'reason': 'Mine returned STOP'}") == 2
    assert len((tmp_path / "run" / "logs" / "records.csv").read_text().splitlines()) == 5


@pytest.mark.slow
def test_under_torchrun_log_comes_behind_two_dashes(tmp_path: Path) -> None:
    """Without them torchrun takes it for one of its own flags."""
    train = ["gnnpipe", "train", *FLAGS, "--stages", "2", "--log", "csv", "--out", "run"]
    done = run([str(BIN / "torchrun"), "--nproc-per-node", "2", "-m", "--", *train], tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "logs" / "records.csv").exists()


@pytest.mark.slow
def test_under_torchrun_a_traceback_is_shown(tmp_path: Path) -> None:
    torchrun = [str(BIN / "torchrun"), "--nproc-per-node", "2", "script.py"]
    (tmp_path / "script.py").write_text(TORCHRUN.replace("ACT", "raise ZeroDivisionError('mine')"))
    done = run(torchrun, tmp_path)
    assert done.returncode != 0
    assert "in on_epoch_end" in done.stderr
    assert "ZeroDivisionError: mine" in done.stderr
    assert "ZeroDivisionError\n" in done.stdout
    assert len(gnnpipe.resume(tmp_path / "run").records()) == 8


@pytest.mark.slow
def test_the_flag(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    out = ("--out", "run", "--checkpoint-every", "3")
    for again in ((), ("--overwrite",)):
        done = command("train", *FLAGS, "--log", "csv,tensorboard", *out, *again, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    logs = tmp_path / "run" / "logs"
    assert len([*(logs / "tensorboard").iterdir()]) == 1
    on = command("train", "--resume", "run", "--epochs", "8", cwd=tmp_path)
    assert on.returncode == 0, on.stderr
    assert len([*(logs / "tensorboard").iterdir()]) == 2
    assert len((logs / "records.csv").read_text().splitlines()) == 9
    off = command("train", "--resume", "run", "--epochs", "9", "--log", "[]", cwd=tmp_path)
    assert "from here on: log [] (was [csv, tensorboard])" in off.stderr
    assert len((logs / "records.csv").read_text().splitlines()) == 9


def test_an_unknown_log_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["train", "--log", "tensorbord", "--out", str(tmp_path / "run")]) == 2
    assert (
        "log: 'tensorbord' can't be used; expected a list of csv, tensorboard, wandb"
        in capsys.readouterr().err
    )
    with pytest.raises(ConfigError, match="log: 'csv,what' can't be used"):
        gnnpipe.train(log="csv,what")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_script_at_stdin_may_define_them(tmp_path: Path) -> None:
    """Like a notebook, it has no file from which a rank could import a class."""
    script = """
import gnnpipe
class Mine(gnnpipe.Callback):
    losses = []
    def on_epoch_end(self, record):
        self.losses.append(record["loss"])
gnnpipe.train(synthetic={"num_nodes": 400, "blocks_per_class": 2}, layers=2, epochs=3, callbacks=[Mine()])
print(len(Mine.losses))
"""
    done = subprocess.run(
        [sys.executable, "-"], input=script, cwd=tmp_path, env=environment(), capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "3\n"), done.stderr
