"""The progress of a run: best epoch, speed and bytes so far."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gnnpipe.config.run import Metric
from gnnpipe.nn.metrics import LOWER_IS_BETTER, is_better
from gnnpipe.records.record import Best, BytesSent, EpochRecord


@dataclass
class Progress:
    """Totals over the epochs so far; all of them follow from the records."""

    metric: Metric = "accuracy"
    """Metric of the scores; it says which of two is better."""
    best: Best | None = None
    """The best epoch, with weights that are kept; None until one was evaluated."""
    since: int = 0
    """First epoch of the plan that runs now; seconds and bytes are counted from there."""
    epochs: int = 0
    seconds: list[float] = field(default_factory=list)
    sent: list[Counter[str]] = field(default_factory=list)
    """Bytes that each rank has sent, by kind, over all epochs that are counted."""
    skipped: int = 0
    """Number of epochs in a row, up to the last one, without a step."""

    @property
    def best_val(self) -> float:
        """Validation score of the best epoch; without one, an infinity that any score betters."""
        worst = math.inf if self.metric in LOWER_IS_BETTER else -math.inf
        return worst if self.best is None else self.best.val

    def add(self, record: EpochRecord) -> Best | None:
        """Count an epoch; returns its scores if it is the best yet, else None."""
        self.epochs += 1
        if record.epoch >= self.since:
            self.seconds.append(record.seconds)
            sent = record.bytes_sent_by_rank
            self.sent = self.sent or [Counter[str]() for _ in sent]
            for total, by_kind in zip(self.sent, sent, strict=True):
                total.update(by_kind)
        self.skipped = self.skipped + 1 if record.loss is None else 0
        if record.scores is None or not is_better(self.metric, record.scores.val, self.best_val):
            return None
        self.best = _as_best(record)
        return self.best

    def hold(self, best: Mapping[str, float] | None, records: Sequence[EpochRecord]) -> None:
        """Take the epoch of a checkpoint's weights for the best. The records may know a better one, but its
        weights are lost if they could not be written.

        Args:
            best: epoch and score of the checkpoint's best weights; None if it has none.
            records: of all epochs until then; empty on ranks other than 0, where nothing changes.
        """
        if not records:
            return
        known = [record for record in records if best and record.epoch == best["epoch"]]
        self.best = _as_best(known[0]) if known else None

    @property
    def median_seconds(self) -> float:
        """Median duration of an epoch."""
        return statistics.median(self.seconds)

    def bytes_per_epoch(self, kinds: Sequence[str]) -> BytesSent:
        """Mean bytes that all ranks send in an epoch.

        Args:
            kinds: of bytes, in the order in which they are to be listed.
        """
        return self._per_epoch(sum(self.sent, Counter()), kinds)

    def bytes_per_epoch_by_rank(self, kinds: Sequence[str]) -> tuple[BytesSent, ...]:
        """Mean bytes that each rank sends in an epoch."""
        return tuple(self._per_epoch(total, kinds) for total in self.sent)

    def _per_epoch(self, total: Counter[str], kinds: Sequence[str]) -> BytesSent:
        """Mean over the epochs. All send alike, except that some begin with a refresh."""
        return {kind: round(total[kind] / len(self.seconds)) for kind in kinds}


def _as_best(record: EpochRecord) -> Best | None:
    """The scores of an epoch; None if it was not evaluated."""
    if record.scores is None:
        return None
    return Best(record.scores.val, record.scores.test, record.epoch, record.classes)
