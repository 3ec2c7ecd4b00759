"""The picture above the loop, and the checks."""

from __future__ import annotations

import inspect
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnnpipe.schedule.actions import Action, Schedule, _lifo_stage, draw, dry_run, lifo, makespan


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
    whole = lifo(2, 2).stages[0]
    by_name = {str(action): action for action in whole}
    schedule = Schedule(2, (whole, tuple(by_name[name] for name in ("F0", "B0", "F1", "B1"))))
    with pytest.raises(ValueError, match="deadlocks: stage 0 at B1, stage 1 at B0"):
        dry_run(schedule)


def test_lookahead_in_a_picture() -> None:
    """Two stages of one convolution, lookahead 1: each hands on the position before the one that comes in,
    and drains one step more."""
    assert draw(lifo(2, 3, lookahead=1)).splitlines() == [
        "stage 0  F0  F1  F2  F3  ... ... ... ... B2  B1  B0  B-1",
        "stage 1  ... ... F0  F1  F2  F3  B2  B1  B0  B-1 ... ...",
    ]


def test_seams_in_the_docstring() -> None:
    drawn = re.findall(r"# ([FB]\d) +seams (\S+ \S+ \S+)   ", inspect.getdoc(Action) or "")
    made = {str(action): action.seams for action in lifo(1, 4, (2,), lookahead=1).stages[0]}
    assert len(drawn) == 3
    for name, seams in drawn:
        assert made[name] == tuple(None if seam == "-" else int(seam) for seam in seams.split())


def test_windows_in_the_docstring() -> None:
    drawn = re.findall(r"\[(.*)\] +(F\d) +(B\S+) +seams (.*)", inspect.getdoc(_lifo_stage) or "")
    made = {str(action): action.seams for action in _lifo_stage(4, 2, 1)}
    assert len(drawn) == 4
    for window, forward, backward, seams in drawn:
        assert seams.split() == window.split()[::-1]
        expected = tuple(None if seam == "-" else int(seam) for seam in seams.split())
        assert made[forward] == made[backward] == expected


SIZES = st.lists(st.integers(1, 5), min_size=1, max_size=5)


@given(SIZES, st.integers(1, 12), st.integers(0, 4))
def test_each_layer_puts_and_takes_each_chunk_once_a_lookahead_apart(
    sizes: list[int], chunks: int, lookahead: int
) -> None:
    """What a layer takes finds so many positions beyond its own put, forward and backward, and no more:
    the rule that `Ages` and `fresh_probability` are about."""
    schedule = lifo(len(sizes), chunks, sizes, lookahead)
    for size, actions in zip(sizes, schedule.stages, strict=True):
        assert all(len(action.seams) == size + 1 for action in actions)
        assert all(action.enters in (None, action.position) for action in actions)
        for kind in "FB":
            mine = [action for action in actions if action.kind == kind]
            for front in range(size):
                put, taken = [], []
                for action in mine:
                    before, behind = action.seams[front : front + 2]
                    first, second = (before, behind) if kind == "F" else (behind, before)
                    put += [] if first is None else [first]
                    if second is not None:
                        reach = (
                            min(second + lookahead, chunks - 1) if kind == "F" else max(second - lookahead, 0)
                        )
                        assert put[-1] == reach
                        taken.append(second)
                in_order = list(range(chunks)) if kind == "F" else list(reversed(range(chunks)))
                assert put == taken == in_order


@given(SIZES, st.integers(1, 12), st.integers(0, 4))
def test_layers_that_take_a_chunk_are_counted(sizes: list[int], chunks: int, lookahead: int) -> None:
    for size, actions in zip(sizes, lifo(len(sizes), chunks, sizes, lookahead).stages, strict=True):
        for kind in "FB":
            assert sum(action.num_taken for action in actions if action.kind == kind) == size * chunks


@given(SIZES, st.integers(1, 12), st.integers(0, 4))
def test_every_step_follows_what_feeds_it(sizes: list[int], chunks: int, lookahead: int) -> None:
    schedule = lifo(len(sizes), chunks, sizes, lookahead)
    starts = dry_run(schedule)
    begun = {
        (stage, action): start
        for stage, (actions, times) in enumerate(zip(schedule.stages, starts, strict=True))
        for action, start in zip(actions, times, strict=True)
    }
    for (stage, action), start in begun.items():
        fed = schedule.feeder(stage, action)
        others = stage if action.kind == "F" else len(sizes) - 1 - stage
        assert (fed is not None) == (0 <= action.position < chunks and others > 0)
        assert fed is None or fed[1].leaves == action.position
        assert fed is None or begun[fed] + 1 <= start
