"""The epoch that a run ends with when it gets no better."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gnnpipe.records.patience import Patience
from gnnpipe.records.record import StoppedEarly
from tests.made import record


@given(
    scores=st.lists(st.sampled_from([None, 0.25, 0.5, 0.75]), max_size=30),
    epochs=st.integers(1, 8),
    lower=st.booleans(),
)
def test_the_first_evaluation_that_is_too_far_from_the_best_one_ends_a_run(
    scores: list[float | None], epochs: int, *, lower: bool
) -> None:
    patience = Patience(epochs, "mae" if lower else "accuracy")
    for epoch, score in enumerate(scores):
        stopped = patience.add(record(epoch, val=score))
        evaluated = [(value if lower else -value, then)
                     for then, value in enumerate(scores[: epoch + 1]) if value is not None]  # fmt: skip
        ends = score is not None and epoch - min(evaluated)[1] >= epochs
        assert bool(stopped) == ends
        assert not stopped or stopped.epoch == epoch


def test_without_patience_no_run_ends() -> None:
    patience = Patience(0, "accuracy")
    assert not any(patience.add(record(epoch, val=0.5)) for epoch in range(100))


def test_the_reason_names_the_metric_and_the_epochs() -> None:
    patience = Patience(4, "macro_f1")
    found = [patience.add(record(epoch, val=val)) for epoch, val in ((1, 0.5), (3, 0.4), (5, 0.5))]
    reason = "validation macro_f1 has not improved for 4 epochs, since 0.5000 in epoch 2 (patience 4)"
    assert found == [None, None, StoppedEarly(5, reason)]
