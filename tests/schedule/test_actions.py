"""The picture above the loop, and the checks."""

from __future__ import annotations

import inspect
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnnpipe.schedule.actions import Action, Schedule, draw, dry_run, lifo, makespan


def test_picture_in_the_docstring() -> None:
    lines = re.findall(r"# (stage .*)", inspect.getdoc(lifo) or "")
    expected = [re.sub(r"( \.\.)+$", "", line) for line in lines]
    drawn = [re.sub(r"( \.\.)+$", "", line) for line in draw(lifo(3, 4)).splitlines()]
    assert drawn == expected
    assert len(expected) == 3


@given(st.integers(1, 6), st.integers(1, 12))
def test_makespan_is_the_closed_form(stages: int, chunks: int) -> None:
    assert makespan(lifo(stages, chunks)) == 2 * (chunks + stages - 1)


@given(st.integers(1, 5), st.integers(1, 8))
def test_backward_reverses_forward(stages: int, chunks: int) -> None:
    for actions in lifo(stages, chunks).stages:
        forward = [a.position for a in actions if a.kind == "F"]
        backward = [a.position for a in actions if a.kind == "B"]
        assert backward == forward[::-1]


def test_missing_action() -> None:
    whole = lifo(2, 2)
    schedule = replace(whole, stages=(whole.stages[0], tuple(a for a in whole.stages[1] if str(a) != "B1")))
    with pytest.raises(ValueError, match=r"stage 1 must run each of 2 chunks .* missing: B1; too many: none"):
        dry_run(schedule)


def test_deadlock_is_named() -> None:
    mixed = (Action("F", 0), Action("B", 0), Action("F", 1), Action("B", 1))
    schedule = Schedule(2, (0, 0), (lifo(2, 2).stages[0], mixed))
    with pytest.raises(ValueError, match="deadlocks: stage 0 at B1, stage 1 at B0"):
        dry_run(schedule)


def test_lookahead_in_a_picture() -> None:
    """Two stages of one convolution, lookahead 1: each hands on the position before the one that comes in,
    and drains one step more."""
    assert draw(lifo(2, 3, (1, 1))).splitlines() == [
        "stage 0  F0  F1  F2  F3  ... ... ... ... B2  B1  B0  B-1",
        "stage 1  ... ... F0  F1  F2  F3  B2  B1  B0  B-1 ... ...",
    ]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=5), st.integers(1, 12))
def test_every_step_follows_what_feeds_it(lags: list[int], chunks: int) -> None:
    schedule = lifo(len(lags), chunks, lags)
    starts = dry_run(schedule)
    begun = {
        (stage, action): start
        for stage, (actions, times) in enumerate(zip(schedule.stages, starts, strict=True))
        for action, start in zip(actions, times, strict=True)
    }
    for (stage, action), start in begun.items():
        fed = schedule.feeder(stage, action)
        enters = 0 <= action.position < chunks and (stage if action.kind == "F" else len(lags) - 1 - stage)
        assert (fed is not None) == bool(enters)
        assert fed is None or begun[fed] + 1 <= start
