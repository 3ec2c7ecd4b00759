"""What a run has reached, from its records."""

from __future__ import annotations

from typing import Any

import pytest

from gnnpipe.records.progress import Progress
from gnnpipe.records.record import Best, EpochRecord
from tests import made


def record(epoch: int, val: float | None, **changes: Any) -> EpochRecord:
    sent = {"communication-layer": 10 * epoch}, {"communication-layer": 0}
    return made.record(epoch, val=val, bytes_sent_by_rank=sent, **changes)


def test_of_epochs_that_are_as_good_the_first_is_the_best() -> None:
    progress = Progress()
    better = [bool(progress.add(record(epoch, val))) for epoch, val in enumerate([0.2, None, 0.5, 0.5, 0.4])]
    assert better == [True, False, True, False, False]
    assert progress.best == Best(val=0.5, test=0.25, epoch=2, classes=None)


def test_speed_and_bytes_are_of_the_plan_that_runs_now() -> None:
    progress = Progress(since=2)
    for epoch in range(5):
        progress.add(record(epoch, 0.1, seconds=100.0 if epoch < 2 else float(epoch)))
    kinds = ["communication-layer"]
    assert progress.epochs == 5
    assert progress.median_seconds == pytest.approx(3.0)
    assert progress.bytes_per_epoch(kinds) == {"communication-layer": 30}
    assert [rank["communication-layer"] for rank in progress.bytes_per_epoch_by_rank(kinds)] == [30, 0]


def test_skipped_epochs_count_in_a_row() -> None:
    progress = Progress()
    counts = []
    for epoch, loss in enumerate([1.0, None, None, 1.0, None]):
        progress.add(record(epoch, None, loss=loss))
        counts.append(progress.skipped)
    assert counts == [0, 1, 2, 0, 1]


def test_of_errors_the_lowest_is_the_best() -> None:
    progress = Progress("mae")
    better = [bool(progress.add(record(epoch, val))) for epoch, val in enumerate([3.0, 4.0, 2.0, 2.0])]
    assert better == [True, False, True, False]
    assert progress.best == Best(val=2.0, test=1.0, epoch=2, classes=None)
    assert Progress("rmse").best_val == float("inf")
