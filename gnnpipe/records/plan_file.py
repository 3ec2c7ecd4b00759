"""plan.json: the plan of a run, its graph and predictions, and the plans that it went on with."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Annotated

from gnnpipe.config.run import Metric
from gnnpipe.files.typed_json import Key
from gnnpipe.graph.prepare.prepared import GraphFacts
from gnnpipe.graph.scaled_features import UNSCALED, FeatureScaling
from gnnpipe.nn.models import DataSizes
from gnnpipe.planner.predictions import Predictions
from gnnpipe.schedule.plan import Plan

Shape = tuple[int, int, int]
"""Stages, parts and chunks."""


@dataclass(frozen=True)
class PlanFile:
    """The content of plan.json as a run starts, in the order in which it is written."""

    plan: Plan
    graph: GraphFacts
    predictions: Predictions
    metric: Metric
    features_checksum: str = ""
    """Of the features in a graph folder (`gnnpipe.graph.folder.read.features_checksum`); empty for other
    graphs, and for features that are made."""
    model_checksum: str = ""
    """Of the file of a model of one's own; empty for other models."""


@dataclass(frozen=True)
class Resumption:
    """A point where a run went on, perhaps by another plan."""

    epoch: int
    """Number of epochs that were done."""
    shape: Annotated[Shape, Key("from")]
    """Shape of the plan until then."""


@dataclass(frozen=True)
class Foreseen:
    """The predictions of a plan that reports compare with what was measured."""

    rival_bytes: float | None = None
    """Bytes that graph parallelism would send in an epoch; None where it has nothing to send, and in files of
    the first version."""
    graph_parallel_bytes_per_epoch: float | None = None
    """Name of ``rival_bytes`` in the first version."""


@dataclass(frozen=True)
class GraphSize:
    """By which one graph is told from another; None where the file does not say."""

    num_nodes: int | None = None
    num_edges: int | None = None
    num_features: int | None = None
    feature_entries: int | None = None
    num_classes: int | None = None
    task: str | None = None
    value_mean: tuple[float, ...] | None = None
    value_deviation: tuple[float, ...] | None = None
    class_names: tuple[str, ...] | None = None
    content: str | None = None
    scaling: FeatureScaling = UNSCALED
    weighted: bool | None = None
    edge_dim: int | None = None
    num_edge_types: int | None = None

    @property
    def sizes(self) -> DataSizes:
        """The sizes that a model depends on; 1 where the file does not say how many."""
        ends = self.num_features or 1, self.num_classes or 1
        return DataSizes(*ends, self.edge_dim or 0, self.num_edge_types or 0)


@dataclass(frozen=True)
class StoredPlan:
    """The fields of plan.json that are read; an older version may have written it."""

    plan: Plan
    metric: Metric
    predictions: Foreseen = Foreseen()
    graph: GraphSize = GraphSize()
    resumed: tuple[Resumption, ...] = ()
    features_checksum: str = ""
    """As in `PlanFile`; empty in files of older versions."""
    model_checksum: str = ""
    """As in `PlanFile`; empty in files of older versions."""
    launches: tuple[str, ...] = ()
    """Launches that started the run, or went on with it, last (see `launch_id`). Empty in files of older
    versions."""

    @property
    def shape(self) -> Shape:
        """Shape of the plan that ran last."""
        return self.plan.num_stages, self.plan.num_parts, self.plan.num_chunks

    @property
    def rival_bytes(self) -> float | None:
        """Bytes an epoch that graph parallelism over as many ranks would send; None if that is not known."""
        foreseen = self.predictions
        return (
            foreseen.graph_parallel_bytes_per_epoch if foreseen.rival_bytes is None else foreseen.rival_bytes
        )

    def since(self, epochs: int) -> int:
        """First epoch of the last plan, in a run of ``epochs`` epochs.

        Plans that ran no epoch do not count, and neighbouring ones of one shape are one plan.
        """
        # resumed = [(4, A), (4, B), (9, C)], shape C, 12 epochs:
        # epochs  0-3 A | (none) B | 4-8 C | 9-11 C   ->   4
        starts = [0, *(resumption.epoch for resumption in self.resumed)]
        stops = [*starts[1:], epochs]
        shapes = [*(resumption.shape for resumption in self.resumed), self.shape]
        ran = [
            (start, shape) for start, stop, shape in zip(starts, stops, shapes, strict=True) if start < stop
        ]
        _, last_shape = ran[-1]
        last = itertools.takewhile(lambda span: span[1] == last_shape, reversed(ran))
        return min(start for start, _ in last)
