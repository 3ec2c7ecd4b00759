"""Sizes that the memory of a rank depends on: columns of its layers, rows of its part, formats, tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gnnpipe.config.run import TableFormat, WireFormat
from gnnpipe.schedule.volume import BYTES_PER_NUMBER, row_bytes

Keeps = Literal["no", "products", "chunk"]
"""How long a layer keeps the gradient of its output rows: ``no`` longer than it needs it itself, until the
``products`` for the gradients of weights are computed, or until the ``chunk`` leaves the stage."""


@dataclass(frozen=True)
class LayerColumns:
    """Columns that a layer holds: numbers per row of a chunk."""

    in_features: int
    out_features: int
    width: int
    """Columns of its tables; 0 for a layer without neighbours."""
    saved: int
    """Saved activations: held from forward to backward, beside the table."""
    forgotten: int = 0
    """Columns of `saved` that a plan with recomputation drops and makes again on the way back."""
    keeps: Keeps = "products"
    owed: int = 0
    """Rows held until gradients of weights are computed from them, beside the gradient of the output rows."""
    owed_of_tables: int = 0
    """Further such columns where tables have fewer bits: the table's rows, as floats."""
    held: int = 0
    """Columns that the backward pass adds until the chunk leaves the stage."""
    carried: int = 0
    """Columns in evaluation, beside input rows, table and output rows."""
    returns_gradient: bool = True
    """Whether there is a table of gradients."""
    reads_features: bool = False
    """Whether the input rows are features, which need no gradient."""
    gradient_width: int | None = None
    """Columns of its table of gradients; None for as many as ``width``."""
    pushes: bool = False
    """Whether that table holds sums of pushed gradients, always one and float32."""
    fp32: bool = False
    """Whether its tables are float32 whatever their format."""
    tile_bytes: int = 0
    """Bytes that differentiating a tile takes beyond rows of these columns."""
    evaluated_bytes: int = 0
    """Bytes that aggregating a tile takes in evaluation."""
    reverts: bool = False
    """Whether with one chunk it keeps nothing, and shares its forward table with its like."""


@dataclass(frozen=True)
class RowCounts:
    """Numbers of rows on a rank."""

    part: int
    """Nodes of its part."""
    halo: int
    """Rows of other parts in its tables."""
    chunk: int
    """Nodes of the part's largest chunk."""
    num_chunks: int
    tile: int
    """Nodes of that chunk's largest tile."""
    train_share: float = 1.0
    """Share of the rows that are training nodes."""


@dataclass(frozen=True)
class RankShape:
    """Everything that the memory of a rank depends on."""

    layers: tuple[LayerColumns, ...]
    """The stage's layers, from the first to the last."""
    rows: RowCounts
    hidden: int
    is_first: bool
    is_last: bool
    num_classes: int
    several_labels: bool
    """Whether a node may have several labels."""
    ranked_labels: int
    """Number of labels by which an evaluation ranks the nodes."""
    num_weights: int
    blended_weights: int
    """Number of weights that an epoch begins by copying (GCNII's)."""
    static: int
    """Bytes of the graph and the features."""
    sparse_bytes: int
    """Bytes of the values of sparse features after dropout."""
    forward_tables: int
    """Tables of rows per layer."""
    gradient_tables: int
    """Tables of gradients per layer, unless `shares_gradients`."""
    shares_gradients: bool
    """Whether all layers of a width share one table of gradients."""
    halo_tables: int
    """Further tables per layer that hold halo rows only."""
    copies_gradients: bool
    """Whether a chunk's gradients are copied while they are weighed."""
    tables: TableFormat
    wire: WireFormat
    relays_initial: bool
    """Whether initial rows travel between stages with the hidden ones."""
    has_initial: bool
    recompute: bool
    lookahead: int
    checks: bool
    """Whether gradients are compared with exact ones."""

    def reverts(self, layer: LayerColumns) -> bool:
        """Whether a layer's saved activations and table are made again on the way back."""
        return layer.reverts and self.rows.num_chunks == 1

    @property
    def streams(self) -> int:
        """Rows per node in a message between stages: the hidden one, and the initial one where it travels."""
        return 2 if self.relays_initial else 1

    @property
    def message(self) -> int:
        """Bytes of a chunk's message between stages."""
        return self.streams * self.rows.chunk * row_bytes(self.hidden, self.wire)

    @property
    def decoded(self) -> int:
        """Bytes of the float rows that a message is decoded to; 0 for float32 messages, which are used as
        they arrive."""
        return 0 if self.wire == "fp32" else self.streams * self.floats(self.hidden, self.rows.chunk)

    def table_row(self, layer: LayerColumns, checks: bool = False) -> int:
        """Bytes of a row of a layer's forward table."""
        return row_bytes(layer.width, "fp32" if layer.fp32 or checks else self.tables)

    def gradient_row(self, layer: LayerColumns, checks: bool = False) -> int:
        """Bytes of a row of its table of gradients; 0 if it has none."""
        if not layer.returns_gradient:
            return 0
        width = layer.width if layer.gradient_width is None else layer.gradient_width
        return row_bytes(width, "fp32" if layer.fp32 or layer.pushes or checks else self.tables)

    @property
    def forgets(self) -> bool:
        """Whether saved activations are dropped and made again; one chunk alone would gain nothing by it."""
        return self.recompute and self.rows.num_chunks > 1

    @property
    def lag(self) -> int:
        """Positions between the chunk that enters the stage and the one that leaves it."""
        return self.lookahead * sum(1 for layer in self.layers if layer.width)

    @staticmethod
    def floats(columns: float, rows: int) -> int:
        """Bytes of ``rows`` rows of float32."""
        return round(BYTES_PER_NUMBER * columns * rows)
