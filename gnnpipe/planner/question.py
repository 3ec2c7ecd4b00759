"""The input of ``gnnpipe plan``: a graph (its sizes, or a data set), its cuts into parts, and a model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gnnpipe.config.commands import PlanConfig
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.data import Graph
from gnnpipe.graph.prepare.fingerprint import known_fingerprint
from gnnpipe.graph.prepare.lazy import LazyGraph, at_hand
from gnnpipe.graph.prepare.normalize import keeps_symmetry, num_self_loops
from gnnpipe.graph.sources.datasets import load_dataset
from gnnpipe.nn.models import DataSizes, ModelSpec, spec_for, spec_of
from gnnpipe.planner.costs import GraphSize
from gnnpipe.planner.cuts import count_cut, is_directed
from gnnpipe.planner.predictions import graph_size
from gnnpipe.planner.workload import WHOLE, PartCut
from gnnpipe.schedule.volume import HaloRows

# Share of training nodes where only the sizes of a graph are known: that of data sets that ship no split.
USUAL_TRAIN_SHARE = 0.6


@dataclass(frozen=True)
class Question:
    """A graph, reduced to its sizes and cuts, and a model."""

    name: str
    size: GraphSize
    spec: ModelSpec
    cuts: dict[int, PartCut]
    """By number of parts; a number that is missing can't be planned for."""
    feature_entries: int
    """Stored entries of the features."""
    num_matrices: int = 1
    """2 where the normalised adjacency and its transpose differ."""
    train_share: float = USUAL_TRAIN_SHARE
    """Share of the nodes that are training nodes."""
    several_labels: bool = False
    """Whether labels are rows: several labels a node, or values to be predicted."""
    notes: tuple[str, ...] = ()
    """Remarks on what was left out or changed when the graph was loaded."""


def question_of(config: PlanConfig, data: Graph | LazyGraph | None = None) -> Question:
    """The graph and the model to plan for, from sizes in the config or from its data set.

    Args:
        config: sizes or data set, model, and number of devices.
        data: the data set, if it is loaded already, or known otherwise than by the config.

    Raises:
        DataError: the data set can't be loaded.
    """
    if config.num_nodes is not None:
        return _of_sizes(config, config.num_nodes)
    if isinstance(data, LazyGraph):
        return _of_data(config, data)
    # features and classes that the folder lacks are taken to be as many
    width = config.hidden
    known = None if data else known_fingerprint(config, width)
    name, cache = config.data_name, config.cache
    with at_hand(name, cache, lambda: data or load_dataset(config, width), known=known) as graph:
        return _of_data(config, graph)


def _of_sizes(config: PlanConfig, num_nodes: int) -> Question:
    features, classes = config.num_features or config.hidden, config.num_classes or config.hidden
    spec = spec_of(config, DataSizes(features, classes))
    loops = num_self_loops(spec.normalization, num_nodes)
    return Question(
        f"a graph of {num_nodes:,} nodes",
        GraphSize(num_nodes, (config.num_edges or 0) + loops),
        spec,
        {parts: _guessed(config, parts) for parts in _divisors(config.devices) if _known(config, parts)},
        features * num_nodes,
        1 if keeps_symmetry(spec.normalization) else 2,
    )


def _of_data(config: PlanConfig, graph: LazyGraph) -> Question:
    data = graph.graph
    spec = spec_for(config, data)
    entries = data.features.num_entries if isinstance(data.features, Csr) else data.features.numel()
    return Question(
        data.name,
        graph_size(spec, data),
        spec,
        {parts: _cut(config, graph, parts) for parts in _divisors(config.devices) if parts <= data.num_nodes},
        entries,
        2 if is_directed(graph) or not keeps_symmetry(spec.normalization) else 1,
        float(data.train_mask.float().mean()),
        data.task in ("multilabel", "regression"),
        data.notes,
    )


def _divisors(devices: int) -> list[int]:
    """Numbers of parts that leave a whole number of stages."""
    return [parts for parts in range(1, devices + 1) if devices % parts == 0]


def _known(config: PlanConfig, parts: int) -> bool:
    return parts == 1 or config.alpha is not None


def _guessed(config: PlanConfig, parts: int) -> PartCut:
    """Cut of a graph that is not at hand: alpha grows about with the logarithm of the number of parts."""
    if parts == 1 or config.alpha is None or config.num_nodes is None:
        return WHOLE
    alpha = config.alpha * np.log(parts) / np.log(config.devices)
    rows = round(alpha * config.num_nodes)
    # a random cut would send 1 - 1/P of the edges across parts; a good one of many parts about half
    return PartCut(HaloRows(rows, rows), min(0.5, 1 - 1 / parts))


def _cut(config: PlanConfig, graph: LazyGraph, parts: int) -> PartCut:
    """Cut the graph as a run would, and count halo rows and edges between parts."""
    if parts == 1:
        return WHOLE
    cut = count_cut(graph, parts, "nodes", config.hidden)
    return PartCut(HaloRows(cut.forward, cut.backward), cut.across)
