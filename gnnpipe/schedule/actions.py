"""Schedules: what each stage does in which order, as lists that can be drawn, checked and executed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Literal

Kind = Literal["F", "B"]


@dataclass(frozen=True)
class Action:
    """One step of a stage, forward (F) or backward (B): which chunk each of its layers puts, and takes.

    A layer *puts* a chunk (makes its rows known to other chunks) and *takes* it (aggregates, updates).
    Without lookahead a step brings one chunk through all layers. With it a layer takes a chunk some
    positions behind the one that it puts, so that other chunks stand at every seam between two layers.

        # two layers, lookahead 1, four chunks
        # F2  seams 2 1 0   2 enters; layer 0 puts it, takes 1; layer 1 puts 1, takes 0, which leaves
        # F4  seams - 3 2   nothing enters; layer 0 takes 3; layer 1 puts 3, takes 2, which leaves
        # B0  seams 2 1 0   the way back of F2: 0 enters, and 2 leaves

    Two actions of a stage are the same if kind and number are.
    """

    kind: Kind
    position: int
    """Number of the step, for which the chunk that enters is named: forward it goes on beyond the last
    position, and backward below 0, for the steps that only bring out what is left."""
    seams: tuple[int | None, ...] = field(compare=False)
    """Position in the epoch's chunk order (orders change, the schedule does not) of the chunk at each seam:
    in front of layer n is seam n. None where no chunk is."""

    def __str__(self) -> str:
        return f"{self.kind}{self.position}"

    @property
    def enters(self) -> int | None:
        """Position of the chunk that comes in from the neighbour, if any does."""
        return self.seams[0 if self.kind == "F" else -1]

    @property
    def leaves(self) -> int | None:
        """Position of the chunk that goes on to the neighbour, if any does."""
        return self.seams[-1 if self.kind == "F" else 0]

    @property
    def num_taken(self) -> int:
        """Layers that take a chunk."""
        return len(self.seams) - self.seams.count(None) - (self.enters is not None)


@dataclass(frozen=True)
class Schedule:
    """The actions of each stage."""

    num_chunks: int
    stages: tuple[tuple[Action, ...], ...]

    @cached_property
    def _leaving(self) -> list[dict[tuple[Kind, int], Action]]:
        """Of each stage: the action in which the chunk at a position leaves."""
        return [
            {(action.kind, action.leaves): action for action in actions if action.leaves is not None}
            for actions in self.stages
        ]

    @cached_property
    def _before(self) -> list[dict[Action, Action]]:
        """Of each stage: the action that must be done before an action."""
        return [
            {later: earlier for earlier, later in pairwise(sorted(actions, key=_turn))}
            for actions in self.stages
        ]

    def feeder(self, stage: int, action: Action) -> tuple[int, Action] | None:
        """The stage and action whose output ``action`` reads; None if it reads none of another stage."""
        other = stage - 1 if action.kind == "F" else stage + 1
        if action.enters is None or not 0 <= other < len(self.stages):
            return None
        return other, self._leaving[other][action.kind, action.enters]

    def needs(self, stage: int, action: Action) -> list[tuple[int, Action]]:
        """What must be done, and where, before ``action`` can run on ``stage``."""
        before, fed = self._before[stage].get(action), self.feeder(stage, action)
        return [*([(stage, before)] if before else []), *([fed] if fed else [])]


def _turn(action: Action) -> tuple[bool, int]:
    """Sorts a stage's actions as data demand: a chunk reads fresh rows of those in front of it, and its
    gradient is complete when all that read its rows, which are those behind it, have run backward."""
    return (False, action.position) if action.kind == "F" else (True, -action.position)


def lifo(
    num_stages: int, num_chunks: int, num_layers: Sequence[int] | None = None, lookahead: int = 0
) -> Schedule:
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
        num_layers: aggregating layers of each stage; 1 if left out.
        lookahead: positions that a layer takes a chunk behind the one that it puts.
    """
    sizes = num_layers or (1,) * num_stages
    by_size = {size: _lifo_stage(num_chunks, size, lookahead) for size in set(sizes)}
    return Schedule(num_chunks, tuple(by_size[size] for size in sizes))


def _lifo_stage(num_chunks: int, num_layers: int, lookahead: int) -> tuple[Action, ...]:
    """The only place that knows which chunk is where in which step."""
    lag = num_layers * lookahead  # positions that what leaves is behind what enters
    order = [*(None,) * lag, *range(num_chunks), *(None,) * lag]
    steps = [
        (step,) * (num_layers + 1) if lag == 0 else tuple(order[step : step + lag + 1 : lookahead][::-1])
        for step in range(num_chunks + lag)
    ]
    forward = [Action("F", step, seams) for step, seams in enumerate(steps)]
    # the way back goes through the same steps; what left last comes in first
    backward = [Action("B", step - lag, seams) for step, seams in reversed(list(enumerate(steps)))]
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
    """Every chunk must enter and leave every stage once each way."""
    expected = Counter(f"{kind}{position}" for kind in "FB" for position in range(schedule.num_chunks))
    for stage, actions in enumerate(schedule.stages):
        entering = Counter(f"{action.kind}{action.enters}" for action in actions if action.enters is not None)
        leaving = Counter(f"{action.kind}{action.leaves}" for action in actions if action.leaves is not None)
        for found in (entering, leaving):
            if found != expected:
                missing, extra = (
                    " ".join(rest.elements()) or "none" for rest in (expected - found, found - expected)
                )
                raise ValueError(
                    f"stage {stage} must run each of {schedule.num_chunks} chunks forward and backward "
                    f"once; missing: {missing}; too many: {extra}"
                )
