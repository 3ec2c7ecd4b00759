"""What ``gnnpipe plan`` plans for: a graph by its sizes, or by how it can be cut, and a model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gnnpipe.config.commands import PlanConfig
from gnnpipe.graph.chunks import cut_into_parts
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.data import GraphData
from gnnpipe.graph.datasets import load_dataset
from gnnpipe.graph.normalize import transposed
from gnnpipe.graph.partition import halo_counts, node_cost
from gnnpipe.nn.models import ModelSpec, spec_for
from gnnpipe.planner.costs import GraphSize, row_cost
from gnnpipe.planner.predictions import graph_size
from gnnpipe.planner.workload import WHOLE, PartCut
from gnnpipe.schedule.volume import HaloRows

# Of graphs that are not at hand, as where a data set ships no split.
USUAL_TRAIN_SHARE = 0.6


@dataclass(frozen=True)
class Question:
    """A graph by its sizes, and a model."""

    name: str
    size: GraphSize
    spec: ModelSpec
    cuts: dict[int, PartCut]
    """By number of parts."""
    feature_entries: int
    """Stored entries of the features."""
    num_matrices: int = 1
    """2 where the normalised adjacency and its transpose differ."""
    train_share: float = USUAL_TRAIN_SHARE
    """Of the nodes."""
    several_labels: bool = False
    """Whether a node may have several."""
    notes: tuple[str, ...] = ()
    """What was left out or changed when the graph was loaded."""


def question_of(config: PlanConfig, data: GraphData | None = None) -> Question:
    """What is to be planned, from a data set or from sizes."""
    if config.num_nodes is not None:
        features, classes = config.num_features or config.hidden, config.num_classes or config.hidden
        spec = ModelSpec(config.model, config.layers, config.hidden, features, classes)
        loops = config.num_nodes if spec.normalization == "gcn" else 0
        size = GraphSize(config.num_nodes, (config.num_edges or 0) + loops)
        cuts = {
            parts: _guessed(config, parts) for parts in _divisors(config.devices) if _known(config, parts)
        }
        matrices = 2 if spec.normalization == "mean" else 1
        name = f"a graph of {config.num_nodes:,} nodes"
        return Question(name, size, spec, cuts, features * config.num_nodes, matrices)
    data = data or load_dataset(config)
    spec = spec_for(config, data)
    entries = data.features.num_entries if isinstance(data.features, Csr) else data.features.numel()
    cuts = {
        parts: _cut(config, data, parts) for parts in _divisors(config.devices) if parts <= data.num_nodes
    }
    directed = transposed(data.adjacency) is not data.adjacency
    return Question(
        data.name,
        graph_size(spec, data),
        spec,
        cuts,
        entries,
        2 if directed or spec.normalization == "mean" else 1,
        float(data.train_mask.float().mean()),
        data.task == "multilabel",
        data.notes,
    )


def _divisors(devices: int) -> list[int]:
    return [parts for parts in range(1, devices + 1) if devices % parts == 0]


def _known(config: PlanConfig, parts: int) -> bool:
    return parts == 1 or config.alpha is not None


def _guessed(config: PlanConfig, parts: int) -> PartCut:
    """Of a graph that is not at hand: alpha grows about with the logarithm of the number of parts."""
    if parts == 1 or config.alpha is None or config.num_nodes is None:
        return WHOLE
    alpha = config.alpha * np.log(parts) / np.log(config.devices)
    rows = round(alpha * config.num_nodes)
    return PartCut(HaloRows(rows, rows), min(0.5, 1 - 1 / parts))


def _cut(config: PlanConfig, data: GraphData, parts: int) -> PartCut:
    if parts == 1:
        return WHOLE
    work = node_cost(data.adjacency, row_cost(config.hidden))
    groups = cut_into_parts(data.adjacency, parts, "nodes", work)
    matrix = data.adjacency.to_scipy().tocoo()
    across = (
        float((groups.assignment[matrix.row] != groups.assignment[matrix.col]).mean()) if matrix.nnz else 0.0
    )
    return PartCut(HaloRows(*halo_counts(data.adjacency, groups)), across)
