"""plan.json: what a run was about to do, and how often it went on by another plan."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Annotated

from gnnpipe.config.run import Metric
from gnnpipe.files.typed_json import Key
from gnnpipe.graph.prepared import GraphFacts
from gnnpipe.planner.predictions import Predictions
from gnnpipe.schedule.plan import Plan

Shape = tuple[int, int, int]
"""Stages, parts and chunks."""


@dataclass(frozen=True)
class PlanFile:
    """What is known of a run as it starts; fields stand in the order in which they are written."""

    plan: Plan
    graph: GraphFacts
    predictions: Predictions
    metric: Metric


@dataclass(frozen=True)
class Resumption:
    """That a run went on, perhaps by another plan."""

    epoch: int
    """Epochs that were done."""
    shape: Annotated[Shape, Key("from")]
    """Of the plan until then."""


@dataclass(frozen=True)
class Foreseen:
    """Of a plan's predictions, those that are compared with what came out."""

    rival_bytes: float | None = None
    """Bytes of graph parallelism; None where it has nothing to send, and in files of the first version."""
    graph_parallel_bytes_per_epoch: float | None = None
    """Its name in the first version."""


@dataclass(frozen=True)
class GraphSize:
    """The graph's facts that tell one from another at no cost; None where the file does not say."""

    num_nodes: int | None = None
    num_edges: int | None = None
    num_features: int | None = None
    feature_entries: int | None = None
    num_classes: int | None = None
    task: str | None = None


@dataclass(frozen=True)
class StoredPlan:
    """What is read of a plan.json, which an older version may have written."""

    plan: Plan
    metric: Metric
    predictions: Foreseen = Foreseen()
    graph: GraphSize = GraphSize()
    resumed: tuple[Resumption, ...] = ()
    launches: tuple[str, ...] = ()
    """Who started the run, or went on with it, last; see `launch_id`. Empty in files of older versions."""

    @property
    def shape(self) -> Shape:
        """Of the plan that ran last."""
        return self.plan.num_stages, self.plan.num_parts, self.plan.num_chunks

    @property
    def rival_bytes(self) -> float | None:
        """What graph parallelism over as many ranks would send in an epoch; None if that is not known."""
        found = self.predictions
        return found.graph_parallel_bytes_per_epoch if found.rival_bytes is None else found.rival_bytes

    def since(self, epochs: int) -> int:
        """The epoch from which the last plan of a run of so many epochs has been in charge.

        A plan that was given up, or took over, without running an epoch does not count.
        """
        starts = [0, *(item.epoch for item in self.resumed)]
        shapes = [*(item.shape for item in self.resumed), self.shape]
        stops = [*starts[1:], epochs]
        ran = [item[:2] for item in zip(starts, shapes, stops, strict=True) if item[0] < item[2]]
        last = itertools.takewhile(lambda item: item[1] == ran[-1][1], reversed(ran))
        return min(start for start, _ in last)
