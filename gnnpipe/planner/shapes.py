"""What the memory of a rank depends on, as plain numbers; see `gnnpipe.planner.memory`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gnnpipe.config.run import TableFormat, WireFormat
from gnnpipe.schedule.volume import BYTES_PER_NUMBER, row_bytes

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
