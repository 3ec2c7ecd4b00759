"""Schedules: what each stage does in which order, as lists that can be drawn, checked and executed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, order=True)
class Action:
    """One step of a stage: forward (F) or backward (B) of the chunk at a position of the epoch's order."""

    kind: Literal["F", "B"]
    position: int
    """Position in the epoch's chunk order, not the chunk's number: orders change, the schedule does not."""

    def __str__(self) -> str:
        return f"{self.kind}{self.position}"


Schedule = list[list[Action]]


def lifo(num_stages: int, num_chunks: int) -> Schedule:
    """All chunks forward, then all backward in reverse.

        # 3 stages, 4 chunks
        # stage 0  F0 F1 F2 F3 .. .. .. .. B3 B2 B1 B0
        # stage 1  .. F0 F1 F2 F3 .. .. B3 B2 B1 B0 ..
        # stage 2  .. .. F0 F1 F2 F3 B3 B2 B1 B0 .. ..

    Backward is last in, first out because a chunk's gradient is complete only when every chunk that read
    its fresh rows, which are those behind it in the order, has run backward.
    """
    forward = [Action("F", position) for position in range(num_chunks)]
    backward = [Action("B", position) for position in reversed(range(num_chunks))]
    return [forward + backward for _ in range(num_stages)]


def needs(stage: int, action: Action, num_stages: int, num_chunks: int) -> list[tuple[int, Action]]:
    """What must be done, and where, before ``action`` can run on ``stage``."""
    kind, position = action.kind, action.position
    if kind == "F":
        before = [(stage, Action("F", position - 1))] if position else []
        return before + ([(stage - 1, action)] if stage else [])
    later = [(stage, Action("B", position + 1))] if position + 1 < num_chunks else []
    above = [(stage + 1, action)] if stage + 1 < num_stages else []
    return [(stage, Action("F", position)), *later, *above]


def dry_run(schedule: Schedule, num_chunks: int) -> list[list[int]]:
    """Run a schedule with every action taking one unit of time; return the start of each action.

    Raises:
        ValueError: an action is missing, doubled or unknown, or the stages wait for each other for ever.
    """
    _check_complete(schedule, num_chunks)
    num_stages = len(schedule)
    done: dict[tuple[int, Action], int] = {}
    starts: list[list[int]] = [[] for _ in schedule]
    while len(done) < 2 * num_chunks * num_stages:
        moved = False
        for stage, actions in enumerate(schedule):
            while len(starts[stage]) < len(actions):
                action = actions[len(starts[stage])]
                required = needs(stage, action, num_stages, num_chunks)
                if any(item not in done for item in required):
                    break
                free = starts[stage][-1] + 1 if starts[stage] else 0
                start = max([free, *(done[item] for item in required)])
                starts[stage].append(start)
                done[stage, action] = start + 1
                moved = True
        if not moved:
            waiting = [
                f"stage {stage} at {actions[len(starts[stage])]}"
                for stage, actions in enumerate(schedule)
                if len(starts[stage]) < len(actions)
            ]
            raise ValueError(f"the schedule deadlocks: {', '.join(waiting)} wait for each other")
    return starts


def draw(schedule: Schedule, num_chunks: int) -> str:
    """A picture in text, one row a stage and one column a unit of time."""
    starts = dry_run(schedule, num_chunks)
    width = len(str(num_chunks - 1)) + 1
    span = max(times[-1] for times in starts) + 1
    lines = []
    for stage, (actions, times) in enumerate(zip(schedule, starts, strict=True)):
        cells = ["." * width] * span
        for action, time in zip(actions, times, strict=True):
            cells[time] = str(action).ljust(width)
        lines.append(f"stage {stage}  {' '.join(cells)}")
    return "\n".join(line.rstrip() for line in lines)


def _check_complete(schedule: Schedule, num_chunks: int) -> None:
    expected = sorted(lifo(1, num_chunks)[0])
    for stage, actions in enumerate(schedule):
        if sorted(actions) != expected:
            extra = _difference(actions, expected) or "none"
            missing = _difference(expected, actions) or "none"
            raise ValueError(
                f"stage {stage} must run each of {num_chunks} chunks forward and backward once; "
                f"missing: {missing}; too many: {extra}"
            )


def _difference(one: Sequence[Action], other: Sequence[Action]) -> str:
    rest = list(other)
    left = []
    for action in one:
        if action in rest:
            rest.remove(action)
        else:
            left.append(str(action))
    return " ".join(left)
