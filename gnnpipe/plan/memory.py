"""Peak memory of a rank, estimated from the plan."""

from __future__ import annotations

from gnnpipe.base.config import TableFormat
from gnnpipe.plan.volume import BYTES_PER_NUMBER, row_bytes

# Resident memory of a process that has imported PyTorch and what training needs; measured with 2.13 on Linux.
PROCESS_BYTES = 400 * 2**20

# Rows of a chunk that exist while it goes through a layer: its input and output, gradients of both.
TRANSIENT_ROWS = 4

# A weight, its gradient, Adam's two moments, and the average.
COPIES_OF_WEIGHTS = 5

# Of these a checkpoint has all but the gradient.
COPIES_IN_CHECKPOINT = 4


def memory_per_rank(
    layers: list[tuple[int, int]],
    num_weights: int,
    num_rows: int,
    num_halo: int,
    tables_per_layer: int,
    halo_tables_per_layer: int,
    kept_columns: int,
    longest_chunk: int,
    hidden: int,
    graph_bytes: int,
    tables: TableFormat = "fp32",
) -> int:
    """Bytes that a rank holds at the end of its forward actions, when every chunk's activations are alive.

    Args:
        layers: for each layer of the stage, the columns it keeps a row and the width of its tables
            (0 without tables).
        num_weights: numbers in the stage's weights.
        num_rows: nodes of the rank's part.
        num_halo: rows of other parts in its tables.
        tables_per_layer: tables of ``[num_rows + num_halo, width]`` that the staleness settings ask for.
        halo_tables_per_layer: the same for halo rows, with those under way.
        kept_columns: floats a row that are kept besides: initial rows of the stage before, the loss's
            gradient.
        longest_chunk: rows of the part's largest chunk.
        hidden: width of the rows between layers.
        graph_bytes: adjacency and, on the first stage, features.
        tables: how their rows are held.
    """
    per_row = sum(
        BYTES_PER_NUMBER * saved + tables_per_layer * row_bytes(width, tables) for saved, width in layers
    )
    per_halo_row = sum(halo_tables_per_layer * row_bytes(width, tables) for _, width in layers)
    transient = TRANSIENT_ROWS * hidden * BYTES_PER_NUMBER * longest_chunk
    weights = COPIES_OF_WEIGHTS * BYTES_PER_NUMBER * num_weights
    rows = num_rows * (per_row + kept_columns * BYTES_PER_NUMBER) + num_halo * per_halo_row
    return PROCESS_BYTES + graph_bytes + weights + rows + transient


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
