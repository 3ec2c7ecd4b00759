"""Predictions about a run from its plan alone: bytes sent, memory, bubble, share of fresh messages."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from gnnpipe.config.run import TableFormat
from gnnpipe.engine.initial_rows import initial_rows_of
from gnnpipe.engine.tables import TableSettings
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.cut.halo import part_range
from gnnpipe.graph.data import Graph
from gnnpipe.graph.prepare.normalize import num_normalized_entries
from gnnpipe.graph.prepare.prepared import PreparedGraph
from gnnpipe.nn.models import LayerSpec, ModelSpec
from gnnpipe.nn.running import Gathers, Reverts
from gnnpipe.planner.costs import GraphSize, LayerShape, layer_cost
from gnnpipe.planner.hardware import Rates
from gnnpipe.planner.memory.rank import (
    RankRows,
    adjacency_bytes,
    built_shapes,
    checkpoint_memory,
    counted_blocks,
    rank_memory,
)
from gnnpipe.schedule.plan import Plan, make_plan
from gnnpipe.schedule.staleness import fresh_probability
from gnnpipe.schedule.volume import (
    HaloRows,
    Volume,
    halo_bytes,
    pipeline_bytes,
    weight_bytes,
)


@dataclass(frozen=True)
class Predictions:
    """Figures of a run that are known before it starts."""

    volume: Volume
    """Bytes of one epoch over all ranks."""
    rival_bytes: int | None
    """Bytes that graph parallelism over the same number of ranks would send in an epoch; None if its cut is
    unknown."""
    memory_bytes: list[int]
    """Estimated peak of each rank, without its share of a checkpoint."""
    checkpoint_bytes: list[int]
    """Each rank's share of a checkpoint, which its host holds in memory from the first one on; 0 where none
    is written."""
    bubble: float
    """Share of an epoch in which stages idle, if all are equally fast."""
    fresh: float
    """Share of the messages that carry a row of the same epoch."""


def predict(
    plan: Plan,
    spec: ModelSpec,
    graph: PreparedGraph,
    settings: TableSettings,
    *,
    drops: bool = True,
    checks: bool = False,
    checkpoints: bool = True,
    ranked_labels: int = 0,
) -> Predictions:
    """Predict bytes, memory and bubble of a run.

    Args:
        plan: the run's plan.
        spec: the model.
        graph: cut for the plan.
        settings: the tables'.
        drops: whether there is any dropout.
        checks: whether gradients are compared with exact ones.
        checkpoints: whether any are written.
        ranked_labels: labels by which the metric ranks the nodes.
    """
    facts = graph.facts
    halo = HaloRows(sum(facts.halo_forward), sum(facts.halo_backward))
    rival = None
    if facts.rival_halo is not None:
        one_stage = make_plan(1, plan.num_ranks, 1, spec.layers, facts.num_nodes)
        rival = volume_of(one_stage, spec, facts.num_nodes, HaloRows(*facts.rival_halo)).total
    stages, parts = range(plan.num_stages), _parts(graph, plan.tables, ranked_labels)
    stale = plan.reads_stale_rows(stale_halo=settings.stale_halo)
    return Predictions(
        volume_of(plan, spec, facts.num_nodes, halo, settings.versions_sent),
        rival,
        [
            rank_memory(plan, spec, settings, stage, rows, checks=checks, drops=drops)
            for stage in stages
            for rows in parts
        ],
        [
            checkpoint_memory(plan, spec, settings, stage, rows, part, stale=stale) if checkpoints else 0
            for stage in stages
            for part, rows in enumerate(parts)
        ],
        plan.bubble_of(_shares(graph)),
        _fresh(plan, graph.chunk_edges, stale_halo=settings.stale_halo),
    )


def _shares(graph: PreparedGraph) -> list[float]:
    """Rows of each chunk, over all parts, in units of the mean chunk's."""
    rows = [sum(span.num_nodes for span in spans) for spans in zip(*graph.ranges, strict=True)]
    return [number * len(rows) / sum(rows) for number in rows]


def _fresh(plan: Plan, messages: Tensor, *, stale_halo: bool) -> float:
    """Share of the messages that are fresh.

    A chunk's own rows always are; rows of another chunk are if that chunk comes earlier in the epoch's order.

    Args:
        plan: chunks and lookahead.
        messages: ``[2, chunks, chunks]`` numbers of messages: inside parts, and across parts.
        stale_halo: whether messages across parts are last epoch's.
    """
    across_parts = messages[1] if stale_halo else torch.zeros_like(messages[1])
    current = messages.sum(dim=0) - across_parts
    own, total = float(current.diagonal().sum()), float(messages.sum())
    often = 1.0 if plan.exact else fresh_probability(plan.num_chunks, plan.lookahead)
    return (own + often * (float(current.sum()) - own)) / total if total else 1.0


def volume_of(plan: Plan, spec: ModelSpec, num_nodes: int, halo: HaloRows, versions: int = 1) -> Volume:
    """Bytes that all ranks send in one epoch.

    Args:
        plan: stages and parts.
        spec: the model.
        num_nodes: nodes of the graph.
        halo: rows that parts read of each other.
        versions: forms in which a row goes forward, see `TableSettings.versions_sent`.
    """
    layers = [shape.rows(plan.num_chunks) for _, shape in layer_shapes(spec)]
    stages = [plan.stage_of(item.convolution) for item, _ in built_shapes(spec)]
    initial = initial_rows_of(spec, plan)
    weights = [layer.num_weights for layer in layers]
    # where each stage computes initial rows itself, all hold the weights of layer 0 and sum their gradients
    num_shared = weights[0] if initial.on_every_stage else 0
    weights[0] -= num_shared
    return Volume(
        pipeline_bytes(boundary_widths(plan, spec), num_nodes, initial.num_streams, plan.wire),
        halo_bytes(layers, halo, versions, plan.tables),
        weight_bytes(weights, stages, plan.num_parts, num_shared),
    )


def boundary_widths(plan: Plan, spec: ModelSpec) -> list[int]:
    """Columns of the rows that cross each stage boundary: those that the first layer behind it reads."""
    first: dict[int, int] = {}
    for item, runner in built_shapes(spec):
        first.setdefault(plan.stage_of(item.convolution), runner.layer.in_features)
    return [width for stage, width in sorted(first.items()) if stage > 0]


def convolution_costs(spec: ModelSpec, size: GraphSize, rates: Rates | None = None) -> list[float]:
    """Seconds of each convolution; dense layers at the ends count with the first and the last one."""
    costs = [0.0] * spec.layers
    for item, shape in layer_shapes(spec):
        costs[item.convolution] += layer_cost(shape, size, rates)
    return costs


def graph_size(spec: ModelSpec, data: Graph) -> GraphSize:
    """Sizes of a graph as a model normalises it: GCN gives every node a loop, and parallel edges are one
    entry unless the model reads what each has.

    Raises:
        DataError: a weight is negative where the model's normalisation takes square roots.
    """
    entries = data.features.num_entries if isinstance(data.features, Csr) else None
    num_entries = num_normalized_entries(
        data.adjacency,
        spec.normalization,
        weighted=data.weighted,
        apart=spec.reads_edges and data.edge_data.exists,
    )
    return GraphSize(data.num_nodes, num_entries, entries)


@functools.lru_cache(maxsize=8)
def layer_shapes(spec: ModelSpec) -> list[tuple[LayerSpec, LayerShape]]:
    """Each layer with the sizes that its cost depends on."""
    return [
        (
            item,
            LayerShape(
                runner.layer.in_features,
                runner.layer.out_features,
                runner.layer.width or 0,
                sum(weight.numel() for weight in runner.layer.parameters()),
                runner.layer.cost_kind,
                item.number == 0,
                runner.returns_gradient,
                counted_blocks(spec).get(item.number),
                runner.gradient_width if isinstance(runner, Gathers) else None,
                runner.layer.fp32_tables,
                isinstance(runner, Reverts),
            ),
        )
        for item, runner in built_shapes(spec)
    ]


def _parts(graph: PreparedGraph, tables: TableFormat, ranked_labels: int) -> list[RankRows]:
    """Sizes of each part."""
    facts = graph.facts
    return [
        RankRows(
            num_rows,
            max(facts.halo_forward[part], facts.halo_backward[part]),
            max(chunk.num_nodes for chunk in graph.ranges[part]),
            _adjacency_bytes(graph, part, tables),
            round(facts.feature_entries * num_rows / facts.num_nodes),
            _train_share(graph, part),
            graph.labels.dim() == 2,
            ranked_labels,
            _edges_per_row(graph, part),
        )
        for part, num_rows in enumerate(facts.part_nodes)
    ]


def _edges_per_row(graph: PreparedGraph, part: int) -> float:
    own = part_range(graph.ranges, part)
    return graph.matrix.rows(own.start, own.stop).num_entries / max(own.num_nodes, 1)


def _train_share(graph: PreparedGraph, part: int) -> float:
    own = part_range(graph.ranges, part)
    mask = graph.masks["train"][own.start : own.stop]
    return float(mask.float().mean()) if len(mask) else 0.0


def _adjacency_bytes(graph: PreparedGraph, part: int, tables: TableFormat) -> int:
    """Bytes of a part's rows of A, and of A^T where that is another matrix."""
    own = part_range(graph.ranges, part)
    matrices = [graph.matrix] if graph.matrix_t is graph.matrix else [graph.matrix, graph.matrix_t]
    return sum(
        adjacency_bytes(
            matrix.rows(own.start, own.stop).num_entries, own.num_nodes, len(graph.ranges), tables
        )
        for matrix in matrices
    )
