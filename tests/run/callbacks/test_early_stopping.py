"""EarlyStopping against a plain rereading of its rule."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnnpipe.errors import ConfigError
from gnnpipe.run.callbacks.callback import RunInfo
from gnnpipe.run.callbacks.early_stopping import EarlyStopping
from gnnpipe.run.callbacks.host import Host
from tests.run.callbacks.made import Heard, line


def info(records: list[dict[str, Any]] | None = None, *, lower: bool = False) -> RunInfo:
    return RunInfo(Path("run"), {"epochs": 100}, {}, "accuracy", lower, records or [])


def stops(callback: EarlyStopping, records: list[dict[str, Any]], run: RunInfo | None = None) -> list[int]:
    """Epochs at which it says STOP."""
    host = Host([callback], Heard())
    host.start(run or info())
    answers = [(record["epoch"], host.epoch(record)) for record in records]
    assert not any(answer.failure for _, answer in answers)
    return [epoch for epoch, answer in answers if answer.stop]


def by_rule(values: list[tuple[int, float]], patience: int, delta: float, *, lower: bool) -> list[int]:
    """An epoch counts as best if it betters the last best by more than delta; then count the epochs since."""
    best, since, result = (math.inf if lower else -math.inf), 0, []
    for epoch, value in values:
        if (best - value if lower else value - best) > delta:
            best, since = value, epoch
        if epoch - since >= patience:
            result.append(epoch)
    return result


@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=30),
    st.integers(1, 8),
    st.integers(1, 4),
    st.sampled_from([0.0, 1.0, 1.5]),
    st.booleans(),
    st.integers(0, 30),
)
def test_it_stops_by_its_rule_also_where_the_run_goes_on(
    scores: list[int], patience: int, every: int, delta: float, lower: bool, done: int
) -> None:
    evaluated = [(epoch, float(score)) for epoch, score in enumerate(scores) if epoch % every == every - 1]
    known = dict(evaluated)
    records = [
        line(epoch, val=known[epoch]) if epoch in known else line(epoch) for epoch in range(len(scores))
    ]
    expected = by_rule(evaluated, patience, delta, lower=lower)
    assert stops(EarlyStopping("val", patience, delta), records, info(lower=lower)) == expected
    again = stops(EarlyStopping("val", patience, delta), records[done:], info(records[:done], lower=lower))
    assert again == [epoch for epoch in expected if epoch >= done]


@pytest.mark.parametrize(
    ("monitor", "mode", "lower", "values", "expected"),
    [
        ("loss", "auto", False, [3, 2, 2, 2, 1], [3]),  # a loss is to fall, whatever the metric
        ("loss", "max", False, [3, 2, 2, 2, 1], [2, 3, 4]),
        ("val", "auto", False, [1, 2, 2, 2, 3], [3]),
        ("val", "auto", True, [3, 2, 2, 2, 1], [3]),
        ("val", "min", False, [3, 2, 2, 2, 1], [3]),
        ("train", "auto", False, [1, 2, 2, 2, 3], [3]),
    ],
)
def test_what_it_watches(
    monitor: str, mode: Any, lower: bool, values: list[float], expected: list[int]
) -> None:
    records = [line(epoch, **{"val": 0.0, monitor: value}) for epoch, value in enumerate(values)]
    assert stops(EarlyStopping(monitor, 2, mode=mode), records, info(lower=lower)) == expected


def test_hidden_test_labels_and_skipped_epochs_are_let_pass() -> None:
    assert stops(EarlyStopping("test", 1), [line(epoch, val=0.1, test=None) for epoch in range(5)]) == []
    assert stops(EarlyStopping("loss", 2), [line(0), line(1, loss=None), line(2, loss=None), line(3)]) == [3]


def test_the_reason() -> None:
    host = Host([EarlyStopping(patience=2)], Heard())
    host.start(info())
    answers = [host.epoch(line(epoch, val=0.5)) for epoch in range(3)]
    assert answers[-1].stop == "EarlyStopping: val has not improved for 2 epochs, since 0.5 in epoch 1"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"monitor": "val_loss"}, r"EarlyStopping.monitor: 'val_loss' is not known"),
        ({"mode": "up"}, r"EarlyStopping.mode: 'up' is not known"),
        ({"patience": 0}, r"EarlyStopping.patience: '0' can't be used; use a number from 1 on"),
        ({"patience": True}, r"EarlyStopping.patience: 'True'"),
        ({"min_delta": -0.1}, r"EarlyStopping.min_delta: '-0.1' can't be used; use a number from 0 on"),
        ({"min_delta": math.nan}, r"EarlyStopping.min_delta: 'nan'"),
    ],
)
def test_mistakes(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EarlyStopping(**values)
