"""When each stage did what, and how an epoch's seconds break down."""

from __future__ import annotations

from dataclasses import dataclass

from gnnpipe.plan.schedule import Action, Schedule


@dataclass(frozen=True)
class Span:
    """One action of one stage: it waits for its input until ``start`` and computes until ``stop``."""

    asked: float
    start: float
    stop: float
    """Seconds on a clock that all stages share."""


Timeline = list[list[Span]]
"""A list of spans for each stage, in the order of its schedule."""


@dataclass(frozen=True)
class Breakdown:
    """Seconds of one stage in one epoch; they add up to the epoch."""

    compute: float
    """Forward and backward of its chunks."""
    bubble: float
    """Waiting for a neighbour that had not computed yet, and idling before and after all actions."""
    communication_layer: float
    """Waiting for a message that a neighbour had already handed over."""
    other: float
    """The rest: optimiser, bookkeeping."""


def breakdowns(timeline: Timeline, schedule: Schedule, seconds: float) -> list[Breakdown]:
    """Break an epoch of ``seconds`` down for each stage.

    A wait is communication from the moment the sender was done; until then it is bubble.
    """
    stops = [
        {action: span.stop for action, span in zip(actions, spans, strict=True)}
        for actions, spans in zip(schedule, timeline, strict=True)
    ]
    begin = min(spans[0].asked for spans in timeline)
    end = max(spans[-1].stop for spans in timeline)
    result = []
    for stage, (actions, spans) in enumerate(zip(schedule, timeline, strict=True)):
        compute = sum(span.stop - span.start for span in spans)
        communication = sum(
            span.start - min(max(span.asked, _sent(stops, stage, action, span)), span.start)
            for action, span in zip(actions, spans, strict=True)
        )
        waits = sum(span.start - span.asked for span in spans) - communication
        idle = (spans[0].asked - begin) + (end - spans[-1].stop)
        bubble = waits + idle
        result.append(
            Breakdown(compute, bubble, communication, max(0.0, seconds - compute - bubble - communication))
        )
    return result


def _sent(stops: list[dict[Action, float]], stage: int, action: Action, span: Span) -> float:
    """When the neighbour that feeds ``action`` was done; ``span.start`` where no neighbour does."""
    sender = stage - 1 if action.kind == "F" else stage + 1
    return stops[sender][action] if 0 <= sender < len(stops) else span.start
