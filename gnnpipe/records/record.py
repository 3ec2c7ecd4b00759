"""What a run tells of itself: a line an epoch (records.jsonl), and what came out (summary.json).

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
"""By kind."""


@dataclass(frozen=True)
class GradientQuality:
    """An epoch's gradient beside the exact one at the same weights and dropout masks."""

    exact_loss: float
    estimate: dict[str, Estimate]
    """Of each layer, and of ``all``."""


@dataclass(frozen=True, kw_only=True)
class EpochRecord:
    """One epoch: a line of records.jsonl."""

    epoch: int
    """Counted from 0."""
    loss: float | None
    """None if its step was skipped, as its numbers were not finite."""
    lr: float
    """Learning rate of its step."""
    seconds: float
    """From its begin on the first rank to its end on the last one."""
    ranks: tuple[Breakdown, ...]
    """Where each rank's seconds went."""
    bytes_sent: BytesSent
    """By all ranks."""
    bytes_sent_by_rank: tuple[BytesSent, ...] = ()
    """Empty in records of the first version."""
    table_error: dict[str, float | None] | None = None
    """How far stale rows of each layer, and of ``all``, were off when they were refreshed; see
    `Estimate.table_error`. None unless the epoch began so."""
    gradient: Annotated[GradientQuality | None, SPREAD] = None
    """None unless the epoch's gradient was checked."""
    fresh: tuple[float, ...] = ()
    """Of each convolution, share of the messages that carry a row of this epoch. Known to rank 0; empty in
    records of versions that did not tell."""
    age: tuple[float, ...] = ()
    """The same of the mean age of messages, in epochs."""
    scores: Annotated[Scores | None, SPREAD] = None
    """None unless the epoch was evaluated."""
    classes: Classes | None = None
    """None unless the epoch is the best so far, and where there are too many classes to count."""
    elapsed: float = 0.0
    """Seconds from the run's begin to the epoch's end; 0 in records of versions that did not tell."""

    @property
    def table_errors(self) -> dict[str, float]:
        """How far stale rows were off, by layer and of ``all``, if anything tells."""
        errors = self.table_error or {}
        if self.gradient is not None:
            errors = {name: item.table_error for name, item in self.gradient.estimate.items()} or errors
        return {name: error for name, error in errors.items() if error is not None}


@dataclass(frozen=True)
class Best:
    """The epoch whose weights are kept: the first of those that score best on validation nodes."""

    val: Annotated[float, Key("best_val")]
    test: Annotated[float, Key("test_at_best_val")]
    epoch: Annotated[int, Key("best_epoch")]
    """Counted from 0."""
    classes: Classes | None
    """None where there are too many classes to count, and in runs of versions that did not count."""


@dataclass(frozen=True)
class Summary:
    """What came out of a run: its summary.json. Speed and bytes are of the epochs of its last plan."""

    metric: Metric
    best: Annotated[Best, SPREAD]
    epochs: int
    median_epoch_seconds: float
    bytes_per_epoch: BytesSent
    """By all ranks."""
    bytes_per_epoch_by_rank: tuple[BytesSent, ...]
    """Empty in runs of the first version."""
    peak_memory_bytes: tuple[int, ...]
    """Of each rank."""
    versions: dict[str, str]
    hardware: dict[str, str | int]
    """The machine, and how many ``ranks`` and ``threads_per_rank`` used it."""

    @classmethod
    def read(cls, content: Content) -> Summary:
        """From what summary.json holds, also one of an older version; raises ValueError."""
        return from_object(cls, {"classes": None, "bytes_per_epoch_by_rank": [], **content})
