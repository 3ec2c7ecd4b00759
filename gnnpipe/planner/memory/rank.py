"""Shape of a rank, from which its memory follows: built from the plan, the model and the table settings.

Plan, ModelSpec, TableSettings -> RankShape (here) -> bytes (`gnnpipe.planner.memory.peak`)
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from itertools import pairwise

import torch

from gnnpipe.config.run import TableFormat
from gnnpipe.engine.chunks import TileSizes
from gnnpipe.engine.initial_rows import initial_rows_of
from gnnpipe.engine.tables import TableSettings
from gnnpipe.nn.blocks.block import BlockLayer
from gnnpipe.nn.layers.wrappers.jump import Jump
from gnnpipe.nn.models import LayerSpec, ModelSpec, build_stack
from gnnpipe.nn.runners import rows_behind, runner_of
from gnnpipe.nn.running import AnyRunner, Gathers, Pushes, Reverts
from gnnpipe.planner.block_costs import BlockCosts, block_costs
from gnnpipe.planner.memory.peak import CheckpointRows, checkpoint_per_rank, peak_memory
from gnnpipe.planner.memory.shape import LayerColumns, RankShape, RowCounts
from gnnpipe.planner.memory.tile import tile_work
from gnnpipe.schedule.plan import Plan
from gnnpipe.schedule.volume import BYTES_PER_NUMBER, row_bytes

# Bytes of a class number or of a node's id.
BYTES_OF_ID = 8
# Masks of training, validation and test nodes; a byte per node each.
NUM_MASKS = 3
# Bytes of a non-zero of sparse features (`SparseRows`): value and column in the file, value and column in the
# transpose, its row, and its position in the transpose.
BYTES_OF_SPARSE_ENTRY = 32
# Bytes of its value after dropout, in the features and in the transpose.
BYTES_OF_DROPPED_ENTRY = 8


@functools.lru_cache(maxsize=8)
def built_shapes(spec: ModelSpec) -> list[tuple[LayerSpec, AnyRunner]]:
    """Each layer and its runner, on the meta device: predictions need shapes of weights, not numbers."""
    stack = build_stack(spec)
    with torch.device("meta"):
        pairs = pairwise([None, *(item() for item in stack)])
        runners = [runner_of(layer, rows_behind(in_front)) for in_front, layer in pairs if layer is not None]
    return list(zip(stack, runners, strict=True))


@functools.lru_cache(maxsize=8)
def counted_blocks(spec: ModelSpec) -> dict[int, BlockCosts]:
    """Counts of each layer whose gradients are pushed, by its number. Layers of one shape are alike."""
    counts: dict[str, BlockCosts] = {}
    found = {}
    for item, runner in built_shapes(spec):
        if isinstance(runner, Pushes):
            layer = runner.layer
            shape = f"{layer} {layer.in_features} {layer.width} {layer.out_features}"
            if shape not in counts:
                built = item()
                block = built.conv if isinstance(built, Jump) else built
                if isinstance(block, BlockLayer):
                    counts[shape] = block_costs(block, spec.edge_dim, types=spec.num_edge_types > 0)
            found[item.number] = counts[shape]
    return found


def pushing_layers(spec: ModelSpec) -> list[str]:
    """Names of the layers whose gradients are pushed."""
    return [item.name for item, runner in built_shapes(spec) if isinstance(runner, Pushes)]


@dataclass(frozen=True)
class RankRows:
    """The part of the graph that a rank holds, by its sizes."""

    num_rows: int
    """Nodes of the part."""
    num_halo: int
    """Nodes of other parts that the part reads."""
    longest_chunk: int
    """Nodes of the part's largest chunk."""
    adjacency_bytes: int = 0
    """Bytes of the part's rows of A, and of A^T where that differs."""
    feature_entries: int = 0
    """Stored numbers of the part's features; only stages that read features hold them."""
    train_share: float = 1.0
    """Share of the part's nodes that are training nodes."""
    several_labels: bool = False
    """Whether a node may have several labels."""
    ranked_labels: int = 0
    """Number of labels by which an evaluation ranks the nodes."""
    edges_per_row: float = 0.0
    """Mean number of entries in the part's rows of A."""


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
    """Peak bytes of a rank, without what checkpoints take.

    Args:
        plan: stages, parts, chunks, and formats of rows.
        spec: the model.
        settings: the tables'.
        stage: the rank's.
        rows: the rank's share of the graph.
        checks: whether gradients are compared with exact ones, which takes a second copy of the graph, one
            more table per layer, and one for gradients.
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
    layers = _layers_of(spec, plan, stage)
    # input features are on the first stage, and on all that compute initial rows themselves
    features = stage == 0 or initial.on_every_stage
    is_last = stage == plan.num_stages - 1
    # a chunk is aggregated tile by tile: as few as the limit allows, of equal size
    sizes = TileSizes.on(torch.device("cpu"), pushes=bool(pushing_layers(spec)))
    tiles = max(1, -(-rows.longest_chunk // sizes.most))
    num_weights = sum(weight.numel() for _, runner in layers for weight in runner.layer.parameters())
    return RankShape(
        layers=tuple(_layer_columns(runner, number, spec, rows, tiles, drops) for number, runner in layers),
        rows=_row_counts(rows, plan.num_chunks, tiles),
        hidden=spec.hidden,
        is_first=stage == 0,
        is_last=is_last,
        num_classes=spec.num_classes,
        several_labels=rows.several_labels,
        ranked_labels=rows.ranked_labels,
        num_weights=num_weights,
        blended_weights=num_weights if spec.architecture.copies_weights else 0,
        static=_static_bytes(spec, rows, tiles * plan.num_chunks, checks, features=features, labels=is_last),
        sparse_bytes=features * drops * spec.sparse_features * BYTES_OF_DROPPED_ENTRY * rows.feature_entries,
        # rows that pulls read, the newest rows where those are others, and a snapshot
        forward_tables=1 + (settings.clean or settings.frozen) + settings.frozen,
        gradient_tables=1 + settings.keeps_gradients,
        shares_gradients=settings.shares_gradients,
        # two buffers in each direction: one is read while the other one fills
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


def _layers_of(spec: ModelSpec, plan: Plan, stage: int) -> list[tuple[int, AnyRunner]]:
    """Number and runner of each layer of a stage; layer 0 too where every stage computes initial rows."""
    shapes = built_shapes(spec)
    layers = [(item.number, runner) for item, runner in shapes if plan.stage_of(item.convolution) == stage]
    if stage > 0 and initial_rows_of(spec, plan).on_every_stage:
        layers.insert(0, (0, shapes[0][1]))
    return layers


def _row_counts(rows: RankRows, num_chunks: int, tiles: int) -> RowCounts:
    tile = -(-rows.longest_chunk // tiles)
    return RowCounts(rows.num_rows, rows.num_halo, rows.longest_chunk, num_chunks, tile, rows.train_share)


def _layer_columns(
    runner: AnyRunner, number: int, spec: ModelSpec, rows: RankRows, tiles: int, drops: bool
) -> LayerColumns:
    layer, kept, first = runner.layer, runner.kept, number == 0
    tile = -(-rows.longest_chunk // tiles)
    work = tile_work(runner, counted_blocks(spec).get(number))
    # Layer 0 saves no copy of its input, as the features are held anyway. With dropout it saves the dropped
    # features; where features are sparse, those are counted as `RankShape.sparse_bytes`.
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
        gradient_width=runner.gradient_width if isinstance(runner, Gathers) else None,
        pushes=isinstance(runner, Pushes),
        fp32=layer.fp32_tables,
        tile_bytes=work.training(tile, rows.edges_per_row),
        evaluated_bytes=work.evaluation(tile, rows.edges_per_row),
        reverts=isinstance(runner, Reverts),
    )


def _static_bytes(
    spec: ModelSpec, rows: RankRows, tiles: int, checks: bool, *, features: bool, labels: bool
) -> int:
    """Bytes of the graph: adjacency, ids, features, labels and masks; twice that with a gradient check."""
    total = rows.adjacency_bytes + BYTES_OF_ID * rows.num_rows
    if features and spec.sparse_features:
        # the transpose has row pointers of its own in every tile
        total += BYTES_OF_SPARSE_ENTRY * rows.feature_entries + BYTES_PER_NUMBER * tiles * spec.num_features
    elif features:
        total += BYTES_PER_NUMBER * rows.feature_entries
    if labels:
        label = BYTES_PER_NUMBER * spec.num_classes if rows.several_labels else BYTES_OF_ID
        total += (label + NUM_MASKS) * rows.num_rows
    return total + checks * total


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
    """Bytes of a rank's share of a checkpoint, which its host holds in memory from the first checkpoint on.

    Args:
        plan: stages and parts.
        spec: the model.
        settings: the tables'.
        stage: the rank's.
        rows: the rank's share of the graph.
        part: the rank's; part 0 writes the weights.
        stale: whether the next epoch reads tables of this one; otherwise a checkpoint holds no tables.
    """
    runners = [runner for item, runner in built_shapes(spec) if plan.stage_of(item.convolution) == stage]
    weights = sum(weight.numel() for runner in runners for weight in runner.layer.parameters())
    layers = [_checkpoint_rows(runner, settings, plan.tables) for runner in runners] if stale else []
    found = checkpoint_per_rank(layers, (part == 0) * weights, rows.num_rows, rows.num_halo)
    # statistics of batch norms
    buffers = sum(buffer.nbytes for runner in runners for buffer in runner.layer.buffers())
    return found + (part == 0) * buffers


def _checkpoint_rows(runner: AnyRunner, settings: TableSettings, tables: TableFormat) -> CheckpointRows:
    layer = runner.layer
    kept: TableFormat = "fp32" if layer.fp32_tables else tables
    forward = row_bytes(layer.width or 0, kept)
    gradient = row_bytes(runner.gradient_width, kept) if isinstance(runner, Gathers) else forward
    own = forward * (1 + settings.frozen) + gradient * settings.reads_last_gradients
    if isinstance(runner, Pushes):  # sums for own rows and for halo rows, under every rule
        pushed = BYTES_PER_NUMBER * (layer.width or 0) * runner.returns_gradient
        return CheckpointRows(forward * (1 + settings.frozen) + pushed, pushed)
    return CheckpointRows(own, 4 * forward * settings.stale_halo)


def adjacency_bytes(num_entries: int, num_rows: int, num_parts: int, tables: TableFormat = "fp32") -> int:
    """Bytes of a part's rows of A or A^T.

    Args:
        num_entries: non-zeros of the part's rows.
        num_rows: nodes of the part.
        num_parts: with several, tiles hold copies of their entries, as columns are renumbered.
        tables: format of the tables; bf16 keeps the values in bf16 too.
    """
    # a column and a value per entry; row pointers once for the file and once for the tiles
    once = 2 * BYTES_PER_NUMBER * num_entries
    converted = 2 * num_entries if tables == "bf16" else 0
    return once * (1 if num_parts == 1 else 2) + converted + 2 * BYTES_PER_NUMBER * num_rows
