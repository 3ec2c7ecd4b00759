"""Writing the checkpoints of one rank, in the background of training."""

from __future__ import annotations

import time
from pathlib import Path

from gnnpipe.checkpoint.state import RankState, prune, write
from gnnpipe.checkpoint.storage import Storage
from gnnpipe.comm.world import World
from gnnpipe.records.recorder import Recorder
from gnnpipe.run.job import Job, reads_stale_rows


class Keeper:
    """Writes a checkpoint when one is due, while the next epochs run.

    Args:
        job: the run.
        world: the ranks of the run; each writes its share of a checkpoint.
        state: this rank's share.
        recorder: decides whether the run stops when a write fails.
    """

    def __init__(self, job: Job, world: World, state: RankState, recorder: Recorder) -> None:
        self._job, self._world, self._state, self._recorder = job, world, state, recorder
        self._storage = Storage(world.writing)
        self._whole: set[Path] = set()  # checkpoints that were written here, or verified
        self._every = job.config.checkpoints
        self._last = time.monotonic()  # begin of the last checkpoint

    @property
    def after_last(self) -> bool:
        """Whether there is a checkpoint after the last epoch, also where the run stops early."""
        return self._every.epochs > 0

    def due(self, epoch: int) -> bool:
        """Whether a checkpoint is due after an epoch (counted from 0), by this rank's clock."""
        every = self._every
        if every.epochs:
            return (epoch + 1) % every.epochs == 0 or epoch + 1 == self._job.config.epochs
        return bool(every.seconds) and time.monotonic() - self._last >= every.seconds

    def after(self, epoch: int, *, due: bool, refreshed: bool) -> None:
        """Begin a checkpoint if one is due. Called when an epoch is over on all ranks.

        Args:
            epoch: its number.
            due: whether a checkpoint is due; the same on all ranks.
            refreshed: whether an exact sweep has filled the next epoch's tables already.

        Raises:
            TrainingError: the last checkpoint could not be written, and ``on_write_error`` is stop.
        """
        if self._storage.done or due:
            self.finish()
        if not due:
            return
        job, keeps = self._job, reads_stale_rows(self._job)
        about = self._state.about(job.plan, epoch + 1, tables=keeps, refreshed=refreshed)
        write(self._storage, job.out, self._state.tensors(tables=keeps), about)
        self._last = time.monotonic()

    def finish(self) -> None:
        """Wait for the checkpoint that is being written, if any; raises as `after` does."""
        try:
            written = self._storage.finish()
            if written and self._world.rank == 0:
                self._whole.add(written)
                prune(self._job.out, self._job.config.keep_checkpoints, self._whole)
        except OSError as error:
            self._recorder.failed(error)
