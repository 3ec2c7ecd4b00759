"""Memory of a rank, from the plan and the model's layers."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from itertools import pairwise

import torch

from gnnpipe.config.run import TableFormat
from gnnpipe.engine.chunks import MOST_ROWS_PER_TILE
from gnnpipe.engine.initial_rows import initial_rows_of
from gnnpipe.engine.tables import TableSettings
from gnnpipe.nn.models import LayerSpec, ModelSpec, build_stack
from gnnpipe.nn.runners import rows_behind, runner_of
from gnnpipe.nn.running import AnyRunner
from gnnpipe.planner.memory import LayerColumns, RankShape, RowCounts, checkpoint_per_rank, peak_memory
from gnnpipe.schedule.plan import Plan
from gnnpipe.schedule.volume import BYTES_PER_NUMBER

# A class number or a node's id.
BYTES_OF_ID = 8
# Training, validation and test nodes, a byte a node each.
NUM_MASKS = 3
# A non-zero of sparse features: value and column as in the file, the same of the transpose, its row, and its
# place in the transpose; see `SparseRows`.
BYTES_OF_SPARSE_ENTRY = 32
# Its value after dropout, in both.
BYTES_OF_DROPPED_ENTRY = 8


@functools.lru_cache(maxsize=8)
def built_shapes(spec: ModelSpec) -> list[tuple[LayerSpec, AnyRunner]]:
    """How each layer runs, without its numbers: shapes are enough for predictions."""
    stack = build_stack(spec)
    with torch.device("meta"):
        pairs = pairwise([None, *(item() for item in stack)])
        runners = [runner_of(layer, rows_behind(in_front)) for in_front, layer in pairs if layer is not None]
    return list(zip(stack, runners, strict=True))


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
    initial = initial_rows_of(spec, plan)
    mine = [
        (item.number, runner)
        for item, runner in built_shapes(spec)
        if plan.stage_of(item.convolution) == stage
    ]
    if stage > 0 and initial.on_every_stage:
        mine.insert(0, (0, built_shapes(spec)[0][1]))
    features = stage == 0 or initial.on_every_stage
    is_last = stage == plan.num_stages - 1
    pieces = max(1, -(-rows.longest_chunk // MOST_ROWS_PER_TILE))
    num_weights = sum(weight.numel() for _, runner in mine for weight in runner.layer.parameters())
    return RankShape(
        tuple(_layer_columns(runner, number, spec, drops=drops) for number, runner in mine),
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
        blended_weights=num_weights if spec.architecture.copies_weights else 0,
        static=_static_bytes(spec, rows, pieces * plan.num_chunks, checks, features=features, labels=is_last),
        sparse_bytes=features * drops * spec.sparse_features * BYTES_OF_DROPPED_ENTRY * rows.feature_entries,
        forward_tables=1 + (settings.clean or settings.frozen) + settings.frozen,
        gradient_tables=1 + settings.keeps_gradients,
        shares_gradients=settings.shares_gradients,
        halo_tables=4 * settings.stale_halo,
        copies_gradients=settings.keeps_gradients,
        tables=plan.tables,
        wire=plan.wire,
        relays_initial=initial.num_streams > 1 and plan.num_stages > 1,
        has_initial=initial.exist,
        recompute=plan.recompute,
        lookahead=plan.lookahead,
        checks=checks,
    )


def _layer_columns(runner: AnyRunner, number: int, spec: ModelSpec, *, drops: bool) -> LayerColumns:
    layer, kept, first = runner.layer, runner.kept, number == 0
    # features are not saved themselves but what dropout makes of them, which is counted apart if sparse
    unsaved = first and (spec.sparse_features or not drops)
    return LayerColumns(
        layer.in_features,
        layer.out_features,
        layer.width or 0,
        kept.saved - unsaved * kept.dropped,
        kept.forgotten,
        kept.gradient,
        kept.owed,
        kept.owed_of_tables,
        kept.held,
        kept.carried,
        runner.returns_gradient,
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
    mine = [runner.layer for item, runner in built_shapes(spec) if plan.stage_of(item.convolution) == stage]
    return checkpoint_per_rank(
        [module.width or 0 for module in mine],
        (part == 0) * sum(weight.numel() for module in mine for weight in module.parameters()),
        rows.num_rows,
        rows.num_halo,
        stale * settings.tables_in_checkpoint,
        4 * stale * settings.stale_halo,
        plan.tables,
    )


def adjacency_bytes(num_entries: int, num_rows: int, num_parts: int, tables: TableFormat = "fp32") -> int:
    """Of a part's rows of A or A^T: columns and values in the file, that tiles read as they are, and row
    pointers there and of the tiles. With several parts tiles hold renumbered copies; for bf16 tables values
    are kept in that format too."""
    once = 2 * BYTES_PER_NUMBER * num_entries
    converted = 2 * num_entries if tables == "bf16" else 0
    return once * (1 if num_parts == 1 else 2) + converted + 2 * BYTES_PER_NUMBER * num_rows
