"""Peak memory of a rank: the sum of everything the engine holds at the moments that may be the peak.

Tables, weights and the graph are held all the time. The peak adds the largest of these:

    action          F0  F1  F2  F3    B3  B2  B1  B0    evaluation
    chunks saved     1   2   3   4     4   3   2   1         0
                              loss  backward            evaluation     (moments that may be the peak)

    loss        saved activations of all chunks, one chunk's logits, and the temporaries of the loss
    backward    saved activations of all chunks, and the first chunk on its way back: gradients between its
                layers, and gradients that are kept for products of weights
    evaluation  a layer's input and output rows of the whole part, and its table once more as float32

A check of the gradient goes through the first two with the whole part as one chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gnnpipe.planner.memory.shape import RankShape
from gnnpipe.schedule.volume import BYTES_PER_NUMBER, row_bytes

# Resident memory of a rank that has joined its group and is idle; measured with PyTorch 2.13 on Linux, forked
# from the rank server. torchrun's ranks import by themselves and map some 70 MB more of libraries' files.
PROCESS_BYTES = 254 * 2**20

# Memory that libraries allocate when they are first called, whatever is trained.
LIBRARY_BYTES = 8 * 2**20

# Pages of libraries' files that are mapped meanwhile; more where the system reads ahead far. All ranks share
# them, and the system takes them back where memory is short.
LIBRARY_PAGES = 25 * 2**20

# On a CUDA device, in place of those: the context with the kernels that are loaded into it, cuBLAS's
# workspace (32 MiB on Hopper, 8 on others), and for each process group NCCL's buffers (4 MiB a channel and
# peer, and those of its protocols for short messages). By the libraries' documentation; not measured yet.
CONTEXT_BYTES, WORKSPACE_BYTES, GROUP_BYTES = 500 * 2**20, 40 * 2**20, 64 * 2**20

# Fragmentation: resident bytes over bytes in use, for gaps between blocks and rounding to pages. One chunk's
# blocks are so large that each is mapped by itself; those of several chunks share a heap.
FRAGMENTS, FRAGMENTS_OF_CHUNKS = 1.06, 1.12

# A weight, its gradient, Adam's two moments, and the average.
COPIES_OF_WEIGHTS = 5

# In evaluation averaged weights stand in for the trained ones: a copy of either.
COPIES_IN_EVALUATION = 2

# A checkpoint holds the weight, Adam's two moments, and the average, but no gradient.
COPIES_IN_CHECKPOINT = 4

# Most messages to the next stage in flight at once, see `gnnpipe.comm.stage_links`.
SENDS_UNDER_WAY = 8

# Temporaries of the loss, in floats per logit of the training rows: where a node has one label, and where it
# may have several. Afterwards the gradient of these logits is spread out over all rows.
LOSS_OF_CLASSES, LOSS_OF_LABELS = 3, 4

# Temporaries of the metric, in floats per logit: where a node may have several labels, and where it has one.
METRIC_OF_LABELS, METRIC_OF_CLASSES = 5, 1

# Floats per node and label that is ranked: its score as it comes and once more in order, and a byte that says
# whether the node has the label.
FLOATS_TO_RANK = 2.25

# Temporaries of encoding a row, in floats per column; int8 takes magnitudes, steps, and random numbers.
FLOATS_TO_ENCODE = {"fp32": 0, "bf16": 0, "int8": 3}


def peak_memory(rank: RankShape) -> int:
    """Peak bytes of a rank, without what checkpoints take."""
    moments = [at_loss(rank), at_backward(rank), at_evaluation(rank)]
    if rank.checks:
        # the exact gradient is computed from the whole part at once, in full precision
        whole = replace(rank.rows, chunk=rank.rows.part, num_chunks=1)
        alone = replace(rank, rows=whole, lookahead=0, wire="fp32", tables="fp32")
        moments += [at_loss(alone), at_backward(alone)]
    # graph and process are mapped in whole pages; all else is allocated block by block, with gaps
    in_heap = table_bytes(rank) + weight_bytes(rank) + max(moments)
    gaps = FRAGMENTS if rank.rows.num_chunks == 1 else FRAGMENTS_OF_CHUNKS
    return round(PROCESS_BYTES + LIBRARY_BYTES + LIBRARY_PAGES + rank.static + gaps * in_heap)


def on_device(peak: int, num_groups: int) -> int:
    """Peak bytes that a process takes of a CUDA device.

    Args:
        peak: as `peak_memory` returns it, for a process on a CPU.
        num_groups: process groups in which the rank exchanges through NCCL.
    """
    host = PROCESS_BYTES + LIBRARY_BYTES + LIBRARY_PAGES
    return peak - host + CONTEXT_BYTES + WORKSPACE_BYTES + num_groups * GROUP_BYTES


def table_bytes(rank: RankShape) -> int:
    """Bytes of all tables."""
    rows, total = rank.rows, 0
    # a table holds the rows of the part, and behind them those of other parts
    both = rows.part + rows.halo
    for layer in rank.layers:
        width = rank.table_row(layer)
        if not rank.reverts(layer):
            total += width * (both * rank.forward_tables + rows.halo * rank.halo_tables)
        if not rank.shares_gradients:
            # sums of pushed gradients are one table under every rule
            total += both * rank.gradient_row(layer) * (1 if layer.pushes else rank.gradient_tables)
    total += both * _shared_rows(rank)
    if rank.shares_gradients:
        total += both * _shared_gradients(rank)
    if rank.checks:
        # the exact pass has tables of its own: one chunk, so its layers share those of gradients
        own = [layer for layer in rank.layers if not layer.reverts]
        total += both * sum(rank.table_row(layer, checks=True) for layer in own)
        total += both * _shared_rows(rank, checks=True)
        total += both * _shared_gradients(rank, checks=True)
    return total


def _shared_rows(rank: RankShape, *, checks: bool = False) -> int:
    """Bytes of a row of all forward tables that layers share: one of each width."""
    sharing = [layer for layer in rank.layers if layer.reverts and (checks or rank.reverts(layer))]
    return sum({rank.table_row(layer, checks) for layer in sharing})


def _shared_gradients(rank: RankShape, *, checks: bool = False) -> int:
    """Bytes of a row of all tables of gradients that layers share: one of each kind and width."""
    rows = {(layer.pushes, rank.gradient_row(layer, checks=checks)) for layer in rank.layers if layer.width}
    return sum(width for _, width in rows)


def weight_bytes(rank: RankShape) -> int:
    """Bytes of weights, their gradients, the optimiser's moments, the average, and an epoch's copies."""
    return BYTES_PER_NUMBER * (COPIES_OF_WEIGHTS * rank.num_weights + rank.blended_weights)


def saved_bytes(rank: RankShape) -> int:
    """Bytes of all chunks' saved activations and messages in flight, when the last chunk has come forward."""
    rows = rank.rows
    keeping = [layer for layer in rank.layers if not rank.reverts(layer)]
    columns = sum(layer.saved - rank.forgets * layer.forgotten for layer in keeping)
    if len(keeping) < len(rank.layers):
        columns += rank.hidden  # the output rows of the last layer that keeps nothing
    if rank.forgets and any(layer.forgotten for layer in rank.layers):
        columns += rank.hidden  # the rows from which forgotten ones are made again
    if rank.relays_initial and not rank.is_first:
        columns += 2 * rank.hidden  # initial rows are a view of the message they came in, which stays whole
    sent = 0 if rank.is_last else min(SENDS_UNDER_WAY, rows.num_chunks) * rank.message
    return rank.floats(columns, rows.part) + rank.sparse_bytes + sent


def at_loss(rank: RankShape) -> int:
    """Bytes when the last chunk has come to the end of the stage; on the last stage, within its loss."""
    rows, last = rank.rows, rank.layers[-1]
    # `saved_bytes` counts a float32 message that carries initial rows; any other is held while it is used
    received = 0 if rank.is_first else rank.message * (rank.wire != "fp32" or not rank.relays_initial)
    held = saved_bytes(rank) + received + rank.floats(last.out_features, rows.chunk)
    if not rank.is_last:
        return held + rank.floats(_leaving(rank), rows.chunk)
    # either the loss is computed from the training rows' logits, or their gradient is spread over all rows
    of_training = LOSS_OF_LABELS if rank.several_labels else LOSS_OF_CLASSES
    of_loss = max(1 + rows.train_share, of_training * rows.train_share)
    # gradients of the logits of all chunks before this one
    before = rank.floats(rank.num_classes, rows.part - rows.chunk)
    return held + before + rank.floats(of_loss * rank.num_classes, rows.chunk)


def at_backward(rank: RankShape) -> int:
    """Bytes while the first chunk is on its way back; with lookahead, further ones behind it."""
    rows, chunk = rank.rows, rank.rows.chunk
    total = saved_bytes(rank)
    if rank.is_last:
        # gradients of all logits wait for their chunks' turns
        total += rank.floats(rank.num_classes, rows.part)
    else:
        # the message that has come, the next one, which is received ahead, and the rows it is decoded to
        total += rank.message * (1 + (rows.num_chunks > 1)) + rank.decoded
    # chunks between the entrance and the exit of the stage
    in_flight = min(rows.num_chunks, rank.lag + 1)
    if rank.has_initial and rank.relays_initial and not rank.is_last:
        # the gradient of initial rows is a view of the message it came in, which stays whole
        total += rank.floats(rank.streams * rank.hidden, chunk) * (in_flight - 1)
    elif rank.has_initial:
        total += rank.floats(rank.hidden, chunk) * in_flight
    if rank.forgets:
        total += rank.floats(sum(layer.forgotten for layer in rank.layers), chunk)
    # what a layer made again has saved, and its input rows
    again = max((layer.saved + layer.in_features for layer in rank.layers if rank.reverts(layer)), default=0)
    columns = _columns_on_the_way(rank) + again
    return total + rank.floats(columns, chunk) + _tile_bytes(rank) + _held_of_others(rank)


def _columns_on_the_way(rank: RankShape) -> float:
    """Most columns that a chunk's backward pass through the stage adds at a time.

    # layer   gradient of its output rows              gradient of its input rows
    # top     the message's or the loss's, counted     new; the layer below keeps it, or frees it
    #         in `at_backward`
    # below   from the layer above                     new
    """
    kept, most = 0.0, 0.0
    for layer in reversed(rank.layers):
        top = layer is rank.layers[-1]
        incoming = 0 if top else layer.out_features
        outgoing = 0 if layer.reads_features else layer.in_features
        owed = layer.owed + (layer.owed_of_tables if rank.tables != "fp32" else 0)
        copied = layer.width * rank.copies_gradients * row_bytes(1, rank.tables) / BYTES_PER_NUMBER
        most = max(most, kept + incoming + outgoing + owed + layer.held + copied)
        if rank.reverts(layer):  # leaves nothing behind
            continue
        kept += layer.held + incoming * (layer.keeps == "chunk")
        if not rank.is_first:
            # products come last, as the stage before waits for the rows' gradients; the first stage, which
            # nobody waits for, computes the products of each layer at once
            kept += owed + incoming * (layer.keeps == "products")
    if rank.is_first:
        return most
    return max(most, kept + rank.hidden + _leaving(rank))


def _leaving(rank: RankShape) -> float:
    """Columns that a message to be sent adds: both streams side by side, temporaries, the encoded rows."""
    packed = rank.streams * rank.hidden * (rank.relays_initial + FLOATS_TO_ENCODE[rank.wire])
    encoded = rank.streams * row_bytes(rank.hidden, rank.wire) / BYTES_PER_NUMBER
    return packed + encoded * (rank.wire != "fp32")


def _held_of_others(rank: RankShape) -> int:
    """Bytes held, with lookahead, by other chunks that have come back through some of the layers only.

    # 3 layers with neighbours, lookahead 2: lag 6. Backward, when a chunk leaves through layer 0, the chunk
    # 1 position behind has passed  layers 2, 1    (6 - 1) // 2 = 2 layers
    # 2                             layers 2, 1    (6 - 2) // 2 = 2
    # 3                             layer  2       (6 - 3) // 2 = 1      and so on
    """
    if not rank.lookahead:
        return 0
    layers = list(reversed([layer for layer in rank.layers if layer.width]))
    columns = 0.0
    for behind in range(1, min(rank.rows.num_chunks, rank.lag + 1)):
        passed = layers[: max(0, (rank.lag - behind) // rank.lookahead)]
        columns += sum(layer.held + layer.out_features * (layer.keeps == "chunk") for layer in passed)
    return rank.floats(columns, rank.rows.chunk)


def _tile_bytes(rank: RankShape) -> int:
    """Bytes of a tile in the widest layer: two aggregates, and the result of their dropout or norm."""
    widest = max(max(layer.width, layer.in_features * (not layer.reads_features)) for layer in rank.layers)
    return rank.floats(3 * widest, rank.rows.tile) + max(layer.tile_bytes for layer in rank.layers)


def at_evaluation(rank: RankShape) -> int:
    """Bytes of the layer that needs most in full-graph inference, or of the metric, or of the sends."""
    rows = rank.rows
    initial = rank.hidden if rank.has_initial and (rank.is_first or not rank.relays_initial) else 0
    packed = 0 if rank.is_first or not rank.relays_initial else 2 * rank.hidden
    most = 0
    for layer in rank.layers:
        # the first layer's input rows are a part of the message, counted as packed
        relayed = packed and layer is rank.layers[0]
        entering = 0 if layer.reads_features or relayed else layer.in_features
        columns = entering + initial + packed + layer.out_features + layer.carried
        tile = layer.width + 2 * layer.out_features
        table = rank.floats(layer.width, rows.part + rows.halo)
        of_tile = rank.floats(tile, rows.tile) + layer.evaluated_bytes
        most = max(most, rank.floats(columns, rows.part) + table + of_tile)
    if rank.is_last:
        metric = METRIC_OF_LABELS if rank.several_labels else METRIC_OF_CLASSES
        logits = rank.floats(rank.num_classes, rows.part)
        ranked = rank.floats(FLOATS_TO_RANK * rank.ranked_labels, rows.part)
        most = max(most, logits + ranked + rank.floats(metric * rank.num_classes, rows.tile))
    else:
        sent = min(SENDS_UNDER_WAY, rows.num_chunks) * rank.floats(rank.streams * rank.hidden, rows.chunk)
        most = max(most, rank.floats(rank.hidden + initial + packed, rows.part) + sent)
    return most + BYTES_PER_NUMBER * COPIES_IN_EVALUATION * rank.num_weights


@dataclass(frozen=True)
class CheckpointRows:
    """Bytes of a layer's rows in a checkpoint."""

    own: int
    """Bytes for each of the part's own rows."""
    halo: int
    """Bytes for each halo row; 0 where those are copies of their owners' rows."""


def checkpoint_per_rank(
    layers: Sequence[CheckpointRows], num_weights: int, num_rows: int, num_halo: int
) -> int:
    """Bytes of a rank's share of a checkpoint, which its host holds in memory from the first one on.

    Args:
        layers: rows of each layer of the stage.
        num_weights: numbers in the stage's weights.
        num_rows: nodes of the rank's part.
        num_halo: rows of other parts in its tables.
    """
    weights = COPIES_IN_CHECKPOINT * BYTES_PER_NUMBER * num_weights
    return weights + sum(num_rows * layer.own + num_halo * layer.halo for layer in layers)
