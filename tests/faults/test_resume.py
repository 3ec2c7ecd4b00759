"""A run that is stopped and goes on gives the same numbers as one that is not."""

from __future__ import annotations

import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from gnnpipe.cli.main import main
from gnnpipe.config.run import StalenessConfig
from gnnpipe.errors import LostRankError
from gnnpipe.report.console import ConsoleReporter
from gnnpipe.run import session
from tests.faults.runs import Run, assert_same_state, dies_once

PLANS = [(2, 1), (1, 2), (2, 2)]
# What settings keep from one epoch to the next differs.
KINDS: dict[str, dict[str, Any]] = {
    "default": {},
    "paper": {"staleness": StalenessConfig("paper")},
    "corrected": {"staleness": StalenessConfig(gradient="corrected", history="clean", refresh=2)},
    "fitted": {"staleness": StalenessConfig(weight="fitted", order="antithetic", dropout_hold=3)},
    "frozen": {"staleness": StalenessConfig(freeze="1,2@3", lookahead=1)},
    "stale-halo": {"halo": "stale"},
    "bf16": {"tables": "bf16", "wire": "int8"},
    "recompute": {"initial": "recompute", "model": "gcnii"},
    "exact": {"staleness": StalenessConfig("exact"), "chunks": None},
    "pushed": {"model": "mesh", "staleness": StalenessConfig(weight=0.7)},
    "pushed-fresh": {"model": "sage-max", "staleness": StalenessConfig("paper")},
    "batch-norm": {"model": "gin", "norm": "batch", "residual": "linear", "jk": "max"},
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, int], Run]:
    """Runs that nothing happened to."""
    where = tmp_path_factory.mktemp("whole")
    return {
        plan: Run.prepare(where / f"{plan[0]}x{plan[1]}", stages=plan[0], parts=plan[1]).train()
        for plan in PLANS
    }


def disturb(seed: int, where: Path, whole: dict[tuple[int, int], Run]) -> None:
    """Kill a rank in front of any of its actions; then go on."""
    rng = random.Random(seed)
    plan = PLANS[seed % len(PLANS)]
    run = Run.prepare(where, stages=plan[0], parts=plan[1])
    actions = len(run.job.plan.schedule.stages[0]) * run.job.config.epochs
    rank, action = rng.randrange(plan[0] * plan[1]), rng.randrange(actions)
    began = time.monotonic()
    with pytest.raises(LostRankError, match=f"rank {rank} failed first: it ended without a word"):
        run.train_until(rank, action)
    assert time.monotonic() - began < run.job.config.timeout
    before = run.losses()
    again = run.again()
    done = again.job.start.epochs if again.job.start else 0
    assert done % 2 == 0
    assert len(before) - done <= 3  # the one before may have been under way still
    again.train()
    assert again.losses() == whole[plan].losses()
    assert again.losses()[: len(before)] == before
    assert_same_state(again.state(), whole[plan].state())


@pytest.mark.parametrize("seed", range(1))
def test_killed_rank(seed: int, tmp_path: Path, whole: dict[tuple[int, int], Run]) -> None:
    disturb(seed, tmp_path / "run", whole)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 30))
def test_killed_rank_in_many_places(seed: int, tmp_path: Path, whole: dict[tuple[int, int], Run]) -> None:
    disturb(seed, tmp_path / "run", whole)


@pytest.mark.parametrize(
    "kind",
    [
        kind if kind in ("default", "stale-halo") else pytest.param(kind, marks=pytest.mark.slow)
        for kind in KINDS
    ],
)
def test_every_setting_goes_on_bit_for_bit(kind: str, tmp_path: Path) -> None:
    changes = {"stages": 1 if kind == "exact" else 2, "parts": 2, **KINDS[kind]}
    whole = Run.prepare(tmp_path / "whole", **changes).train()
    run = Run.prepare(tmp_path / "run", **changes)
    ranks, actions = run.job.plan.num_ranks, len(run.job.plan.schedule.stages[0])
    with pytest.raises(LostRankError):
        run.train_until(ranks - 1, 4 * actions + actions // 2)
    again = run.again()
    assert again.job.start
    assert again.job.start.epochs in (2, 4)
    again.train()
    assert again.losses() == whole.losses()
    assert_same_state(again.state(), whole.state())
    _assert_bytes_were_predicted(whole)


def _assert_bytes_were_predicted(run: Run) -> None:
    """What a checkpoint takes, but for averages where none are kept, and a stale halo's rows of the larger
    direction for both."""
    state = run.state()
    predicted = sum(run.folder.read("plan.json")["predictions"]["checkpoint_bytes"])
    small = ("node_id", "halo.ids", ".step", ".fit.")
    written = sum(tensor.nbytes for name, tensor in state.items() if not any(word in name for word in small))
    averages = any(name.startswith("averaged.") for name in state)
    weights = sum(tensor.nbytes for name, tensor in state.items() if name.startswith("weights."))
    found = written + (not averages) * weights
    if run.job.config.halo == "stale":
        assert found <= predicted < 1.1 * found
    else:
        assert predicted == found


@pytest.mark.slow
def test_stopped_rank_ends_the_run_within_the_timeout(tmp_path: Path) -> None:
    run = Run.prepare(tmp_path / "run", stages=2, timeout=5.0)
    began = time.monotonic()
    with pytest.raises(LostRankError, match=r"waited 5 s \(--timeout\) in vain for .*rank 1.* is stopped"):
        run.train_until(1, 10, signal.SIGSTOP)
    assert time.monotonic() - began < 5 + 20  # the launcher gives a process 5 s to end by itself
    assert run.folder.records()


def test_restarts_by_itself(
    tmp_path: Path,
    whole: dict[tuple[int, int], Run],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = Run.prepare(tmp_path / "run", stages=2, max_restarts=1)
    monkeypatch.setattr(session, "rank_main", dies_once)
    session._launch(run.job, run.folder, ConsoleReporter())
    assert run.losses() == whole[2, 1].losses()
    assert "rank 0 failed first: it ended without a word" in (said := capsys.readouterr().err)
    (resumed,) = run.folder.plan().resumed
    assert resumed.epoch in (2, 4)  # the one after 4 epochs may have been under way still
    assert resumed.shape == (2, 1, 4)
    assert f"restart 1 of 1, from epoch {resumed.epoch}" in said


def test_stopped_between_the_last_checkpoint_and_the_summary(tmp_path: Path) -> None:
    run = Run.prepare(tmp_path / "run", stages=2).train()
    before = run.folder.read("summary.json")
    (run.folder.path / "summary.json").unlink()
    again = run.again()
    assert again.job.start
    assert again.job.start.epochs == run.job.config.epochs
    after = again.train().folder.read("summary.json")
    same = ("epochs", "best_val", "test_at_best_val", "best_epoch", "bytes_per_epoch")
    assert [after[key] for key in same] == [before[key] for key in same]


def test_a_plan_that_runs_no_epoch_leaves_the_summary_of_the_one_that_did(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = Run.prepare(tmp_path / "run", parts=2, halo="stale").train()
    before, plan = run.folder.read("summary.json"), run.folder.read("plan.json")
    (run.folder.path / "summary.json").unlink()
    assert main(["train", "--resume", str(run.folder.path), "--parts", "1", "--lr", "9"]) == 0
    assert "all 6 epochs are done" in capfd.readouterr().out
    after = run.folder.read("summary.json")
    same = ("epochs", "best_val", "best_epoch", "median_epoch_seconds", "bytes_per_epoch_by_rank")
    assert [after[key] for key in same] == [before[key] for key in same]
    launches = list(run.folder.plan().launches)  # who went on with it last
    assert run.folder.read("plan.json") == plan | {"launches": launches}
    assert run.folder.settings()["parts"] == 2


def test_epochs_that_nothing_is_known_of_are_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = Run.prepare(tmp_path / "run", keep_checkpoints=9).train()
    (run.folder.path / "summary.json").unlink()
    for epochs in (4, 6):
        shutil.rmtree(run.folder.path / "checkpoints" / f"epoch-{epochs:08d}")
    assert main(["train", "--resume", str(run.folder.path), "--epochs", "2"]) == 2
    assert "epochs: none of the 2 that are done was evaluated" in capfd.readouterr().err


def test_elapsed_counts_all_of_a_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = Run.prepare(tmp_path / "run").train()
    assert main(["train", "--resume", str(run.folder.path), "--epochs", "8"]) == 0
    records = run.folder.records()
    elapsed = [record.elapsed for record in records]
    assert len(elapsed) == 8
    assert elapsed == sorted(elapsed)
    assert elapsed[7] - elapsed[5] >= sum(record.seconds for record in records[6:])
    assert elapsed[6] >= elapsed[5] + records[6].seconds
