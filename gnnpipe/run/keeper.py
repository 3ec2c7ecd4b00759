"""Writing checkpoints beside the training of one rank."""

from __future__ import annotations

import time
from pathlib import Path

from gnnpipe.checkpoint.state import RankState, checkpoint_path, describe, prune, write
from gnnpipe.checkpoint.storage import Storage
from gnnpipe.comm.world import World
from gnnpipe.config.every import Every
from gnnpipe.run.job import Job, reads_stale_rows
from gnnpipe.run.recorder import Recorder


class Clockwork:
    """Says when the next checkpoint is due.

    Args:
        every: how often.
        epochs: of the whole run, after which one is due too where epochs are counted.
    """

    def __init__(self, every: Every, epochs: int) -> None:
        self._every, self._epochs, self._last = every, epochs, time.monotonic()

    def due(self, epoch: int) -> bool:
        """Whether to write one now that an epoch, counted from 0, is done."""
        if self._every.epochs:
            return (epoch + 1) % self._every.epochs == 0 or epoch + 1 == self._epochs
        return bool(self._every.seconds) and time.monotonic() - self._last >= self._every.seconds

    def wrote(self) -> None:
        """One was written."""
        self._last = time.monotonic()


class Keeper:
    """Writes a checkpoint when one is due, while the next epochs run.

    Args:
        job: the run.
        world: all ranks, which write together.
        state: what this rank writes.
        recorder: told what could not be written.
    """

    def __init__(self, job: Job, world: World, state: RankState, recorder: Recorder) -> None:
        self._job, self._world, self._state, self._recorder = job, world, state, recorder
        self._storage = Storage(world.writing)
        self._whole: set[Path] = set()  # checkpoints that were written here, or looked at
        self._epochs = 0  # of the one that is being written
        self._clockwork = Clockwork(job.config.checkpoints, job.config.epochs)

    def due(self, epoch: int) -> bool:
        """Whether one is due after an epoch, by this rank's clock."""
        return self._clockwork.due(epoch)

    def after(self, epoch: int, *, due: bool, refreshed: bool) -> None:
        """An epoch is over on all ranks.

        Args:
            epoch: its number.
            due: whether a checkpoint is; the same on all ranks.
            refreshed: whether an exact sweep has filled the next epoch's tables already.

        Raises:
            TrainingError: the last one could not be written, and the run is to stop then.
        """
        if self._storage.done or due:
            self.finish()
        if not due:
            return
        keeps, job = reads_stale_rows(self._job), self._job
        tensors = self._state.tensors(tables=keeps)
        about = describe(job.plan, self._state.settings, epoch + 1, tables=keeps, refreshed=refreshed)
        write(self._storage, job.out, tensors, about)
        self._epochs = epoch + 1
        self._clockwork.wrote()

    def finish(self) -> None:
        """Wait for the last checkpoint, if one is being written; raises as `after` does."""
        try:
            if self._storage.finish() and self._world.rank == 0:
                self._whole.add(checkpoint_path(self._job.out, self._epochs))
                prune(self._job.out, self._job.config.keep_checkpoints, self._whole)
        except OSError as error:
            self._recorder.failed(error)
