"""A run's folder: who may take it, what a failure leaves, and what is said of the weights in it."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

import gnnpipe
from gnnpipe.checkpoint import storage
from gnnpipe.checkpoint.state import complete, latest, prune, remove_leftovers, write
from gnnpipe.checkpoint.storage import Storage, StoredCheckpoint
from gnnpipe.cli.main import main
from gnnpipe.comm.groups import Talk
from gnnpipe.config.checks import check_config
from gnnpipe.config.run import RunConfig
from gnnpipe.errors import ConfigError, TrainingError
from gnnpipe.files import writing
from gnnpipe.records import folder as records
from gnnpipe.records import taking
from gnnpipe.records.folder import RunFolder
from gnnpipe.records.progress import Progress
from gnnpipe.records.recorder import Recorder
from gnnpipe.run import resume
from gnnpipe.run.reporter import Quiet
from tests.cli.commands import BIN, SMALL, run
from tests.faults.runs import Run
from tests.faults.stored import ABOUT, PLAN, checkpoint, damage, run_folder
from tests.made import record, summary

CONFIG = check_config(RunConfig(layers=2, hidden=8, epochs=100))


def for_restart(config: RunConfig) -> RunConfig:
    return resume.for_restart(config, Quiet())


def as_rank(
    monkeypatch: pytest.MonkeyPatch, agent: str, restart: int, rank: int = 0, run_id: str = "none"
) -> None:
    """As torchrun starts a process for the so-manyeth time."""
    for name, value in {
        "TORCHELASTIC_RUN_ID": run_id,
        "TORCHELASTIC_RESTART_COUNT": restart,
        "TORCHELASTIC_MAX_RESTARTS": 3,
        "TORCHELASTIC_ERROR_FILE": f"/tmp/x/{run_id}_{agent}/attempt_{restart}/{rank}/error.json",
        "RANK": rank,
    }.items():
        monkeypatch.setenv(name, str(value))


def test_a_restart_takes_over_only_its_own_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(CONFIG, out=str(tmp_path / "run"))
    as_rank(monkeypatch, "a", 0)
    assert for_restart(config) == config
    run_folder(tmp_path / "run", 2)
    as_rank(monkeypatch, "a", 1)
    assert for_restart(config) == replace(config, resume=config.out)
    others: list[dict[str, Any]] = [{"agent": "b"}, {"run_id": "night"}]
    for other in others:
        as_rank(monkeypatch, **{"agent": "a", "restart": 1, **other})
        assert for_restart(config) == config  # which is refused, as at first
        with pytest.raises(ConfigError, match="exists already"):
            RunFolder.for_config(for_restart(config))
    as_rank(monkeypatch, "a", 2)
    for changes in ({"seed": 1}, {"lr": 0.5}, {"epochs": 7}):
        assert for_restart(replace(config, **changes)) == replace(config, **changes)
    as_rank(monkeypatch, "a", 1, rank=1)
    assert for_restart(config) == config  # rank 0 decides


def test_a_restart_without_a_checkpoint_begins_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(CONFIG, out=str(tmp_path / "run"))
    as_rank(monkeypatch, "a", 0)
    run_folder(tmp_path / "run")
    as_rank(monkeypatch, "a", 1)
    assert for_restart(config) == replace(config, overwrite=True)


def test_a_launch_without_a_folder_for_errors_is_told_by_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    as_rank(monkeypatch, "a", 0)
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", "")
    name = taking.launch_id()
    assert name == taking.launch_id()
    assert f"{os.getppid()}-" in name
    assert socket.gethostname() in name
    monkeypatch.delenv("TORCHELASTIC_RUN_ID")
    assert taking.launch_id() != taking.launch_id()  # nobody asks again


def test_a_resumed_run_is_its_last_launchs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_rank(monkeypatch, "a", 0)
    folder = run_folder(tmp_path / "run", 2)
    as_rank(monkeypatch, "b", 0)
    folder.rewind(CONFIG, PLAN, 2, Path())
    assert folder.is_begun_by(taking.launch_id(), CONFIG)
    as_rank(monkeypatch, "a", 1)
    assert not folder.is_begun_by(taking.launch_id(), CONFIG)


@pytest.mark.slow
def test_torchrun_never_takes_another_run(tmp_path: Path) -> None:
    old = run_folder(tmp_path / "old", 2, seed=5)
    before = {path: path.read_bytes() for path in old.path.rglob("*") if path.is_file()}
    launcher = [str(BIN / "torchrun"), "--nproc-per-node", "1", "--max-restarts", "2", "-m", "gnnpipe"]
    done = run([*launcher, "train", *SMALL, "--out", "old"], tmp_path)
    assert done.returncode != 0
    assert done.stderr.count("exists already; choose another --out") == 3
    after = {path: path.read_bytes() for path in old.path.rglob("*") if path.is_file()}
    assert {path: after.get(path) for path in before} == before


def stops(at: int) -> Any:
    """Writes so many files, and is killed then."""
    left = iter(range(at))

    def write_file(path: Path, content: str | bytes, **options: Any) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        writing.write_file(path, content, **options)

    return write_file


@pytest.mark.parametrize("at", range(5))
def test_a_folder_whose_making_was_cut_short_is_free(
    at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(CONFIG, out=str(tmp_path / "run"))
    stop = stops(at)
    for module in (records, taking):
        monkeypatch.setattr(module, "write_file", stop)
    if at < 4:
        with pytest.raises(KeyboardInterrupt):
            RunFolder.for_config(config).create(config, PLAN)
    else:
        monkeypatch.setattr(records, "made", lambda path: None)
        RunFolder.for_config(config).create(config, PLAN)
    monkeypatch.undo()
    (tmp_path / "run" / ".gnnpipe-0123456789abcdef.part").touch()
    for again in (config, replace(config, overwrite=True)):
        RunFolder.for_config(again)
    RunFolder.for_config(config).create(config, PLAN)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "config.yaml",
        "plan.json",
        "records.jsonl",
    }


def test_a_run_that_was_half_removed_may_be_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_folder(tmp_path / "run", 2)
    config = replace(CONFIG, out=str(tmp_path / "run"), overwrite=True)
    removed: list[Path] = []

    def remove(path: Path) -> None:
        if removed:
            raise KeyboardInterrupt
        removed.append(path)
        writing.remove(path)

    monkeypatch.setattr(taking, "remove", remove)
    with pytest.raises(KeyboardInterrupt):
        RunFolder.for_config(config).create(config, PLAN)
    monkeypatch.undo()
    assert [path.name for path in removed] == ["records.jsonl"]
    with pytest.raises(ConfigError, match="exists already"):  # its checkpoints may be dear to somebody
        RunFolder.for_config(replace(config, overwrite=False))
    RunFolder.for_config(config).create(config, PLAN)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_folder_of_ones_own_is_not_taken(tmp_path: Path) -> None:
    for name in ("config.yaml", "summary.json"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.yaml").write_text("dear")
        with pytest.raises(ConfigError, match="exists already"):
            RunFolder.for_config(replace(CONFIG, out=str(tmp_path / name)))
        with pytest.raises(ConfigError, match="is not just a run"):
            RunFolder.for_config(replace(CONFIG, out=str(tmp_path / name), overwrite=True))
    run_folder(tmp_path / "run", 1)
    (tmp_path / "run" / "report.png").mkdir()  # a folder in a file's place is somebody's
    with pytest.raises(ConfigError, match=r"is not just a run \('report.png' is not a run's\)"):
        RunFolder.for_config(replace(CONFIG, out=str(tmp_path / "run"), overwrite=True))


def test_a_checkpoint_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, tensors = Storage(Talk()), {"weights.a": torch.ones(3)}

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for name in ("write_tensors", "write_file", "rename"):
        with monkeypatch.context() as patch:
            patch.setattr(storage, name, full)
            write(store, tmp_path, tensors, ABOUT)
            with pytest.raises(OSError, match="No space left"):
                store.finish()
        assert list((tmp_path / "checkpoints").iterdir()) == []
    write(store, tmp_path, tensors, ABOUT)
    assert store.finish()
    stored = latest(tmp_path, pytest.fail)
    assert stored
    assert torch.equal(stored.read("weights.a"), tensors["weights.a"])


def test_a_checkpoint_is_not_written_through_links(tmp_path: Path) -> None:
    store, tensors = Storage(Talk()), {"weights.a": torch.ones(3)}
    outside = tmp_path / "outside"
    outside.mkdir()
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "epoch-00000002").symlink_to(outside)
    (folder / "checkpoints" / "epoch-00000002-1.part").symlink_to(outside)
    write(store, folder, tensors, ABOUT)
    with pytest.raises(OSError, match="it is a link"):
        store.finish()
    write(store, folder, tensors, ABOUT)
    store.finish()
    assert not list(outside.iterdir())
    assert [path.name for path in complete(folder)] == ["epoch-00000002"]
    (folder / "checkpoints" / "epoch-00000004.part").symlink_to(outside)
    remove_leftovers(folder)
    assert outside.exists()
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["epoch-00000002"]


def names(folder: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("epoch-")) for path in complete(folder))


def test_pruning_counts_whole_checkpoints_only(tmp_path: Path) -> None:
    for epochs in (2, 4, 6, 8):
        checkpoint(tmp_path, epochs)
    for epochs in (6, 8):
        damage(tmp_path / "checkpoints" / f"epoch-{epochs:08d}")
    whole: set[Path] = set()
    (tmp_path / "checkpoints" / "epoch-00000009").symlink_to(tmp_path / "checkpoints" / "epoch-00000002")
    prune(tmp_path, 3, whole)
    assert names(tmp_path) == [2, 4, 6, 8]  # two are whole, and three were to be kept
    for epochs in (5, 7):
        whole.add(checkpoint(tmp_path, epochs))
        prune(tmp_path, 1, whole)
        assert names(tmp_path) == [epochs]
        assert latest(tmp_path, pytest.fail)


def test_looking_at_a_checkpoint_once_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for epochs in (2, 4):
        checkpoint(tmp_path, epochs)
    whole: set[Path] = set()
    prune(tmp_path, 2, whole)
    monkeypatch.setattr(StoredCheckpoint, "verify", lambda self: pytest.fail("again"))
    prune(tmp_path, 2, whole)
    assert names(tmp_path) == [2, 4]


def test_a_model_says_what_it_is(tmp_path: Path) -> None:
    done = Run.prepare(tmp_path / "run", epochs=3, eval_every=1, checkpoint_every=0).train()
    with safe_open(done.folder.path / "model.safetensors", framework="pt") as file:
        about = file.metadata()
    best = done.folder.summary().best
    config, spec = done.job.config, done.job.spec
    assert about == {
        "format": "pt",
        "gnnpipe": gnnpipe.__version__,
        "dataset": "synthetic",
        "model": config.model,
        "layers": "4",
        "hidden": "8",
        "features": str(spec.num_features),
        "classes": "10",
        "metric": "accuracy",
        "best_epoch": str(best.epoch),
        "best_val": str(best.val),
        "test_at_best_val": str(best.test),
    }


def test_weights_travel_with_what_is_said_of_them(tmp_path: Path) -> None:
    """Better weights can't be written (a folder stands there), though all else can."""
    run = Run.prepare(tmp_path / "run", epochs=4, eval_every=1, on_write_error="continue", checkpoint_every=4)
    (run.folder.path / "model.safetensors").mkdir()
    with pytest.raises(
        TrainingError, match=r"a folder stands there: '.*model.safetensors'\); move that folder"
    ):
        run.train()
    assert len(run.folder.records()) == 4
    stored = latest(run.folder.path, pytest.fail)
    assert stored
    assert stored.about.best is None  # and not the score that the records have
    (run.folder.path / "model.safetensors").rmdir()
    more = Run.prepare_again(run, epochs=6).train()
    best = more.folder.summary().best
    assert best.epoch >= 4
    stored = latest(run.folder.path, pytest.fail)
    assert stored
    assert stored.about.best == {"epoch": best.epoch, "val": best.val}
    assert (stored.folder / "model.safetensors").read_bytes() == (
        run.folder.path / "model.safetensors"
    ).read_bytes()


def test_progress_speaks_of_the_weights_that_there_are() -> None:
    scores = [0.5, 0.9, 0.7]
    lines = [record(at, val=score) for at, score in enumerate(scores)]
    for held, best in (
        ({"epoch": 0, "val": 0.5}, 0.5),
        ({"epoch": 2, "val": 0.7}, 0.7),
        (None, float("-inf")),
    ):
        progress = Progress()
        for line in lines:
            progress.add(line)
        progress.hold(held, lines)
        assert progress.best_val == best
        assert bool(progress.add(record(3, val=0.8))) == (best < 0.8)


def test_a_record_is_written_though_the_weights_can_not_be(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run")
    (folder.path / "model.safetensors").mkdir()
    said: list[str] = []
    recorder = Recorder(folder, "continue", said.append)
    recorder.model([{"a": torch.ones(1)}, {"b": torch.ones(1)}], {"best_epoch": "0"})
    recorder.append(record(0))
    assert folder.records() == [record(0)]
    (folder.path / "model.safetensors").rmdir()
    recorder.append(record(1))
    with safe_open(folder.path / "model.safetensors", framework="pt") as file:
        assert (set(file.keys()), file.metadata()["best_epoch"]) == ({"a", "b"}, "0")


def test_a_full_disk_while_rewinding_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run_folder(tmp_path / "run", 4)
    folder.write_summary(summary(epochs=4))
    before = {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}

    def full(file: int, content: memoryview) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(
            ConfigError, match=r"No space left on device: '.*records.jsonl'\); make room there"
        ):
            folder.rewind(CONFIG, PLAN, 4, Path())
    assert {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()} == before


LONG = "x" * 300


@pytest.mark.parametrize(
    "flags",
    [
        ["train", "--out", LONG],
        ["train", "--out", f"{LONG}/run"],
        ["train", "--resume", LONG],
        ["train", "--config", LONG],
        ["train", "--out", "file/run"],
        ["train", "--out", "loop"],
        ["train", "--resume", "loop"],
        ["train", "--dataset", "Flickr", "--root", LONG, "--out", "new"],
        ["train", "--dataset", "Flickr", "--root", "file", "--out", "new"],
        ["plan", "--hardware", LONG],
        ["plan", "--hardware", "loop"],
        ["show", LONG],
        ["show", "loop"],
        ["compare", LONG, LONG],
        ["profile", "--out", f"{LONG}/x"],
        ["profile", "--out", LONG],
        ["profile", "--out", "run", "--overwrite"],
    ],
)
def test_every_refusal_of_the_system_is_one_line(
    flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "run").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    small = ["--epochs", "1", "--threads", "1", "--layers", "2"] if flags[0] == "train" else []
    assert main([*flags, *small]) in (1, 2)
    (line,) = (line for line in capsys.readouterr().err.splitlines() if not line.endswith(" ..."))
    assert line.startswith("gnnpipe: error: ")
    assert ";" in line


def test_a_full_temporary_folder_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("gnnpipe.files.writing.TensorWriter.append", full)
    assert main(["train", "--out", "new", "--synthetic.num_nodes", "200", "--layers", "2"]) == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if not line.endswith(" ..."))
    assert "TMPDIR: can't write the prepared graph to" in line
    assert "No space left on device" in line
    assert not (tmp_path / "new").exists()


def test_killed_while_writing(tmp_path: Path) -> None:
    """A process that is killed in the middle of a file leaves the one before it, and a name that is swept."""
    folder = run_folder(tmp_path / "run", 1)
    code = (
        "import os, signal, sys; from pathlib import Path; from gnnpipe.files import writing\n"
        "writing.os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL)\n"
        "writing.write_file(Path(sys.argv[1]) / 'plan.json', '{', durable=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder.path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert folder.plan().plan == PLAN.plan
    assert len([path for path in folder.path.iterdir() if writing.is_leftover(path.name)]) == 1
    remove_leftovers(folder.path)
    assert not [path for path in folder.path.iterdir() if writing.is_leftover(path.name)]
