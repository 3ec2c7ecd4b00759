"""The picture above the loop, and the checks."""

from __future__ import annotations

import inspect
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnnpipe.plan.schedule import Action, draw, dry_run, lifo


def test_picture_in_the_docstring() -> None:
    lines = re.findall(r"# (stage .*)", inspect.getdoc(lifo) or "")
    expected = [re.sub(r"( \.\.)+$", "", line) for line in lines]
    drawn = [re.sub(r"( \.\.)+$", "", line) for line in draw(lifo(3, 4), 4).splitlines()]
    assert drawn == expected
    assert len(expected) == 3


@given(st.integers(1, 6), st.integers(1, 12))
def test_makespan_is_the_closed_form(stages: int, chunks: int) -> None:
    starts = dry_run(lifo(stages, chunks), chunks)
    assert max(times[-1] for times in starts) + 1 == 2 * (chunks + stages - 1)


@given(st.integers(1, 5), st.integers(1, 8))
def test_backward_reverses_forward(stages: int, chunks: int) -> None:
    for actions in lifo(stages, chunks):
        forward = [a.position for a in actions if a.kind == "F"]
        backward = [a.position for a in actions if a.kind == "B"]
        assert backward == forward[::-1]


def test_missing_action() -> None:
    schedule = lifo(2, 2)
    schedule[1].remove(Action("B", 1))
    with pytest.raises(ValueError, match=r"stage 1 must run each of 2 chunks .* missing: B1; too many: none"):
        dry_run(schedule, 2)


def test_deadlock_is_named() -> None:
    schedule = lifo(2, 2)
    schedule[1] = [Action("F", 0), Action("B", 0), Action("F", 1), Action("B", 1)]
    with pytest.raises(ValueError, match="deadlocks: stage 0 at B1, stage 1 at B0"):
        dry_run(schedule, 2)
