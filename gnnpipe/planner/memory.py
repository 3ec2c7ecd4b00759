"""Peak memory of a rank, counted from what the engine holds at the moments that may be its peak.

Tables, weights and the graph are there all the time. On top of them come, whichever is most:

    loss        all chunks' saved activations, a chunk's logits and what the loss makes of them
    backward    all chunks' saved activations, and the first chunk on its way back: gradients between its
                layers, and those that products of weights still wait for
    evaluation  a layer's input and output rows of the whole part, and its table once more as float32

A check of the gradient goes through the first two with the whole part as one chunk.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from gnnpipe.config.run import TableFormat, WireFormat
from gnnpipe.schedule.volume import BYTES_PER_NUMBER, row_bytes

# Resident memory of a rank that has joined its group and waits; measured with PyTorch 2.13 on Linux.
PROCESS_BYTES = 297 * 2**20

# What any training adds to it: what libraries allocate when they are first called.
LIBRARY_BYTES = 30 * 2**20

# Pages of libraries' files that are read meanwhile; more where the system reads ahead far. They are shared by
# all ranks, and the system takes them back where memory is short.
LIBRARY_PAGES = 25 * 2**20

# What is resident over what is in use, gaps between blocks and rounding to pages: of one chunk, whose blocks
# are mapped one by one, and of several.
FRAGMENTS, FRAGMENTS_OF_CHUNKS = 1.06, 1.14

# A weight, its gradient, Adam's two moments, and the average.
COPIES_OF_WEIGHTS = 5

# While averaged weights stand in for the others: these, and a copy of the average.
COPIES_IN_EVALUATION = 2

# Of a weight and its gradient, moments and average, a checkpoint has all but the gradient.
COPIES_IN_CHECKPOINT = 4

# Sends that are under way at once, see `gnnpipe.comm.stage_links`.
SENDS_UNDER_WAY = 8

# While a loss is computed, in floats an entry of the training rows' logits: where a node has one label, and
# where it may have several. Then their gradient is spread out over all rows.
LOSS_OF_CLASSES, LOSS_OF_LABELS = 3, 4

# An entry of the logits in the metric, where a node may have several labels, and where it has one; in floats.
METRIC_OF_LABELS, METRIC_OF_CLASSES = 5, 1

# Encoding int8 rows takes copies as floats: magnitudes, steps, random numbers.
FLOATS_TO_ENCODE = {"fp32": 0, "bf16": 0, "int8": 3}


Keeps = Literal["no", "products", "chunk"]
"""How long a layer keeps the gradient of its output rows: no longer than it needs it, until gradients of
weights are computed, or until the chunk leaves the stage."""


@dataclass(frozen=True)
class LayerColumns:
    """Numbers a row that a layer holds of a chunk."""

    in_features: int
    out_features: int
    width: int
    """Of its tables; 0 without any."""
    saved: int
    """From forward to backward, beside the table."""
    forgotten: int = 0
    """Of these, what is made again if the plan says so."""
    keeps: Keeps = "products"
    owed: int = 0
    """What products of weights hold besides, until they are computed."""
    owed_of_tables: int = 0
    """The same where tables have fewer bits: rows of theirs as floats."""
    held: int = 0
    """What the way back adds until the chunk leaves the stage."""
    carried: int = 0
    """In evaluation, beside input rows, table and output rows."""
    returns_gradient: bool = True
    """Whether there is a table of gradients."""
    reads_features: bool = False
    """Whether the input rows are features, which want no gradient."""


@dataclass(frozen=True)
class RowCounts:
    """Rows of a rank."""

    part: int
    halo: int
    """Of other parts, in its tables."""
    chunk: int
    """Of the part's largest chunk."""
    num_chunks: int
    tile: int
    """Of a chunk's largest tile."""
    train_share: float = 1.0
    """Share of the rows that are training nodes."""


@dataclass(frozen=True)
class RankShape:
    """What the memory of a rank depends on."""

    layers: tuple[LayerColumns, ...]
    """Of its stage, from the first to the last."""
    rows: RowCounts
    hidden: int
    is_first: bool
    is_last: bool
    num_classes: int
    several_labels: bool
    num_weights: int
    blended_weights: int
    """Weights of which an epoch makes a copy."""
    static: int
    """Bytes of the graph and the features."""
    sparse_bytes: int
    """Of the values of sparse features after dropout."""
    forward_tables: int
    """Tables a layer of rows, and of gradients if ``gradient_tables`` aren't shared."""
    gradient_tables: int
    shares_gradients: bool
    """Whether layers of a width share their table of gradients."""
    halo_tables: int
    """Further tables a layer, of halo rows."""
    copies_gradients: bool
    """Whether a chunk's gradients are copied while they are weighed."""
    tables: TableFormat
    wire: WireFormat
    relays_initial: bool
    """Whether initial rows travel with the hidden ones."""
    has_initial: bool
    recompute: bool
    lookahead: int
    checks: bool
    """Whether gradients are compared with exact ones."""

    @property
    def streams(self) -> int:
        """Rows of a node in a message."""
        return 2 if self.relays_initial else 1

    @property
    def message(self) -> int:
        """Bytes of a chunk between stages."""
        return self.streams * self.rows.chunk * row_bytes(self.hidden, self.wire)

    @property
    def decoded(self) -> int:
        """Bytes of the rows that a message becomes beside it."""
        return 0 if self.wire == "fp32" else self.streams * self.floats(self.hidden, self.rows.chunk)

    @property
    def forgets(self) -> bool:
        """Whether rows are made again."""
        return self.recompute and self.rows.num_chunks > 1

    @property
    def lag(self) -> int:
        """Positions by which what leaves the stage is behind what enters it."""
        return self.lookahead * sum(1 for layer in self.layers if layer.width)

    @staticmethod
    def floats(columns: float, rows: int) -> int:
        """Bytes."""
        return round(BYTES_PER_NUMBER * columns * rows)


def peak_memory(rank: RankShape) -> int:
    """Bytes that a rank holds at most."""
    moments = [at_loss(rank), at_backward(rank), at_evaluation(rank)]
    if rank.checks:
        whole = replace(rank.rows, chunk=rank.rows.part, num_chunks=1)
        alone = replace(rank, rows=whole, lookahead=0, wire="fp32", tables="fp32")
        moments += [at_loss(alone), at_backward(alone)]
    in_heap = table_bytes(rank) + weight_bytes(rank) + max(moments)
    gaps = FRAGMENTS if rank.rows.num_chunks == 1 else FRAGMENTS_OF_CHUNKS
    return round(PROCESS_BYTES + LIBRARY_BYTES + LIBRARY_PAGES + rank.static + gaps * in_heap)


def table_bytes(rank: RankShape) -> int:
    """Of all tables."""
    rows, found = rank.rows, 0
    both = rows.part + rows.halo
    for layer in rank.layers:
        gradients = 0 if rank.shares_gradients else rank.gradient_tables * layer.returns_gradient
        width = row_bytes(layer.width, rank.tables)
        found += width * (both * (rank.forward_tables + gradients) + rows.halo * rank.halo_tables)
    widths = {layer.width for layer in rank.layers if layer.width and layer.returns_gradient}
    if rank.shares_gradients:
        found += both * sum(row_bytes(width, rank.tables) for width in widths)
    if rank.checks:
        found += both * sum(row_bytes(layer.width, "fp32") for layer in rank.layers)
        found += both * sum(row_bytes(width, "fp32") for width in widths)
    return found


def weight_bytes(rank: RankShape) -> int:
    """Of weights, their gradients, what the optimiser and the average keep, and copies of an epoch."""
    return BYTES_PER_NUMBER * (COPIES_OF_WEIGHTS * rank.num_weights + rank.blended_weights)


def saved_bytes(rank: RankShape) -> int:
    """Of all chunks' activations, when the last one has come forward."""
    rows = rank.rows
    columns = sum(layer.saved - rank.forgets * layer.forgotten for layer in rank.layers)
    if rank.forgets and any(layer.forgotten for layer in rank.layers):
        columns += rank.hidden  # what the rest is made again from
    if rank.relays_initial and not rank.is_first:
        columns += 2 * rank.hidden  # a message from the stage before stays whole for its initial rows
    sent = 0 if rank.is_last else min(SENDS_UNDER_WAY, rows.num_chunks) * rank.message
    return rank.floats(columns, rows.part) + rank.sparse_bytes + sent


def at_loss(rank: RankShape) -> int:
    """The last chunk has come to the end of the stage."""
    rows, last = rank.rows, rank.layers[-1]
    received = 0 if rank.is_first else rank.message * (rank.wire != "fp32" or not rank.relays_initial)
    found = saved_bytes(rank) + received + rank.floats(last.out_features, rows.chunk)
    if not rank.is_last:
        return found + rank.floats(_leaving(rank), rows.chunk)
    of_training = LOSS_OF_LABELS if rank.several_labels else LOSS_OF_CLASSES
    of_loss = max(1 + rows.train_share, of_training * rows.train_share)
    before = rank.floats(rank.num_classes, rows.part - rows.chunk)
    return found + before + rank.floats(of_loss * rank.num_classes, rows.chunk)


def at_backward(rank: RankShape) -> int:
    """The first chunk is on its way back, and further ones with lookahead."""
    rows, chunk = rank.rows, rank.rows.chunk
    found = saved_bytes(rank)
    if rank.is_last:
        found += rank.floats(rank.num_classes, rows.part)
    else:
        found += rank.message * (1 + (rows.num_chunks > 1)) + rank.decoded
    in_flight = min(rows.num_chunks, rank.lag + 1)
    if rank.has_initial and rank.relays_initial and not rank.is_last:
        # the gradient of initial rows is a part of what was received, which stays whole for it
        found += rank.floats(rank.streams * rank.hidden, chunk) * (in_flight - 1)
    elif rank.has_initial:
        found += rank.floats(rank.hidden, chunk) * in_flight
    if rank.forgets:
        found += rank.floats(sum(layer.forgotten for layer in rank.layers), chunk)
    return found + rank.floats(_columns_on_the_way(rank), chunk) + _tile_bytes(rank) + _held_of_others(rank)


def _columns_on_the_way(rank: RankShape) -> float:
    """The most numbers a row that a chunk's way back through the stage adds.

    # layer   gradient of its output rows            gradient of its input rows
    # top     the message's, or the loss's: counted  made, kept by the layer below or let go of
    # below   made by the layer above                made
    """
    kept, most = 0.0, 0.0
    for layer in reversed(rank.layers):
        top = layer is rank.layers[-1]
        incoming = 0 if top else layer.out_features
        outgoing = 0 if layer.reads_features else layer.in_features
        owed = layer.owed + (layer.owed_of_tables if rank.tables != "fp32" else 0)
        copied = layer.width * rank.copies_gradients * row_bytes(1, rank.tables) / BYTES_PER_NUMBER
        most = max(most, kept + incoming + outgoing + owed + layer.held + copied)
        kept += layer.held + incoming * (layer.keeps == "chunk")
        if not rank.is_first:  # which computes products layer by layer
            kept += owed + incoming * (layer.keeps == "products")
    if rank.is_first:
        return most
    return max(most, kept + rank.hidden + _leaving(rank))


def _leaving(rank: RankShape) -> float:
    """Numbers a row that come on top of what a chunk has become when it is made a message."""
    packed = rank.streams * rank.hidden * (rank.relays_initial + FLOATS_TO_ENCODE[rank.wire])
    encoded = rank.streams * row_bytes(rank.hidden, rank.wire) / BYTES_PER_NUMBER
    return packed + encoded * (rank.wire != "fp32")


def _held_of_others(rank: RankShape) -> int:
    """With lookahead: what chunks hold that have come back through some of the layers only."""
    if not rank.lookahead:
        return 0
    layers = list(reversed([layer for layer in rank.layers if layer.width]))
    found = 0.0
    for behind in range(1, min(rank.rows.num_chunks, rank.lag + 1)):
        passed = layers[: max(0, (rank.lag - behind) // rank.lookahead)]
        found += sum(layer.held + layer.out_features * (layer.keeps == "chunk") for layer in passed)
    return rank.floats(found, rank.rows.chunk)


def _tile_bytes(rank: RankShape) -> int:
    """Of a tile in a layer: two aggregates, and what dropout or a norm makes of them."""
    widest = max(max(layer.width, layer.in_features * (not layer.reads_features)) for layer in rank.layers)
    return rank.floats(3 * widest, rank.rows.tile)


def at_evaluation(rank: RankShape) -> int:
    """The layer that needs most, in full-graph inference."""
    rows = rank.rows
    initial = rank.hidden if rank.has_initial and (rank.is_first or not rank.relays_initial) else 0
    packed = 0 if rank.is_first or not rank.relays_initial else 2 * rank.hidden
    most = 0
    for layer in rank.layers:
        relayed = packed and layer is rank.layers[0]
        entering = 0 if layer.reads_features or relayed else layer.in_features
        columns = entering + initial + packed + layer.out_features + layer.carried
        tile = layer.width + 2 * layer.out_features
        table = rank.floats(layer.width, rows.part + rows.halo)
        most = max(most, rank.floats(columns, rows.part) + table + rank.floats(tile, rows.tile))
    if rank.is_last:
        metric = METRIC_OF_LABELS if rank.several_labels else METRIC_OF_CLASSES
        logits = rank.floats(rank.num_classes, rows.part)
        most = max(most, logits + rank.floats(metric * rank.num_classes, rows.tile))
    else:
        sent = min(SENDS_UNDER_WAY, rows.num_chunks) * rank.floats(rank.streams * rank.hidden, rows.chunk)
        most = max(most, rank.floats(rank.hidden + initial + packed, rows.part) + sent)
    return most + BYTES_PER_NUMBER * COPIES_IN_EVALUATION * rank.num_weights


def checkpoint_per_rank(
    widths: list[int],
    num_weights: int,
    num_rows: int,
    num_halo: int,
    tables_per_layer: int,
    halo_tables_per_layer: int,
    tables: TableFormat = "fp32",
) -> int:
    """Bytes of a rank's share of a checkpoint, which its host holds besides from the first one on.

    Args:
        widths: of the tables of the stage's layers (0 without tables).
        num_weights: numbers in the stage's weights.
        num_rows: nodes of the rank's part.
        num_halo: rows of other parts in its tables.
        tables_per_layer: tables that go into it, of the part's own rows.
        halo_tables_per_layer: the same of halo rows; those that are copies of their owners' rows do not.
        tables: how their rows are held.
    """
    rows = num_rows * tables_per_layer + num_halo * halo_tables_per_layer
    weights = COPIES_IN_CHECKPOINT * BYTES_PER_NUMBER * num_weights
    return weights + sum(rows * row_bytes(width, tables) for width in widths)
