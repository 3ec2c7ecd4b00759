"""A run's measurements: one line an epoch (records.jsonl), and the results (summary.json).

Fields stand in the order in which they are written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from gnnpipe.config.run import Metric
from gnnpipe.files.reading import Content
from gnnpipe.files.typed_json import SPREAD, Key, from_object
from gnnpipe.nn.metrics import Classes, Scores
from gnnpipe.schedule.estimate import Estimate
from gnnpipe.schedule.timeline import Breakdown

BytesSent = dict[str, int]
"""Bytes by kind of message."""


@dataclass(frozen=True)
class GradientQuality:
    """An epoch's gradient compared with the exact one at the same weights and dropout masks."""

    exact_loss: float
    estimate: dict[str, Estimate]
    """Comparison by layer, and over ``all``."""


@dataclass(frozen=True, kw_only=True)
class EpochRecord:
    """One epoch: a line of records.jsonl."""

    epoch: int
    """Counted from 0."""
    loss: float | None
    """Mean loss of the training nodes; None if the step was skipped, as numbers were not finite."""
    lr: float
    """Learning rate of the epoch's step."""
    seconds: float
    """From the begin on the first rank to the end on the last one."""
    ranks: tuple[Breakdown, ...]
    """Where each rank's seconds went."""
    bytes_sent: BytesSent
    """Sum over all ranks."""
    bytes_sent_by_rank: tuple[BytesSent, ...] = ()
    """Empty in records of the first version."""
    table_error: dict[str, float | None] | None = None
    """Error of the stale rows that a refresh replaced (`Estimate.table_error`), by layer and of ``all``.
    None unless the epoch began with a refresh."""
    gradient: Annotated[GradientQuality | None, SPREAD] = None
    """None unless the epoch's gradient was checked."""
    fresh: tuple[float, ...] = ()
    """Share of the messages that carry a row of this epoch, by convolution. Known to rank 0; empty in records
    of older versions."""
    age: tuple[float, ...] = ()
    """Mean age of the messages in epochs, by convolution; known where ``fresh`` is."""
    scores: Annotated[Scores | None, SPREAD] = None
    """None unless the epoch was evaluated."""
    classes: Classes | None = None
    """Counts by class, and the confusion matrix; None unless the epoch is the best so far, and where there
    are too many classes."""
    elapsed: float = 0.0
    """Seconds from the run's begin to the epoch's end; 0 in records of older versions."""

    @property
    def table_errors(self) -> dict[str, float]:
        """Error of stale rows, by layer and over ``all``, as the gradient check or else a refresh found it.
        Empty if the epoch had neither."""
        errors = self.table_error or {}
        if self.gradient is not None:
            estimates = self.gradient.estimate
            errors = {name: estimate.table_error for name, estimate in estimates.items()} or errors
        return {name: error for name, error in errors.items() if error is not None}


@dataclass(frozen=True)
class Best:
    """The epoch whose weights are kept: the first of those that score best on validation nodes."""

    val: Annotated[float, Key("best_val")]
    test: Annotated[float | None, Key("test_at_best_val")]
    """None where test labels are hidden."""
    epoch: Annotated[int, Key("best_epoch")]
    """Counted from 0."""
    classes: Classes | None
    """Counts by class; None where there are too many classes, and in runs of older versions."""


@dataclass(frozen=True)
class StoppedEarly:
    """Why a run ended, as finished, before its last epoch."""

    epoch: int
    """The epoch that it ended with, counted from 0."""
    reason: str
    """In words, such as ``validation accuracy has not improved for 20 epochs``."""


@dataclass(frozen=True)
class Summary:
    """The results of a run: its summary.json. Speed and bytes are those of its last plan's epochs."""

    metric: Metric
    best: Annotated[Best, SPREAD]
    epochs: int
    median_epoch_seconds: float
    bytes_per_epoch: BytesSent
    """Sum over all ranks."""
    bytes_per_epoch_by_rank: tuple[BytesSent, ...]
    """Empty in runs of the first version."""
    peak_memory_bytes: tuple[int, ...]
    """Peak memory by rank."""
    versions: dict[str, str]
    hardware: dict[str, str | int]
    """The machine, and how many ``ranks`` and ``threads_per_rank`` used it."""
    stopped_early: StoppedEarly | None = None
    """None if all epochs were run."""

    @classmethod
    def read(cls, content: Content) -> Summary:
        """Make a summary from the content of summary.json, also of an older version; raises ValueError."""
        return from_object(cls, {"classes": None, "bytes_per_epoch_by_rank": [], **content})
