"""What a plan says about a run before it starts: bytes, memory, bubble."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from gnnpipe.base.config import HaloMode, RunConfig
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.data import GraphData
from gnnpipe.graph.halo import part_range
from gnnpipe.graph.prepared import PreparedGraph
from gnnpipe.model.layers.base import Convolution, Layer
from gnnpipe.model.stack import LayerSpec, ModelSpec, build_stack
from gnnpipe.plan.costs import GraphSize, LayerShape, layer_cost
from gnnpipe.plan.hardware import Rates
from gnnpipe.plan.memory import checkpoint_per_rank, peak_memory
from gnnpipe.plan.plan import Plan, make_plan
from gnnpipe.plan.shapes import LayerColumns, RankShape, RowCounts
from gnnpipe.plan.staleness import fresh_probability
from gnnpipe.plan.volume import (
    BYTES_PER_NUMBER,
    HaloRows,
    LayerRows,
    Volume,
    halo_bytes,
    pipeline_bytes,
    weight_bytes,
)
from gnnpipe.runtime.chunk_data import MOST_ROWS_PER_TILE
from gnnpipe.runtime.tables import TableSettings
from gnnpipe.train.every import parse_every

# A class number or a node's id.
BYTES_OF_ID = 8
# Training, validation and test nodes, a byte a node each.
NUM_MASKS = 3
# A non-zero of sparse features: value and column as in the file, the same of the transpose, its row, and its
# place in the transpose; see `SparseRows`.
BYTES_OF_SPARSE_ENTRY = 32
# Its value after dropout, in both.
BYTES_OF_DROPPED_ENTRY = 8


@dataclass(frozen=True)
class Predictions:
    """What the plan says about a run before it starts."""

    volume: Volume
    """Bytes of one epoch over all ranks."""
    rival_bytes: int | None
    """What graph parallelism over as many ranks would send in all."""
    memory_bytes: list[int]
    """Peak of each rank, estimated; without what a checkpoint takes."""
    checkpoint_bytes: list[int]
    """What each rank's host holds besides from the first checkpoint on; 0 where none is written."""
    bubble: float
    fresh: float
    """Share of the messages that carry a row of this epoch."""


def predict(config: RunConfig, plan: Plan, spec: ModelSpec, graph: PreparedGraph) -> Predictions:
    """Bytes, memory and bubble of a run, from its plan alone."""
    facts = graph.facts
    settings = TableSettings.of(config.staleness, plan, config.halo)
    halo = HaloRows(sum(facts.halo_forward), sum(facts.halo_backward))
    rival = None
    if facts.rival_halo is not None:
        one_stage = make_plan(1, plan.num_ranks, 1, spec.layers, facts.num_nodes)
        rival = volume_of(one_stage, spec, facts.num_nodes, HaloRows(*facts.rival_halo)).total
    keeps = parse_every(config.checkpoint_every).ever
    stages, parts = range(plan.num_stages), _parts(graph)
    stale, checks = plan.reads_stale_rows(config.halo), config.check_gradient > 0
    return Predictions(
        volume_of(plan, spec, facts.num_nodes, halo, settings.versions_sent),
        rival,
        [
            rank_memory(plan, spec, settings, stage, rows, checks=checks, drops=config.dropout > 0)
            for stage in stages
            for rows in parts
        ],
        [
            checkpoint_memory(plan, spec, settings, stage, rows, part, stale=stale) if keeps else 0
            for stage in stages
            for part, rows in enumerate(parts)
        ],
        plan.bubble,
        _fresh(plan, config.halo, graph.messages),
    )


def _fresh(plan: Plan, halo: HaloMode, messages: Tensor) -> float:
    """A chunk's own rows always are, and other chunks' as often as their order is right."""
    across_parts = messages[1] if halo == "stale" else torch.zeros_like(messages[1])
    current = messages.sum(dim=0) - across_parts
    own, total = float(current.diagonal().sum()), float(messages.sum())
    often = 1.0 if plan.exact else fresh_probability(plan.num_chunks, plan.lookahead)
    return (own + often * (float(current.sum()) - own)) / total if total else 1.0


def volume_of(plan: Plan, spec: ModelSpec, num_nodes: int, halo: HaloRows, versions: int = 1) -> Volume:
    """Bytes of one epoch.

    Args:
        plan: stages and parts.
        spec: the model.
        num_nodes: N.
        halo: rows that parts read of each other.
        versions: forms in which a row goes forward, see `TableSettings.versions_sent`.
    """
    layers = [
        LayerRows(
            module.width or 0,
            module.returns_gradient(item.number),
            sum(weight.numel() for weight in module.parameters()),
        )
        for item, module in _shapes(spec)
    ]
    stages = [plan.stage_of(item.convolution) for item, _ in _shapes(spec)]
    shared = spec.has_initial and plan.recomputes_initial
    streams = 2 if spec.has_initial and not shared else 1
    weights = [layer.num_weights for layer in layers]
    num_shared = weights[0] if shared else 0
    if shared:
        weights[0] = 0
    return Volume(
        pipeline_bytes(plan.num_stages, num_nodes, spec.hidden, streams, plan.wire),
        halo_bytes(layers, halo, versions, plan.tables),
        weight_bytes(weights, stages, plan.num_parts, num_shared),
    )


def convolution_costs(spec: ModelSpec, size: GraphSize, rates: Rates | None = None) -> list[float]:
    """What each convolution costs, with the dense ends that go with the first and the last one."""
    costs = [0.0] * spec.layers
    for item, shape in layer_shapes(spec):
        costs[item.convolution] += layer_cost(shape, size, rates)
    return costs


def graph_size(spec: ModelSpec, data: GraphData) -> GraphSize:
    """Of a graph as a model normalises it."""
    entries = data.features.num_entries if isinstance(data.features, Csr) else None
    loops = data.num_nodes if spec.normalization == "gcn" else 0
    return GraphSize(data.num_nodes, data.num_edges + loops, entries)


@functools.lru_cache(maxsize=8)
def layer_shapes(spec: ModelSpec) -> list[tuple[LayerSpec, LayerShape]]:
    """What each layer's cost depends on."""
    return [
        (
            item,
            LayerShape(
                module.in_features,
                module.out_features,
                module.width or 0,
                sum(weight.numel() for weight in module.parameters()),
                spec.model if module.width else "dense",
                item.number == 0,
                module.returns_gradient(item.number),
            ),
        )
        for item, module in _shapes(spec)
    ]


@functools.lru_cache(maxsize=8)
def _shapes(spec: ModelSpec) -> list[tuple[LayerSpec, Layer]]:
    """The layers without their numbers: shapes are enough for predictions."""
    with torch.device("meta"):
        return [(item, item()) for item in build_stack(spec)]


@dataclass(frozen=True)
class RankRows:
    """What the memory of a rank depends on besides its layers."""

    num_rows: int
    num_halo: int
    longest_chunk: int
    adjacency_bytes: int = 0
    """Of its part's adjacency."""
    feature_entries: int = 0
    """Of its part's features, which not all stages hold."""
    train_share: float = 1.0
    """Of its rows."""
    several_labels: bool = False


def rank_memory(
    plan: Plan,
    spec: ModelSpec,
    settings: TableSettings,
    stage: int,
    rows: RankRows,
    *,
    checks: bool = False,
    drops: bool = True,
) -> int:
    """Peak bytes of a rank.

    Args:
        plan: stages, parts, chunks.
        spec: the model.
        settings: of the tables.
        stage: of the rank.
        rows: of the rank.
        checks: whether gradients are checked, which holds the graph, a table a layer and one for gradients
            more.
        drops: whether there is any dropout.
    """
    return peak_memory(_rank_shape(plan, spec, settings, stage, rows, checks=checks, drops=drops))


def _rank_shape(
    plan: Plan,
    spec: ModelSpec,
    settings: TableSettings,
    stage: int,
    rows: RankRows,
    *,
    checks: bool,
    drops: bool,
) -> RankShape:
    shares = spec.has_initial and plan.recomputes_initial
    mine = [
        (item.number, module) for item, module in _shapes(spec) if plan.stage_of(item.convolution) == stage
    ]
    if stage > 0 and shares:
        mine.insert(0, (0, _shapes(spec)[0][1]))
    features = stage == 0 or shares
    is_last = stage == plan.num_stages - 1
    pieces = max(1, -(-rows.longest_chunk // MOST_ROWS_PER_TILE))
    num_weights = sum(weight.numel() for _, module in mine for weight in module.parameters())
    return RankShape(
        tuple(_layer_columns(module, number, spec, drops=drops) for number, module in mine),
        RowCounts(
            rows.num_rows,
            rows.num_halo,
            rows.longest_chunk,
            plan.num_chunks,
            -(-rows.longest_chunk // pieces),
            rows.train_share,
        ),
        spec.hidden,
        is_first=stage == 0,
        is_last=is_last,
        num_classes=spec.num_classes,
        several_labels=rows.several_labels,
        num_weights=num_weights,
        blended_weights=num_weights if spec.model == "gcnii" else 0,
        static=_static_bytes(spec, rows, pieces * plan.num_chunks, checks, features=features, labels=is_last),
        sparse_bytes=features * drops * spec.sparse_features * BYTES_OF_DROPPED_ENTRY * rows.feature_entries,
        forward_tables=1 + (settings.clean or settings.frozen) + settings.frozen,
        gradient_tables=1 + settings.keeps_gradients,
        shares_gradients=settings.shares_gradients,
        halo_tables=4 * settings.stale_halo,
        copies_gradients=settings.keeps_gradients,
        tables=plan.tables,
        wire=plan.wire,
        relays_initial=spec.has_initial and not shares and plan.num_stages > 1,
        has_initial=spec.has_initial,
        recompute=plan.recompute,
        lookahead=plan.lookahead,
        checks=checks,
    )


def _layer_columns(module: Layer, number: int, spec: ModelSpec, *, drops: bool) -> LayerColumns:
    back, first = module.way_back(), number == 0
    # features are not saved themselves but what dropout makes of them, which is counted apart if sparse
    aggregates = isinstance(module, Convolution) and not module.transform_first
    unsaved = first and not aggregates and (spec.sparse_features or not drops)
    return LayerColumns(
        module.in_features,
        module.out_features,
        module.width or 0,
        max(0, module.saved_columns() - unsaved * module.in_features),
        module.forgotten_columns(),
        back.keeps,
        back.owed,
        back.owed_of_tables,
        back.held,
        module.carried_columns(),
        module.returns_gradient(number),
        reads_features=first,
    )


def _static_bytes(
    spec: ModelSpec, rows: RankRows, tiles: int, checks: bool, *, features: bool, labels: bool
) -> int:
    """Of the graph: adjacency, ids, features, labels and masks."""
    found = rows.adjacency_bytes + BYTES_OF_ID * rows.num_rows
    if features and spec.sparse_features:
        found += BYTES_OF_SPARSE_ENTRY * rows.feature_entries + BYTES_PER_NUMBER * tiles * spec.num_features
    elif features:
        found += BYTES_PER_NUMBER * rows.feature_entries
    if labels:
        label = BYTES_PER_NUMBER * spec.num_classes if rows.several_labels else BYTES_OF_ID
        found += (label + NUM_MASKS) * rows.num_rows
    return found + checks * found


def checkpoint_memory(
    plan: Plan,
    spec: ModelSpec,
    settings: TableSettings,
    stage: int,
    rows: RankRows,
    part: int = 0,
    *,
    stale: bool,
) -> int:
    """Bytes that the host of a rank holds besides from the first checkpoint on.

    Args:
        plan: stages and parts.
        spec: the model.
        settings: of the tables.
        stage: of the rank.
        rows: of the rank.
        part: of the rank; the first one writes the weights.
        stale: whether the next epoch reads tables of this one.
    """
    mine = [module for item, module in _shapes(spec) if plan.stage_of(item.convolution) == stage]
    return checkpoint_per_rank(
        [module.width or 0 for module in mine],
        (part == 0) * sum(weight.numel() for module in mine for weight in module.parameters()),
        rows.num_rows,
        rows.num_halo,
        stale * settings.tables_in_checkpoint,
        4 * stale * settings.stale_halo,
        plan.tables,
    )


def _parts(graph: PreparedGraph) -> list[RankRows]:
    facts = graph.facts
    return [
        RankRows(
            num_rows,
            max(facts.halo_forward[part], facts.halo_backward[part]),
            max(chunk.num_nodes for chunk in graph.ranges[part]),
            _adjacency_bytes(graph, part),
            round(facts.feature_entries * num_rows / facts.num_nodes),
            _train_share(graph, part),
            graph.labels.dim() == 2,
        )
        for part, num_rows in enumerate(facts.part_nodes)
    ]


def _train_share(graph: PreparedGraph, part: int) -> float:
    mine = part_range(graph.ranges, part)
    mask = graph.masks["train"][mine.start : mine.stop]
    return float(mask.float().mean()) if len(mask) else 0.0


def _adjacency_bytes(graph: PreparedGraph, part: int) -> int:
    """Of a part's rows of A and A^T, see `adjacency_bytes`."""
    mine = part_range(graph.ranges, part)
    matrices = [graph.matrix] if graph.matrix_t is graph.matrix else [graph.matrix, graph.matrix_t]
    return sum(
        adjacency_bytes(matrix.rows(mine.start, mine.stop).num_entries, mine.num_nodes, len(graph.ranges))
        for matrix in matrices
    )


def adjacency_bytes(num_entries: int, num_rows: int, num_parts: int) -> int:
    """Of a part's rows of A or A^T: columns and values in the file, that tiles read as they are, and row
    pointers there and of the tiles. With several parts tiles hold renumbered copies."""
    once = 2 * BYTES_PER_NUMBER * num_entries
    return once * (1 if num_parts == 1 else 2) + 2 * BYTES_PER_NUMBER * num_rows
