"""When each rank did what, and how an epoch's seconds break down."""

from __future__ import annotations

from dataclasses import dataclass

from gnnpipe.schedule.actions import Action, Schedule


@dataclass(frozen=True)
class HaloWait:
    """A wait for boundary rows inside an action: posted, later asked for, at last there."""

    posted: float
    asked: float
    got: float


@dataclass(frozen=True)
class Span:
    """One action of one rank: it waits for its input until ``start`` and computes until ``stop``."""

    asked: float
    start: float
    stop: float
    """Seconds on a clock that all ranks share."""
    halo: tuple[HaloWait, ...] = ()
    """In an order that is the same on all parts of a stage."""


@dataclass(frozen=True)
class RankTimeline:
    """What one rank did in one epoch."""

    spans: list[Span]
    """In the order of its schedule."""
    finished: float
    """When the gradients of all weights were summed over the parts."""


Timeline = list[RankTimeline]
"""One for each rank."""


@dataclass(frozen=True)
class Breakdown:
    """Seconds of one rank in one epoch; they add up to the epoch. The first versions did not tell all."""

    compute: float
    """Forward and backward of its chunks."""
    bubble: float
    """Waiting for a neighbouring stage that had not computed yet, and idling before and after all actions."""
    imbalance: float = 0.0
    """Waiting for a part of the same stage that had not computed its boundary rows or gradients yet."""
    communication_layer: float = 0.0
    """Waiting for a message that a neighbouring stage had already handed over."""
    communication_graph: float = 0.0
    """Waiting for boundary rows that all parts had handed over, and for the sums of weights' gradients."""
    other: float = 0.0
    """The rest: optimiser, bookkeeping."""


def breakdowns(timeline: Timeline, schedule: Schedule, seconds: float) -> list[Breakdown]:
    """Break an epoch of ``seconds`` down for each rank.

    A wait is communication from the moment the last sender was done; until then it is bubble (stages) or
    imbalance (parts).

    Args:
        timeline: of ``num_stages * num_parts`` ranks, ``rank = stage * num_parts + part``.
        schedule: the actions of each stage.
        seconds: from the epoch's begin on the first rank to its end on the last one.
    """
    num_parts = len(timeline) // len(schedule.stages)
    stops = [
        {
            action: span.stop
            for action, span in zip(schedule.stages[rank // num_parts], mine.spans, strict=True)
        }
        for rank, mine in enumerate(timeline)
    ]
    begin = min(mine.spans[0].asked for mine in timeline)
    end = max(mine.finished for mine in timeline)
    result = []
    for rank, mine in enumerate(timeline):
        stage = rank // num_parts
        group = timeline[stage * num_parts : (stage + 1) * num_parts]
        imbalance, graph = _halo_seconds(mine, group)
        layer = sum(
            span.start - min(max(span.asked, _sent(stops, rank, schedule, action, span)), span.start)
            for action, span in zip(schedule.stages[stage], mine.spans, strict=True)
        )
        compute = sum(span.stop - span.start for span in mine.spans) - imbalance - graph
        waits = sum(span.start - span.asked for span in mine.spans) - layer
        idle = (mine.spans[0].asked - begin) + (end - mine.finished)
        ready = min(max(other.spans[-1].stop for other in group), mine.finished)
        imbalance += ready - mine.spans[-1].stop
        graph += mine.finished - ready
        bubble = waits + idle
        other = seconds - compute - bubble - imbalance - layer - graph
        result.append(Breakdown(compute, bubble, imbalance, layer, graph, max(0.0, other)))
    return result


def _sent(
    stops: list[dict[Action, float]], rank: int, schedule: Schedule, action: Action, span: Span
) -> float:
    """When the neighbour that feeds ``action`` was done; ``span.start`` where no neighbour does."""
    num_parts = len(stops) // len(schedule.stages)
    fed = schedule.feeder(rank // num_parts, action)
    if fed is None:
        return span.start
    stage, source = fed
    return stops[stage * num_parts + rank % num_parts][source]


def _halo_seconds(mine: RankTimeline, group: Timeline) -> tuple[float, float]:
    """Seconds that a rank waited for parts that had not posted yet, and after all had."""
    imbalance = communication = 0.0
    for index, span in enumerate(mine.spans):
        peers = [other.spans[index].halo for other in group]
        for number, wait in enumerate(span.halo):
            ready = max(waits[number].posted for waits in peers)
            ready = min(max(ready, wait.asked), wait.got)
            imbalance += ready - wait.asked
            communication += wait.got - ready
    return imbalance, communication
