"""What a run has reached, from its records."""

from __future__ import annotations

from typing import Any

import pytest

from gnnpipe.run.progress import Progress


def record(
    epoch: int, val: float | None, *, seconds: float = 1.0, loss: float | None = 1.0
) -> dict[str, Any]:
    scores = {} if val is None else {"val": val, "test": val / 2}
    sent = [{"communication-layer": 10 * epoch}, {"communication-layer": 0}]
    return {"epoch": epoch, "loss": loss, "seconds": seconds, "bytes_sent_by_rank": sent, **scores}


def test_of_epochs_that_are_as_good_the_first_is_the_best() -> None:
    progress = Progress()
    better = [progress.add(record(epoch, val)) for epoch, val in enumerate([0.2, None, 0.5, 0.5, 0.4])]
    assert better == [True, False, True, False, False]
    assert progress.best == {"best_val": 0.5, "test_at_best_val": 0.25, "best_epoch": 2, "classes": None}


def test_speed_and_bytes_are_of_the_plan_that_runs_now() -> None:
    progress = Progress(since=2)
    for epoch in range(5):
        progress.add(record(epoch, 0.1, seconds=100.0 if epoch < 2 else float(epoch)))
    summary = progress.summary(["communication-layer"])
    assert summary["epochs"] == 5
    assert summary["median_epoch_seconds"] == pytest.approx(3.0)
    assert summary["bytes_per_epoch"] == {"communication-layer": 30}
    assert [rank["communication-layer"] for rank in summary["bytes_per_epoch_by_rank"]] == [30, 0]


def test_skipped_epochs_count_in_a_row() -> None:
    progress = Progress()
    counts = []
    for epoch, loss in enumerate([1.0, None, None, 1.0, None]):
        progress.add(record(epoch, None, loss=loss))
        counts.append(progress.skipped)
    assert counts == [0, 1, 2, 0, 1]
