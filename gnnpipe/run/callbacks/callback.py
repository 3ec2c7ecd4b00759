"""The base class of callbacks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gnnpipe.files.reading import Content


@dataclass(frozen=True)
class Stop:
    """Ends the run, as finished, when a callback returns it."""

    reason: str = ""
    """For the summary; empty to name the callback alone."""

    def __call__(self, reason: str) -> Stop:
        """The same with a reason: ``return STOP("the loss is low enough")``."""
        return Stop(reason)


STOP = Stop()


@dataclass(frozen=True)
class RunInfo:
    """A run whose training starts, as callbacks see it. Changing what it holds changes no run."""

    folder: Path
    """The run's folder."""
    config: Content
    """All settings, as in config.yaml."""
    plan: Content
    """The plan, the graph's facts and the predictions, as in plan.json."""
    metric: str
    """Metric of the scores, such as ``accuracy``."""
    lower_is_better: bool
    """Whether that is an error."""
    records: list[Content]
    """Records of the epochs that are done already; empty unless the run goes on from a checkpoint."""

    @property
    def first_epoch(self) -> int:
        """The epoch, counted from 0, that training starts with."""
        return len(self.records)

    @property
    def epochs(self) -> int:
        """Number of epochs of the whole run."""
        return int(self.config["epochs"])


class Callback:
    """Base of callbacks: override what you need.

    Callbacks run in the process that calls `gnnpipe.train`, one after the other, in the order of the list.
    The ranks wait meanwhile. Under torchrun they run on rank 0. A callback that raises ends the run: the
    epoch is saved, and the exception reaches the caller as it is.
    """

    def on_train_start(self, run: RunInfo) -> None:
        """Training starts. Called again where a run that lost a process restarts from a checkpoint
        (``max_restarts``); epochs after ``run.first_epoch`` then come again."""

    def on_epoch_end(self, record: Content) -> Stop | None:
        """An epoch is done. Return `STOP` to end the run.

        Args:
            record: the epoch's line of records.jsonl, but for ``classes``. It has ``train``, ``val`` and
                ``test`` if the epoch was evaluated.
        """
        return None

    def on_evaluate(self, record: Content) -> Stop | None:
        """An epoch was evaluated; called after `on_epoch_end`, with the same record.

        The last epoch is always evaluated. Where `STOP` makes an epoch the last one, this is called alone,
        and its record has the scores that the epoch's did not have yet.
        """
        return None

    def on_train_end(self, summary: Content) -> None:
        """The run is finished.

        Args:
            summary: the content of summary.json.
        """

    def on_exception(self, error: BaseException) -> None:
        """The run has ended before it was finished: an error, or Ctrl-C.

        Args:
            error: as the caller will see it.
        """
