"""What a run has reached so far."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Progress:
    """What came out so far; all of it follows from the records."""

    best: dict[str, Any] = field(default_factory=lambda: {"best_val": -math.inf})
    seconds: list[float] = field(default_factory=list)
    sent: list[Counter[str]] = field(default_factory=list)
    """Bytes that each rank has sent, by kind."""
    sent_epochs: int = 0
    """Since the plan changed last."""
    skipped: int = 0
    """Epochs in a row whose step was skipped."""

    def add(self, record: dict[str, Any]) -> bool:
        """Take an epoch in; whether it is the best yet."""
        self.seconds.append(record["seconds"])
        sent = record["bytes_sent_by_rank"]
        if len(sent) != len(self.sent):  # another plan from here on
            self.sent, self.sent_epochs = [Counter[str]() for _ in sent], 0
        self.sent_epochs += 1
        for total, found in zip(self.sent, sent, strict=True):
            total.update(found)
        skipped = record["loss"] is None
        self.skipped = self.skipped + 1 if skipped else 0
        if record.get("val", -math.inf) <= self.best["best_val"]:
            return False
        values = {
            "best_val": record["val"],
            "test_at_best_val": record["test"],
            "best_epoch": record["epoch"],
        }
        self.best = values
        return True

    def summary(self, kinds: list[str]) -> dict[str, Any]:
        """What summary.json says of it.

        Args:
            kinds: of bytes, in the order in which they are to be listed.
        """
        return {
            **self.best,
            "epochs": len(self.seconds),
            "median_epoch_seconds": statistics.median(self.seconds),
            "bytes_per_epoch": self._per_epoch(sum(self.sent, Counter()), kinds),
            "bytes_per_epoch_by_rank": [self._per_epoch(total, kinds) for total in self.sent],
        }

    def _per_epoch(self, total: Counter[str], kinds: list[str]) -> dict[str, int]:
        """Bytes of a mean epoch; only a refresh does not send as much in each."""
        return {kind: round(total[kind] / self.sent_epochs) for kind in kinds}
