"""Warnings of a run that goes wrong."""

from __future__ import annotations

from gnnpipe.records.record import EpochRecord, GradientQuality
from gnnpipe.run.watch import Watch
from gnnpipe.schedule.estimate import Estimate
from tests import made


def record(loss: float, error: float | None = None) -> EpochRecord:
    if error is None:
        return made.record(loss=loss)
    layers = {"layers.0": error / 2, "layers.1": 2 * error, "all": error, "input": None}
    estimate = {name: Estimate(1.0, 0.0, 1.0, value) for name, value in layers.items()}
    return made.record(loss=loss, gradient=GradientQuality(loss, estimate))


def test_a_loss_that_rises_is_named_once() -> None:
    watch = Watch(stale=True)
    quiet = [list(watch.warnings(record(loss))) for loss in (2.0, 0.2, 1.9)]
    assert quiet == [[], [], []]
    (said,) = watch.warnings(record(2.1))
    assert "the loss is 2.1, after 0.2 before and 2 at first" in said
    assert "--staleness.weight" in said
    assert list(watch.warnings(record(5.0))) == []


def test_an_error_that_grows_names_the_layer_and_the_setting() -> None:
    watch = Watch(stale=True)
    for error in (0.08, 0.08, 0.09):
        assert list(watch.warnings(record(1.0, error))) == []
    (said,) = watch.warnings(record(1.0, 0.17))
    assert "rows are 17% off the exact ones (layers.1 most: 34%), after 8% before" in said
    assert "a lower --lr or --staleness.weight" in said


def test_a_refresh_tells_errors_too() -> None:
    watch = Watch(stale=True)
    errors = [{"all": error, "layers.0": error} for error in (0.1, 0.1, 0.3)]
    records = [made.record(table_error=error) for error in errors]
    said = [line for item in records for line in watch.warnings(item)]
    assert len(said) == 1
    assert "rows are 30% off" in said[0]


def test_small_errors_may_double() -> None:
    watch = Watch(stale=True)
    assert [list(watch.warnings(record(1.0, error))) for error in (0.01, 0.01, 0.01, 0.05)] == [[]] * 4


def test_advice_suits_the_run() -> None:
    watch = Watch(stale=False)
    (said,) = [line for loss in (1.0, 0.1, 1.1) for line in watch.warnings(record(loss))]
    assert said.endswith("use a lower --lr")
