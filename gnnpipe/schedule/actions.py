"""Schedules: what each stage does in which order, as lists that can be drawn, checked and executed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, order=True)
class Action:
    """One step of a stage: the chunk at a position of the order comes in, forward (F) or backward (B).

    Without lookahead the same chunk leaves the stage in the same step. With lookahead each layer is some
    positions behind the one before it, so that what leaves is the stage's *lag* behind what comes in. The
    steps beyond the last position (backward: before the first) take nothing in and bring out what is left.
    """

    kind: Literal["F", "B"]
    position: int
    """Position in the epoch's chunk order, not the chunk's number: orders change, the schedule does not."""

    def __str__(self) -> str:
        return f"{self.kind}{self.position}"


@dataclass(frozen=True)
class Schedule:
    """The actions of each stage."""

    num_chunks: int
    lags: tuple[int, ...]
    """Of each stage: positions by which what leaves it is behind what enters it; 0 without lookahead."""
    stages: tuple[tuple[Action, ...], ...]

    def feeder(self, stage: int, action: Action) -> tuple[int, Action] | None:
        """The stage and action whose output ``action`` reads; None if it reads none of another stage."""
        kind, position = action.kind, action.position
        other = stage - 1 if kind == "F" else stage + 1
        if not (0 <= position < self.num_chunks and 0 <= other < len(self.lags)):
            return None
        lag = self.lags[other]
        return other, Action(kind, position + lag if kind == "F" else position - lag)

    def needs(self, stage: int, action: Action) -> list[tuple[int, Action]]:
        """What must be done, and where, before ``action`` can run on ``stage``."""
        fed = self.feeder(stage, action)
        above = [fed] if fed else []
        if action.kind == "F":
            return [(stage, Action("F", action.position - 1)), *above] if action.position else above
        later = action.position + 1
        last = self.num_chunks - 1 + self.lags[stage]
        before = Action("B", later) if later < self.num_chunks else Action("F", last)
        return [(stage, before), *above]


def lifo(num_stages: int, num_chunks: int, lags: Sequence[int] | None = None) -> Schedule:
    """All chunks forward, then all backward in reverse.

        # 3 stages, 4 chunks
        # stage 0  F0 F1 F2 F3 .. .. .. .. B3 B2 B1 B0
        # stage 1  .. F0 F1 F2 F3 .. .. B3 B2 B1 B0 ..
        # stage 2  .. .. F0 F1 F2 F3 B3 B2 B1 B0 .. ..

    Backward is last in, first out because a chunk's gradient is complete only when every chunk that read
    its fresh rows, which are those behind it in the order, has run backward.

    Args:
        num_stages: pipeline stages.
        num_chunks: chunks of the graph.
        lags: of each stage, see `Schedule`; 0 if left out.
    """
    lags = tuple(lags) if lags is not None else (0,) * num_stages
    return Schedule(num_chunks, lags, tuple(_lifo_stage(num_chunks, lag) for lag in lags))


def _lifo_stage(num_chunks: int, lag: int) -> tuple[Action, ...]:
    forward = [Action("F", position) for position in range(num_chunks + lag)]
    backward = [Action("B", position) for position in range(num_chunks - 1, -lag - 1, -1)]
    return (*forward, *backward)


def one_unit(stage: int, action: Action) -> float:
    """Every action takes as long."""
    return 1


def dry_run(schedule: Schedule, cost: Callable[[int, Action], float] = one_unit) -> list[list[float]]:
    """Run a schedule without anything in it; return the start of each action.

    Args:
        schedule: the actions.
        cost: how long an action of a stage takes.

    Raises:
        ValueError: an action is missing, doubled or unknown, or the stages wait for each other for ever.
    """
    _check_complete(schedule)
    done: dict[tuple[int, Action], float] = {}
    starts: list[list[float]] = [[] for _ in schedule.stages]
    total = sum(len(actions) for actions in schedule.stages)
    while len(done) < total:
        moved = False
        for stage, actions in enumerate(schedule.stages):
            while len(starts[stage]) < len(actions):
                action = actions[len(starts[stage])]
                required = schedule.needs(stage, action)
                if any(item not in done for item in required):
                    break
                index = len(starts[stage])
                free = done[stage, actions[index - 1]] if index else 0
                start = max([free, *(done[item] for item in required)])
                starts[stage].append(start)
                done[stage, action] = start + cost(stage, action)
                moved = True
        if not moved:
            waiting = [
                f"stage {stage} at {actions[len(starts[stage])]}"
                for stage, actions in enumerate(schedule.stages)
                if len(starts[stage]) < len(actions)
            ]
            raise ValueError(f"the schedule deadlocks: {', '.join(waiting)} wait for each other")
    return starts


def makespan(schedule: Schedule, cost: Callable[[int, Action], float] = one_unit) -> float:
    """When the last action of a dry run is done."""
    return max(
        times[-1] + cost(stage, actions[-1])
        for stage, (actions, times) in enumerate(zip(schedule.stages, dry_run(schedule, cost), strict=True))
    )


def draw(schedule: Schedule) -> str:
    """A picture in text, one row a stage and one column a unit of time."""
    starts = dry_run(schedule)
    width = max(len(str(action)) for actions in schedule.stages for action in actions)
    span = int(makespan(schedule))
    lines = []
    for stage, (actions, times) in enumerate(zip(schedule.stages, starts, strict=True)):
        cells = ["." * width] * span
        for action, time in zip(actions, times, strict=True):
            cells[int(time)] = str(action).ljust(width)
        lines.append(f"stage {stage}  {' '.join(cells)}")
    return "\n".join(line.rstrip() for line in lines)


def _check_complete(schedule: Schedule) -> None:
    for stage, actions in enumerate(schedule.stages):
        expected = sorted(_lifo_stage(schedule.num_chunks, schedule.lags[stage]))
        if sorted(actions) != expected:
            extra = _difference(actions, expected) or "none"
            missing = _difference(expected, actions) or "none"
            raise ValueError(
                f"stage {stage} must run each of {schedule.num_chunks} chunks forward and backward once; "
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
