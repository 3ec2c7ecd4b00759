"""A run that ends early ends alike whatever happens to it on the way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gnnpipe.config.checks import check_config
from gnnpipe.config.resume import changes, check_resumed
from gnnpipe.config.run import OptimizerConfig, RunConfig
from gnnpipe.errors import ConfigError, LostRankError
from gnnpipe.records.record import StoppedEarly
from gnnpipe.run.reporter import Quiet
from gnnpipe.run.resume import start_of
from tests.faults.runs import Run, assert_same_state

PLATEAU = OptimizerConfig(schedule="plateau", plateau_factor=0.5, plateau_patience=2)


def run(where: Path) -> Run:
    return Run.prepare(where, stages=2, epochs=90, eval_every=3, patience=9, lr=0.05, optimizer=PLATEAU)


def rates(of: Run) -> list[float]:
    return [record.lr for record in of.folder.records()]


@pytest.mark.slow
def test_a_killed_run_stops_where_it_would_have_stopped(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole").train()
    stopped = whole.folder.summary().stopped_early
    assert stopped
    done = stopped.epoch + 1
    assert 12 < done < 90
    assert len(whole.losses()) == whole.folder.summary().epochs == done
    val = [record.scores.val for record in whole.folder.records() if record.scores]
    first = 3 * val.index(max(val)) + 2
    assert stopped.epoch == first + 9
    assert whole.folder.summary().best.epoch == first
    assert len(set(rates(whole))) > 1

    other = run(tmp_path / "other")
    with pytest.raises(LostRankError):
        other.train_until(1, (done - 3) * len(other.job.plan.schedule.stages[0]))
    again = other.again()
    assert again.job.start
    assert 0 < again.job.start.epochs < done
    assert not again.job.start.over
    again.train()
    assert (again.losses(), rates(again)) == (whole.losses(), rates(whole))
    assert again.folder.summary().stopped_early == stopped
    assert_same_state(again.state(), whole.state())
    _only_the_summary_is_left(again, stopped)


def _only_the_summary_is_left(ended: Run, stopped: StoppedEarly) -> None:
    """After a run was killed between its last checkpoint and its summary."""
    config = replace(ended.job.config, resume=str(ended.folder.path))
    with pytest.raises(ConfigError, match=rf"finished after epoch {stopped.epoch + 1}, as .*--patience 18"):
        start_of(config, ended.folder, Quiet())
    with pytest.raises(ConfigError, match="--patience 18"):  # more epochs alone would end at once
        start_of(replace(config, epochs=900), ended.folder, Quiet())
    more = start_of(replace(config, patience=10), ended.folder, Quiet())
    assert more
    assert not more.over
    before, losses = ended.folder.summary(), ended.losses()
    (ended.folder.path / "summary.json").unlink()
    again = ended.again()
    assert again.job.start
    assert again.job.start.over
    again.train()
    assert again.losses() == losses
    assert replace(again.folder.summary(), peak_memory_bytes=()) == replace(before, peak_memory_bytes=())
    assert again.folder.plan().resumed == ended.folder.plan().resumed


def test_patience_may_change_on_the_way() -> None:
    before = check_config(RunConfig(patience=9))
    after = replace(before, resume="x", patience=3)
    check_resumed(after, before)
    assert changes(after, before) == ["patience 3 (was 9)"]
