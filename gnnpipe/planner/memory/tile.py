"""Memory that a tile takes where its aggregation is more than one sum."""

from __future__ import annotations

from dataclasses import dataclass

from gnnpipe.nn.running import AnyRunner, Gathers
from gnnpipe.planner.block_costs import REFERENCED, BlockCosts
from gnnpipe.schedule.volume import BYTES_PER_NUMBER

# A tile's edges over those of as many average rows: tiles differ.
LARGEST_TILE = 1.25
# Rows for each edge that a pushed layer makes beside what autograd saves, of the layer's width.
EDGE_ROWS = 3


@dataclass(frozen=True)
class TileWork:
    """Numbers that a layer holds while it works on a tile."""

    per_row: float = 0.0
    """For each row, while it is differentiated."""
    per_edge: float = 0.0
    """For each edge, while it is differentiated."""
    in_evaluation: float = 1.0
    """Share of these in evaluation."""

    def training(self, num_rows: int, edges_per_row: float) -> int:
        """Bytes while a tile is differentiated."""
        edges = LARGEST_TILE * num_rows * edges_per_row
        return round(BYTES_PER_NUMBER * (self.per_row * num_rows + self.per_edge * edges))

    def evaluation(self, num_rows: int, edges_per_row: float) -> int:
        """Bytes while a tile is evaluated."""
        return round(self.in_evaluation * self.training(num_rows, edges_per_row))


def tile_work(runner: AnyRunner, counts: BlockCosts | None) -> TileWork:
    """The numbers that a layer holds.

    Args:
        runner: of the layer.
        counts: of a layer whose gradients are pushed; None for others.
    """
    if counts is not None:
        # what autograd saves, and, for a moment, rows of edges with their gradients (as gathers make them),
        # and the rows that were read with theirs
        read, width = REFERENCED * runner.layer.width, max(runner.layer.width, runner.layer.out_features)
        edge = max(1.5 * counts.edge_saved, counts.edge_saved + EDGE_ROWS * width)
        return TileWork(counts.row_saved + 2 * read, edge, in_evaluation=0.5)
    if isinstance(runner, Gathers):
        return TileWork(2.0 * runner.aggregated, runner.numbers_per_edge)
    return TileWork()
