"""The times of each rank's actions, and how an epoch's seconds break down."""

from __future__ import annotations

from dataclasses import dataclass

from gnnpipe.schedule.actions import Action, Schedule


@dataclass(frozen=True)
class HaloWait:
    """A wait for halo rows inside an action; times as in `Span`."""

    posted: float
    """Time at which this rank posted the exchange."""
    asked: float
    """Time at which it needed the rows."""
    got: float
    """Time at which they were there."""


@dataclass(frozen=True)
class Span:
    """One action of one rank: it waits for its input until ``start`` and computes until ``stop``."""

    asked: float
    start: float
    stop: float
    """Seconds on a clock that all ranks share."""
    halo: tuple[HaloWait, ...] = ()
    """Waits inside the action, in an order that is the same on all parts of a stage."""


@dataclass(frozen=True)
class RankTimeline:
    """Times of one rank in one epoch."""

    spans: list[Span]
    """Times of its actions, in the order of its schedule."""
    finished: float
    """Time at which the gradients of all weights were summed over the parts."""


Timeline = list[RankTimeline]
"""Times of each rank."""


@dataclass(frozen=True)
class Breakdown:
    """Seconds of one rank in one epoch; they add up to the epoch. Records of the first versions lack some."""

    compute: float
    """Forward and backward of chunks."""
    bubble: float
    """Waiting for a neighbouring stage that was still computing, and idling before and after all actions."""
    imbalance: float = 0.0
    """Waiting for a part of the same stage that was still computing boundary rows or gradients."""
    communication_layer: float = 0.0
    """Waiting for a message that a neighbouring stage had sent."""
    communication_graph: float = 0.0
    """Waiting for boundary rows that all parts had sent, and for the all-reduce of weight gradients."""
    other: float = 0.0
    """The rest: optimiser, bookkeeping."""


def breakdowns(timeline: Timeline, schedule: Schedule, seconds: float) -> list[Breakdown]:
    """Break an epoch of ``seconds`` down for each rank.

    A wait is communication from the moment that the last sender was done; until then it is bubble (stages) or
    imbalance (parts).

        # this rank   |asked ............................ start| compute
        # sender       ... compute | sent
        # counted as  |---bubble---|----communication-layer----|

    Args:
        timeline: times of ``num_stages * num_parts`` ranks, ``rank = stage * num_parts + part``.
        schedule: the actions of each stage.
        seconds: time from the epoch's begin on the first rank to its end on the last one.
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
        # behind the last action: until all parts are done imbalance, then the rest of the all-reduce
        ready = min(max(peer.spans[-1].stop for peer in group), mine.finished)
        imbalance += ready - mine.spans[-1].stop
        graph += mine.finished - ready
        bubble = waits + idle
        other = seconds - compute - bubble - imbalance - layer - graph
        result.append(Breakdown(compute, bubble, imbalance, layer, graph, max(0.0, other)))
    return result


def _sent(
    stops: list[dict[Action, float]], rank: int, schedule: Schedule, action: Action, span: Span
) -> float:
    """Time at which the neighbour that feeds ``action`` was done; ``span.start`` if no neighbour feeds it."""
    num_parts = len(stops) // len(schedule.stages)
    fed = schedule.feeder(rank // num_parts, action)
    if fed is None:
        return span.start
    stage, source = fed
    return stops[stage * num_parts + rank % num_parts][source]


def _halo_seconds(mine: RankTimeline, group: Timeline) -> tuple[float, float]:
    """Seconds that a rank waited for halo rows: until all parts had posted them, and from then on."""
    imbalance = communication = 0.0
    for index, span in enumerate(mine.spans):
        peers = [peer.spans[index].halo for peer in group]
        for exchange, wait in enumerate(span.halo):
            ready = max(waits[exchange].posted for waits in peers)
            ready = min(max(ready, wait.asked), wait.got)
            imbalance += ready - wait.asked
            communication += wait.got - ready
    return imbalance, communication
