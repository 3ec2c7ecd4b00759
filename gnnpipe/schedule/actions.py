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
    """One step of a stage, forward (F) or backward (B): the chunk that each of its layers puts and takes.

    A layer *puts* a chunk (writes its rows to a table that other chunks read) and *takes* it (aggregates,
    updates). Without lookahead a step brings one chunk through all layers. With lookahead q a layer takes a
    chunk q positions after it has put it, so that there is a different chunk at each seam between two layers.

        # two layers, lookahead 1, four chunks; seams in front of layer 0, between both, behind layer 1
        # F2  seams 2 1 0   2 enters; layer 0 puts 2, takes 1; layer 1 puts 1, takes 0; 0 leaves
        # F4  seams - 3 2   none enters; layer 0 takes 3; layer 1 puts 3, takes 2; 2 leaves
        # B0  seams 2 1 0   F2 run backward: 0 enters, 2 leaves

    Two actions of a stage are equal if kind and position are.
    """

    kind: Kind
    position: int
    """Number of the step: the position of the chunk that enters. Steps in which none enters, and only chunks
    already inside move on, go on counting: forward beyond the last position, backward below 0."""
    seams: tuple[int | None, ...] = field(compare=False)
    """Chunk at each seam, None where there is none; seam n is in front of layer n. A chunk is given by its
    position in the epoch's order, as orders change from epoch to epoch and the schedule does not."""

    def __str__(self) -> str:
        return f"{self.kind}{self.position}"

    @property
    def enters(self) -> int | None:
        """Position of the chunk that comes in from the neighbour; None if none does."""
        return self.seams[0 if self.kind == "F" else -1]

    @property
    def leaves(self) -> int | None:
        """Position of the chunk that goes on to the neighbour; None if none does."""
        return self.seams[-1 if self.kind == "F" else 0]

    @property
    def taken(self) -> tuple[int, ...]:
        """Position of each chunk that a layer takes: those at the seams, but for the one that enters."""
        seams = self.seams[1:] if self.kind == "F" else self.seams[:-1]
        return tuple(position for position in seams if position is not None)

    @property
    def num_taken(self) -> int:
        """Number of layers that take a chunk."""
        return len(self.taken)


@dataclass(frozen=True)
class Schedule:
    """The actions of each stage."""

    num_chunks: int
    stages: tuple[tuple[Action, ...], ...]

    @cached_property
    def _leaving(self) -> list[dict[tuple[Kind, int], Action]]:
        """For each stage, the action in which each chunk leaves, by (kind, position)."""
        return [
            {(action.kind, action.leaves): action for action in actions if action.leaves is not None}
            for actions in self.stages
        ]

    @cached_property
    def _before(self) -> list[dict[Action, Action]]:
        """For each stage, the action that must run just before each action."""
        return [
            {later: earlier for earlier, later in pairwise(sorted(actions, key=_turn))}
            for actions in self.stages
        ]

    def feeder(self, stage: int, action: Action) -> tuple[int, Action] | None:
        """The stage and action whose output ``action`` reads; None if it reads nothing of another stage."""
        source = stage - 1 if action.kind == "F" else stage + 1
        if action.enters is None or not 0 <= source < len(self.stages):
            return None
        return source, self._leaving[source][action.kind, action.enters]

    def needs(self, stage: int, action: Action) -> list[tuple[int, Action]]:
        """The stages and actions that must be done before ``action`` can run on ``stage``."""
        before, fed = self._before[stage].get(action), self.feeder(stage, action)
        return [*([(stage, before)] if before else []), *([fed] if fed else [])]


def _turn(action: Action) -> tuple[bool, int]:
    """Key that sorts a stage's actions in the only order that is right.

    Forward, a chunk reads fresh rows of the chunks before it in the order. Backward, its gradient is complete
    once every chunk that read its fresh rows has run: those behind it in the order, last first.
    """
    return (False, action.position) if action.kind == "F" else (True, -action.position)


def lifo(
    num_stages: int, num_chunks: int, num_layers: Sequence[int] | None = None, lookahead: int = 0
) -> Schedule:
    """All chunks forward, then all backward in reverse: last in, first out.

        # 3 stages, 4 chunks
        # stage 0  F0 F1 F2 F3 .. .. .. .. B3 B2 B1 B0
        # stage 1  .. F0 F1 F2 F3 .. .. B3 B2 B1 B0 ..
        # stage 2  .. .. F0 F1 F2 F3 B3 B2 B1 B0 .. ..

    A chunk's gradient is complete only when every chunk that read its fresh rows, which are those behind it
    in the order, has run backward. So one forward, one backward (1F1B) is not possible here.

    Args:
        num_stages: number of stages.
        num_chunks: number of chunks of each part.
        num_layers: number of aggregating layers of each stage; by default 1.
        lookahead: positions between the put of a chunk in a layer and its take.
    """
    sizes = num_layers or (1,) * num_stages
    by_size = {size: _lifo_stage(num_chunks, size, lookahead) for size in set(sizes)}
    return Schedule(num_chunks, tuple(by_size[size] for size in sizes))


def _lifo_stage(num_chunks: int, num_layers: int, lookahead: int) -> tuple[Action, ...]:
    """The actions of one stage; only here it is worked out which chunk is where in which step.

    The seams of a step are a window on all chunks in a row, read from right to left with the lookahead as
    stride. It slides by one each step:

        # 2 layers, lookahead 1, chunks 0..3: lag 2
        #  - - 0 1 2 3 - -
        # [- - 0]             F0  B-2  seams 0 - -
        #   [- 0 1]           F1  B-1  seams 1 0 -
        #     [0 1 2]         F2  B0   seams 2 1 0
        #           [3 - -]   F5  B3   seams - - 3
    """
    lag = num_layers * lookahead  # steps from a chunk's entry to its leaving
    order = [*(None,) * lag, *range(num_chunks), *(None,) * lag]
    steps = [
        (step,) * (num_layers + 1) if lag == 0 else tuple(order[step : step + lag + 1 : lookahead][::-1])
        for step in range(num_chunks + lag)
    ]
    forward = [Action("F", step, seams) for step, seams in enumerate(steps)]
    # the way back goes through the same steps in reverse: the chunk that left last comes in first
    backward = [Action("B", step - lag, seams) for step, seams in reversed(list(enumerate(steps)))]
    return (*forward, *backward)


def one_unit(stage: int, action: Action) -> float:
    """The cost of an action where all cost the same."""
    return 1


def dry_run(schedule: Schedule, cost: Callable[[int, Action], float] = one_unit) -> list[list[float]]:
    """Run a schedule on a clock alone; return the start of each action, ``[stage][action]``.

    Args:
        schedule: the actions.
        cost: time that an action of a stage takes.

    Raises:
        ValueError: an action is missing, doubled or unknown, or the stages wait for each other for ever.
    """
    _check_complete(schedule)
    done: dict[tuple[int, Action], float] = {}
    starts: list[list[float]] = [[] for _ in schedule.stages]
    total = sum(len(actions) for actions in schedule.stages)
    # round after round each stage runs as far as it can; a round in which none moves is a deadlock
    while len(done) < total:
        moved = False
        for stage, actions in enumerate(schedule.stages):
            while len(starts[stage]) < len(actions):
                action = actions[len(starts[stage])]
                required = schedule.needs(stage, action)
                if any(needed not in done for needed in required):
                    break
                index = len(starts[stage])
                free = done[stage, actions[index - 1]] if index else 0
                start = max([free, *(done[needed] for needed in required)])
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
    """Time at which the last action of a dry run is done."""
    return max(
        times[-1] + cost(stage, actions[-1])
        for stage, (actions, times) in enumerate(zip(schedule.stages, dry_run(schedule, cost), strict=True))
    )


def draw(schedule: Schedule) -> str:
    """A picture in text: a row for each stage, a column for each unit of time."""
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
    """Raise ValueError unless every chunk enters and leaves every stage once each way."""
    expected = Counter(f"{kind}{position}" for kind in "FB" for position in range(schedule.num_chunks))
    for stage, actions in enumerate(schedule.stages):
        entering = Counter(f"{action.kind}{action.enters}" for action in actions if action.enters is not None)
        leaving = Counter(f"{action.kind}{action.leaves}" for action in actions if action.leaves is not None)
        for counted in (entering, leaving):
            if counted != expected:
                missing, extra = (
                    " ".join(rest.elements()) or "none" for rest in (expected - counted, counted - expected)
                )
                raise ValueError(
                    f"stage {stage} must run each of {schedule.num_chunks} chunks forward and backward "
                    f"once; missing: {missing}; too many: {extra}"
                )
