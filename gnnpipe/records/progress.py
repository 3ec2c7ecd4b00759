"""What a run has reached so far."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gnnpipe.records.record import Best, BytesSent, EpochRecord


@dataclass
class Progress:
    """What came out so far; all of it follows from the records."""

    best: Best | None = None
    """None until an epoch was evaluated whose weights are kept."""
    since: int = 0
    """The epoch from which the plan is the one that runs now; speed and bytes are of those."""
    epochs: int = 0
    seconds: list[float] = field(default_factory=list)
    sent: list[Counter[str]] = field(default_factory=list)
    """Bytes that each rank has sent, by kind."""
    skipped: int = 0
    """Epochs in a row whose step was skipped."""

    @property
    def best_val(self) -> float:
        """Score to be bettered."""
        return -math.inf if self.best is None else self.best.val

    def add(self, record: EpochRecord) -> Best | None:
        """Take an epoch in; returns what it reached if it is the best yet."""
        self.epochs += 1
        if record.epoch >= self.since:
            self.seconds.append(record.seconds)
            sent = record.bytes_sent_by_rank
            self.sent = self.sent or [Counter[str]() for _ in sent]
            for total, found in zip(self.sent, sent, strict=True):
                total.update(found)
        self.skipped = self.skipped + 1 if record.loss is None else 0
        if record.scores is None or record.scores.val <= self.best_val:
            return None
        self.best = _as_best(record)
        return self.best

    def hold(self, best: Mapping[str, float] | None, records: Sequence[EpochRecord]) -> None:
        """Go by the weights that there are: better ones that could not be written are gone with their run.

        Args:
            best: epoch and score of a checkpoint's weights; None where it has none.
            records: of all epochs until then.
        """
        if not records:
            return
        known = [record for record in records if best and record.epoch == best["epoch"]]
        self.best = _as_best(known[0]) if known else None

    @property
    def median_seconds(self) -> float:
        """Of an epoch."""
        return statistics.median(self.seconds)

    def bytes_per_epoch(self, kinds: Sequence[str]) -> BytesSent:
        """What all ranks send.

        Args:
            kinds: of bytes, in the order in which they are to be listed.
        """
        return self._per_epoch(sum(self.sent, Counter()), kinds)

    def bytes_per_epoch_by_rank(self, kinds: Sequence[str]) -> tuple[BytesSent, ...]:
        """The same of each rank."""
        return tuple(self._per_epoch(total, kinds) for total in self.sent)

    def _per_epoch(self, total: Counter[str], kinds: Sequence[str]) -> BytesSent:
        """Bytes of a mean epoch; only a refresh does not send as much in each."""
        return {kind: round(total[kind] / len(self.seconds)) for kind in kinds}


def _as_best(record: EpochRecord) -> Best | None:
    """None if the epoch was not evaluated."""
    if record.scores is None:
        return None
    return Best(record.scores.val, record.scores.test, record.epoch, record.classes)
