"""What a rank holds of each chunk of its part of the graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from gnnpipe import ops
from gnnpipe.comm.halo import Route
from gnnpipe.comm.place import Place
from gnnpipe.graph.chunks import Chunk
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.halo import part_range
from gnnpipe.graph.prepared import PreparedGraph
from gnnpipe.nn.features import FeatureRows, SparseRows

# Rows that read halo are a tile of their own only where both kinds are so many: fewer take longer to start
# than they hide of a message; see docs/decisions.md.
LEAST_ROWS_PER_BORDER = 1024

# Rows of a tile: what an operation writes is still in the core's cache when the next one reads it.
MOST_ROWS_PER_TILE = 4096


@dataclass(frozen=True)
class Pull:
    """Rows of A or A^T, cut by when their columns are at hand.

        now     all entries but those whose columns the chunk's exchange brings
        later   those; None where there are none

    Every entry is in one of the two.
    """

    now: Csr
    later: Csr | None

    def all(self, table: Tensor) -> Tensor:
        """The whole product, once everything is at hand."""
        product = self.at_hand(table)
        return product if self.later is None else _add(self.later, table, product)

    def at_hand(self, table: Tensor) -> Tensor:
        """The product's share of what is at hand: float32 ``[num_rows, width]``."""
        return ops.of(table.device).pull(self.now, table)


def _add(later: Csr, table: Tensor, product: Tensor) -> Tensor:
    return ops.of(table.device).pull(later, table, add_to=product)


def pull_tiles(
    pulls: Sequence[Pull],
    table: Tensor,
    use: Callable[[int, Tensor], None],
    wait: Callable[[], object],
) -> None:
    """Pull each tile's rows and use them.

    Everything that is at hand is pulled, and what needs nothing else is used, before the wait for the halo.
    """
    unfinished = []
    for number, pull in enumerate(pulls):
        product = pull.at_hand(table)
        if pull.later is None:
            use(number, product)
        else:
            unfinished.append((number, product, pull.later))
    wait()
    for number, product, later in unfinished:
        use(number, _add(later, table, product))


@dataclass(frozen=True)
class Tile:
    """Consecutive rows of a chunk that are computed in one go. A tile changes no result but for rounding."""

    rows: slice
    """Of the chunk."""
    node_id: Tensor
    """Original ids of them."""
    pull: Pull
    """Rows of A; columns are the part's own rows, then its forward halo."""
    pull_back: Pull
    """Rows of A^T; columns are the part's own rows, then its backward halo."""


@dataclass(frozen=True)
class ChunkData:
    """What a rank holds of one chunk, cut once."""

    chunk: Chunk
    """Its rows in the part's own numbering."""
    node_id: Tensor
    """Original ids, which key the dropout masks."""
    tiles: tuple[Tile, ...]
    """Rows that read no halo, then those that do, if anything travels while rows are computed. Empty if the
    chunk has no rows."""
    border: int
    """The first tile of rows that read halo, or 0 where they are not apart."""
    features: tuple[FeatureRows, ...]
    """Of each tile, on the first stage, and on all that compute initial rows themselves."""
    labels: Tensor | None
    masks: dict[str, Tensor]
    """On the last stage."""
    train_rows: Tensor | None
    """int64: the training nodes among its rows, on the last stage."""

    @property
    def device(self) -> torch.device:
        """Where everything lives."""
        return self.node_id.device

    @property
    def nothing(self) -> Sequence[None]:
        """For each tile, where there are no rows to split."""
        return [None] * len(self.tiles)

    def split(self, rows: Tensor) -> list[Tensor]:
        """Each tile's rows of a ``[n, ...]`` tensor, as views."""
        return [rows] if len(self.tiles) == 1 else [rows[tile.rows] for tile in self.tiles]

    def split_table(self, table: Tensor) -> list[Tensor]:
        """Each tile's rows of a table that holds all rows of the part, as views."""
        start = self.chunk.start
        return [table[start + tile.rows.start : start + tile.rows.stop] for tile in self.tiles]


@dataclass(frozen=True)
class TileSizes:
    """How chunks are cut into tiles."""

    least_border: int
    most: int

    @classmethod
    def on(cls, device: torch.device) -> TileSizes:
        """What suits a device: on an accelerator an operation is better the more rows it has."""
        return cls(LEAST_ROWS_PER_BORDER, MOST_ROWS_PER_TILE if device.type == "cpu" else 2**40)


def cut(
    graph: PreparedGraph,
    place: Place,
    forward: list[Route | None],
    backward: list[Route | None],
    device: torch.device,
    sizes: TileSizes,
    *,
    features: bool,
) -> list[ChunkData]:
    """Cut what this rank reads of the graph into chunks, on its device.

    Args:
        graph: the whole prepared graph; only this part's rows of it are read.
        place: whose part.
        forward: what travels while a chunk's rows of A are pulled; see `routes`.
        backward: the same for A^T.
        device: where everything lives.
        sizes: of tiles.
        features: whether the rank reads them.
    """
    symmetric = graph.matrix_t is graph.matrix
    matrix = _own_rows(graph.matrix, graph, place, graph.halo_forward[place.part]).to(device)
    matrix_t = (
        matrix
        if symmetric
        else _own_rows(graph.matrix_t, graph, place, graph.halo_backward[place.part]).to(device)
    )
    start = part_range(graph.ranges, place.part).start
    result = []
    for index, span in enumerate(graph.ranges[place.part]):
        rows = slice(span.start, span.stop)
        chunk = Chunk(span.start - start, span.stop - start)
        border = _border(matrix, chunk, graph.facts.part_nodes[place.part]) if forward[index] else 0
        slices, first = _slices(chunk.num_nodes, border, sizes)
        node_id = graph.node_id[rows].to(device)
        tiles = []
        for item in slices:
            span_of_tile = Chunk(chunk.start + item.start, chunk.start + item.stop)
            pull = _pull(matrix, span_of_tile, forward[index])
            tiles.append(
                Tile(
                    item,
                    node_id[item],
                    pull,
                    pull if symmetric else _pull(matrix_t, span_of_tile, backward[index]),
                )
            )
        result.append(
            ChunkData(
                chunk,
                node_id,
                tuple(tiles),
                first,
                tuple(_feature_rows(graph.features, span, item, device) for item in slices)
                if features
                else (),
                graph.labels[rows].to(device) if place.is_last else None,
                {name: mask[rows].to(device) for name, mask in graph.masks.items()} if place.is_last else {},
                graph.masks["train"][rows].nonzero().squeeze(1).to(device) if place.is_last else None,
            )
        )
    return result


def _slices(num_rows: int, border: int, sizes: TileSizes) -> tuple[list[slice], int]:
    """Tiles of equally many rows, and the first one of those from row ``border`` on."""
    apart = min(border, num_rows - border) >= max(sizes.least_border, 1)
    kinds = [(0, border), (border, num_rows)] if apart else [(0, num_rows)]
    pieces = [_pieces(start, stop, sizes.most) for start, stop in kinds]
    return [item for piece in pieces for item in piece], len(pieces[0]) if apart else 0


def _pieces(start: int, stop: int, most: int) -> list[slice]:
    count = -(-(stop - start) // most)
    bounds = [start + (stop - start) * number // count for number in range(count + 1)] if count else []
    return [slice(*pair) for pair in pairwise(bounds)]


def _own_rows(matrix: Csr, graph: PreparedGraph, place: Place, halo: Tensor) -> Csr:
    """The part's rows, with columns numbered as its tables are: own rows first, then the halo."""
    mine = part_range(graph.ranges, place.part)
    rows = matrix.rows(mine.start, mine.stop)
    if place.num_parts == 1:
        return rows
    col = rows.col.to(torch.int64)
    remote = (col < mine.start) | (col >= mine.stop)
    ascending = torch.argsort(halo)
    local = col - mine.start
    local[remote] = mine.num_nodes + ascending[torch.searchsorted(halo[ascending], col[remote])]
    return replace(rows, col=local.to(rows.col.dtype), num_cols=mine.num_nodes + halo.numel())


def _pull(matrix: Csr, span: Chunk, route: Route | None) -> Pull:
    rows = matrix.rows(span.start, span.stop)
    if route is None:
        return Pull(rows, None)
    brought = (rows.col >= route.arrive.start) & (rows.col < route.arrive.stop)
    if not brought.any():
        return Pull(rows, None)
    later, now = rows.split(brought)
    return Pull(now, later)


def _border(matrix: Csr, chunk: Chunk, num_own: int) -> int:
    """Rows of a chunk that read no halo; they come first, see `gnnpipe.graph.chunks.cut_graph`."""
    rows = matrix.rows(chunk.start, chunk.stop)
    remote, _ = rows.split(rows.col >= num_own)
    return int((remote.rowptr[1:] == remote.rowptr[:-1]).sum())


def _feature_rows(features: Tensor | Csr, span: Chunk, tile: slice, device: torch.device) -> FeatureRows:
    start, stop = span.start + tile.start, span.start + tile.stop
    if isinstance(features, Csr):
        return SparseRows.from_csr(features.rows(start, stop).to(device))
    return features[start:stop].to(device)
