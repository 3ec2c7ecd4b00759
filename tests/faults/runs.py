"""Small runs to be disturbed, and what they must come to."""

from __future__ import annotations

import itertools
import os
import signal
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gnnpipe.checkpoint.state import latest
from gnnpipe.checkpoint.storage import StoredCheckpoint
from gnnpipe.comm.launch import launch_local, warm_up
from gnnpipe.config.checks import check_config
from gnnpipe.config.run import RunConfig, StalenessConfig, SyntheticConfig
from gnnpipe.engine.engine import Engine, EpochUnderWay
from gnnpipe.records.folder import RunFolder
from gnnpipe.report.console import ConsoleReporter
from gnnpipe.run.job import Job, describe_plan, prepare_job
from gnnpipe.run.rank import rank_main
from gnnpipe.run.reporter import Reporter
from gnnpipe.run.resume import restarted

SMALL = RunConfig(
    synthetic=SyntheticConfig(num_nodes=400, blocks_per_class=2),
    layers=4,
    hidden=8,
    epochs=6,
    eval_every=3,
    chunks=4,
    threads=1,
    timeout=60.0,
    checkpoint_every=2,
)


@dataclass(frozen=True)
class Run:
    """A job with its folder."""

    job: Job
    folder: RunFolder

    @classmethod
    def prepare(cls, where: Path, **changes: Any) -> Run:
        """Everything but the ranks."""
        warm_up(local_rank_main)
        staleness = changes.pop("staleness", StalenessConfig())
        config = check_config(replace(SMALL, staleness=staleness, **changes))
        where.mkdir(parents=True)
        folder = RunFolder(where / "run")
        job, facts, predictions = prepare_job(config, where, folder.path.absolute())
        folder.create(config, describe_plan(job, facts, predictions))
        return cls(job, folder)

    @classmethod
    def prepare_again(cls, run: Run, **changes: Any) -> Run:
        """A run as it goes on with other settings."""
        again = run.again()
        return replace(again, job=replace(again.job, config=replace(again.job.config, **changes)))

    def train(self) -> Run:
        """Run to the end."""
        launch_local(local_rank_main, (self.job,), self.job.plan.num_ranks)
        return self

    def train_until(self, rank: int, action: int, how: int = signal.SIGKILL) -> None:
        """The same, but a rank sends itself a signal in front of one of its actions."""
        launch_local(_disturbed, (self.job, rank, action, int(how)), self.job.plan.num_ranks)

    def train_poisoned(self, rank: int, epoch: int) -> Run:
        """The same, but a row of a rank's first aggregated table is not a number as an epoch begins."""
        launch_local(_poisoned, (self.job, rank, epoch), self.job.plan.num_ranks)
        return self

    def train_overflowed(self, rank: int, epoch: int) -> Run:
        """The same, but through one epoch the first weight of a rank is not a number."""
        launch_local(_overflowed, (self.job, rank, epoch), self.job.plan.num_ranks)
        return self

    def again(self) -> Run:
        """The run as it goes on from its last checkpoint."""
        return replace(self, job=restarted(self.job, self.folder, ConsoleReporter()))

    def losses(self) -> list[float | None]:
        """Of all epochs."""
        return [record.loss for record in self.folder.records()]

    def state(self) -> dict[str, Tensor]:
        """All tensors of the last checkpoint."""
        stored = latest(self.folder.path, _nothing)
        assert isinstance(stored, StoredCheckpoint)
        return {name: stored.read(name) for name in stored.tensors}


def assert_same_state(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Bit for bit."""
    assert set(found) == set(expected)
    for name, tensor in found.items():
        assert torch.equal(tensor, expected[name]), name


def _nothing(*_: Any) -> None:
    pass


def local_rank_main(job: Job, store: str) -> None:
    """What a process of a run does."""
    rank_main(job, ConsoleReporter(job.config.epochs, job.metric), store)


def _disturbed(job: Job, rank: int, action: int, how: int, store: str) -> None:
    if int(os.environ["RANK"]) == rank:
        count = itertools.count()
        perform = Engine._perform

        def until(self: Engine, *arguments: Any) -> float:
            if next(count) == action:
                os.kill(os.getpid(), how)
            return perform(self, *arguments)

        Engine._perform = until  # type: ignore[method-assign]
    local_rank_main(job, store)


def dies_once(job: Job, reporter: Reporter, store: str) -> None:
    """What a process does that lives through its second start only."""
    if job.start is None:
        _disturbed(job, 0, 35, signal.SIGKILL, store)
    rank_main(job, reporter, store)


def _poisoned(job: Job, rank: int, epoch: int, store: str) -> None:
    if int(os.environ["RANK"]) == rank:
        run_epoch = Engine.run_epoch

        def poisoned(self: Engine, number: int, order: list[int]) -> EpochUnderWay:
            if number == epoch:
                tables = [layer.rows.table for layer in self._stage.layers if layer.rows is not None]
                tables[0].rows[: len(tables[0].rows)] = torch.nan
            return run_epoch(self, number, order)

        Engine.run_epoch = poisoned  # type: ignore[method-assign]
    local_rank_main(job, store)


def _overflowed(job: Job, rank: int, epoch: int, store: str) -> None:
    if int(os.environ["RANK"]) == rank:
        run_epoch = Engine.run_epoch

        def overflowed(self: Engine, number: int, order: list[int]) -> EpochUnderWay:
            weight = next(self._stage.modules.parameters()).data
            before = weight.clone()
            if number == epoch:
                weight.fill_(torch.nan)
            result = run_epoch(self, number, order)
            weight.copy_(before)
            return result

        Engine.run_epoch = overflowed  # type: ignore[method-assign]
    local_rank_main(job, store)
