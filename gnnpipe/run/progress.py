"""What a run has reached so far."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Progress:
    """What came out so far; all of it follows from the records."""

    best: dict[str, Any] = field(default_factory=lambda: {"best_val": -math.inf})
    since: int = 0
    """The epoch from which the plan is the one that runs now; speed and bytes are of those."""
    epochs: int = 0
    seconds: list[float] = field(default_factory=list)
    sent: list[Counter[str]] = field(default_factory=list)
    """Bytes that each rank has sent, by kind."""
    skipped: int = 0
    """Epochs in a row whose step was skipped."""

    def add(self, record: dict[str, Any]) -> bool:
        """Take an epoch in; whether it is the best yet. Only such records keep their counts by class."""
        self.epochs += 1
        if record["epoch"] >= self.since:
            self.seconds.append(record["seconds"])
            sent = record["bytes_sent_by_rank"]
            self.sent = self.sent or [Counter[str]() for _ in sent]
            for total, found in zip(self.sent, sent, strict=True):
                total.update(found)
        skipped = record["loss"] is None
        self.skipped = self.skipped + 1 if skipped else 0
        if record.get("val", -math.inf) <= self.best["best_val"]:
            record.pop("classes", None)
            return False
        self.best = _as_best(record)
        return True

    def hold(self, best: Mapping[str, float] | None, records: Sequence[dict[str, Any]]) -> None:
        """Go by the weights that there are: better ones that could not be written are gone with their run.

        Args:
            best: epoch and score of a checkpoint's weights; None where it has none.
            records: of all epochs until then.
        """
        if not records:
            return
        known = [record for record in records if best and record["epoch"] == best["epoch"]]
        self.best = _as_best(known[0]) if known and "val" in known[0] else {"best_val": -math.inf}

    def summary(self, kinds: list[str]) -> dict[str, Any]:
        """What summary.json says of it.

        Args:
            kinds: of bytes, in the order in which they are to be listed.
        """
        return {
            **self.best,
            "epochs": self.epochs,
            "median_epoch_seconds": statistics.median(self.seconds),
            "bytes_per_epoch": self._per_epoch(sum(self.sent, Counter()), kinds),
            "bytes_per_epoch_by_rank": [self._per_epoch(total, kinds) for total in self.sent],
        }

    def _per_epoch(self, total: Counter[str], kinds: list[str]) -> dict[str, int]:
        """Bytes of a mean epoch; only a refresh does not send as much in each."""
        return {kind: round(total[kind] / len(self.seconds)) for kind in kinds}


def _as_best(record: dict[str, Any]) -> dict[str, Any]:
    return {
        "best_val": record["val"],
        "test_at_best_val": record["test"],
        "best_epoch": record["epoch"],
        "classes": record.get("classes"),
    }


def is_record(record: dict[str, Any], epoch: int) -> bool:
    """Whether a line of a file has what `Progress.add` takes from it."""
    numbers = [record.get(key) for key in ("loss", "seconds", "val", "test", "elapsed") if key in record]
    sent = record.get("bytes_sent_by_rank")
    return (
        type(record.get("epoch")) is int
        and record["epoch"] == epoch
        and {"loss", "seconds"} <= set(record)
        and ("val" in record) == ("test" in record)
        and all(
            type(value) in (int, float) and abs(value) < math.inf for value in numbers if value is not None
        )
        and record["seconds"] is not None
        and record.get("elapsed", 0.0) is not None
        and ("classes" not in record or _are_counts(record["classes"]))
        and isinstance(sent, list)
        and all(isinstance(item, dict) and all(type(n) is int for n in item.values()) for item in sent)
    )


def _are_counts(classes: object) -> bool:
    """Whether it is what `gnnpipe.run.evaluation.evaluate` counts of val and test."""
    if not isinstance(classes, dict) or set(classes) != {"val", "test"}:
        return False
    for table in classes.values():
        if not isinstance(table, dict) or set(table) != {"count", "correct", "predicted"}:
            return False
        columns = list(table.values())
        if not all(isinstance(column, list) and len(column) == len(columns[0]) for column in columns):
            return False
        if not all(type(number) is int for column in columns for number in column):
            return False
    return True
