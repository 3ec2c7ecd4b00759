"""The chunks of a rank's part of the graph: rows of A and A^T, features and labels on its device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from gnnpipe import ops
from gnnpipe.comm.halo import HaloRoutes, Route
from gnnpipe.comm.place import Place
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.cut.chunks import Chunk
from gnnpipe.graph.cut.halo import part_range
from gnnpipe.graph.prepare.prepared import PreparedGraph
from gnnpipe.nn.blocks.edges import Edges
from gnnpipe.nn.features import FeatureRows, SparseRows
from gnnpipe.ops.mix import Mix

# Rows that read the halo get tiles of their own only where a chunk has at least this many of them and of the
# others: with fewer, starting the operations takes longer than the overlap saves; see docs/decisions.md.
LEAST_ROWS_PER_BORDER = 1024

# Rows of a tile on a CPU: few enough that an operation's output is still in the core's cache when the next
# operation reads it.
MOST_ROWS_PER_TILE = 4096

# The same where a layer of the model is differentiated by pushing. Such a layer transforms the rows that a
# tile reads once for each tile that reads them, and its edges, which are rows to autograd, fit no cache.
MOST_ROWS_PER_PUSHED_TILE = 16384


@dataclass(frozen=True)
class Pull:
    """Rows of A or A^T, with their entries split by whether the exchange of the chunk brings their column.

    A row of ``A`` that reads one row of its own part (o) and two halo rows, of which the chunk's own exchange
    brings one (h) and earlier exchanges have brought the other (e):

        now     o . e    can be multiplied at once
        later   . h .    has to wait for the halo; None where no row has such an entry

    Every entry is in one of the two, so that ``now @ table + later @ table`` is the whole product.
    """

    now: Csr
    later: Csr | None

    def all(self, table: Tensor) -> Tensor:
        """The whole product, float32 ``[num_rows, width]``; all halo rows must have arrived."""
        product = self.at_hand(table)
        return product if self.later is None else _add(self.later, table, product)

    def at_hand(self, table: Tensor, mix: Mix | None = None) -> Tensor:
        """The product of the entries ``now``: float32 ``[num_rows, width]``. It is mixed if it is whole."""
        return ops.of(table.device).pull(self.now, table, mix=mix if self.later is None else None)


def _add(later: Csr, table: Tensor, product: Tensor, mix: Mix | None = None) -> Tensor:
    return ops.of(table.device).pull(later, table, add_to=product, mix=mix)


def late_last(pulls: Sequence[Pull], wait: Callable[[], object]) -> Iterator[int]:
    """The tiles that read no halo, then, after the wait, the others.

    Args:
        pulls: of each tile.
        wait: returns when the halo rows of the chunk have arrived.
    """
    late = [pull.later is not None for pull in pulls]
    yield from (tile for tile, waits in enumerate(late) if not waits)
    wait()
    yield from (tile for tile, waits in enumerate(late) if waits)


def pull_tiles(
    pulls: Sequence[Pull],
    table: Tensor,
    use: Callable[[int, Tensor], None],
    wait: Callable[[], object],
    mixes: Sequence[Mix | None] = (),
) -> None:
    """Pull the rows of each tile and hand the product to ``use``.

    Tiles that read no halo are finished before the wait; of the others all but the halo's share is pulled:

        # tile 0, no halo   pull, use
        # tile 1, halo      pull now      | wait | pull later, use

    Args:
        pulls: of each tile.
        table: ``[num_rows, width]``, the part's own rows and its halo's.
        use: called once for each tile, with its index and its product.
        wait: returns when the halo rows of the chunk have arrived.
        mixes: for each tile, what its product is mixed with; empty if none is.
    """
    if len(pulls) == 1 and pulls[0].later is None:  # a small chunk as a rule
        use(0, pulls[0].at_hand(table, mixes[0] if mixes else None))
        wait()
        return
    unfinished = []
    for index, (pull, mix) in enumerate(zip(pulls, mixes or [None] * len(pulls), strict=True)):
        product = pull.at_hand(table, mix)
        if pull.later is None:
            use(index, product)
        else:
            unfinished.append((index, product, pull.later, mix))
    wait()
    for index, product, later, mix in unfinished:
        use(index, _add(later, table, product, mix))


@dataclass(frozen=True)
class Tile:
    """Consecutive rows of a chunk that are computed in one go. Tiles change results by rounding at most."""

    rows: slice
    """Its rows, counted from the chunk's first."""
    node_id: Tensor
    """int64: original id of each row."""
    pull: Pull
    """Rows of A; columns are the part's own rows, then its forward halo."""
    pull_back: Pull
    """Rows of A^T; columns are the part's own rows, then its backward halo."""
    edges: Edges
    """All entries of its rows of A, for layers that do the aggregation themselves."""
    edges_back: Edges
    """All entries of its rows of A^T."""


@dataclass(frozen=True)
class ChunkData:
    """The data of one chunk on one rank; made once for all epochs."""

    chunk: Chunk
    """Its rows, counted from the part's first."""
    node_id: Tensor
    """int64 ``[num_nodes]``: original ids, from which the dropout masks follow."""
    tiles: tuple[Tile, ...]
    """The chunk's rows in order, those that read no halo first. Where boundary rows travel while others are
    computed and both kinds are many, no tile holds both kinds. Empty if the chunk has no rows."""
    border: int
    """Index of the first tile of rows that read the halo; 0 where tiles are not split by that."""
    features: tuple[FeatureRows, ...]
    """Input features of each tile; empty on stages that read none."""

    @property
    def device(self) -> torch.device:
        """The device that holds all tensors."""
        return self.node_id.device

    @property
    def nothing(self) -> Sequence[None]:
        """None for each tile: stands in where there is no tensor to `split`."""
        return [None] * len(self.tiles)

    def split(self, rows: Tensor) -> list[Tensor]:
        """The rows of each tile in a tensor of the chunk's rows, ``[n, ...]``, as views."""
        return [rows] if len(self.tiles) == 1 else [rows[tile.rows] for tile in self.tiles]

    def split_table(self, table: Tensor) -> list[Tensor]:
        """The rows of each tile in a table of the part's rows, ``[num_rows, ...]``, as views."""
        start = self.chunk.start
        if len(self.tiles) == 1:
            return [table[start : self.chunk.stop]]
        return [table[start + tile.rows.start : start + tile.rows.stop] for tile in self.tiles]


@dataclass(frozen=True)
class ChunkLabels:
    """Labels and masks of one chunk, on the last stage."""

    labels: Tensor
    """``[n]`` class numbers, or ``[n, num_classes]`` of 0 and 1, or standardised values."""
    masks: dict[str, Tensor]
    """bool ``[n]`` for train, val and test."""
    train_rows: Tensor
    """int64: the training nodes among the chunk's rows."""


@dataclass(frozen=True)
class TileSizes:
    """Sizes of the tiles that chunks are cut into."""

    least_border: int
    """Rows that read the halo, and rows that don't, from which on the two get tiles of their own."""
    most: int
    """Largest number of rows of a tile."""

    @classmethod
    def on(cls, device: torch.device, *, pushes: bool = False) -> TileSizes:
        """Sizes that suit a device. On an accelerator the largest operations are the fastest ones.

        Args:
            device: the device.
            pushes: whether a layer of the model, on whichever stage, is differentiated by pushing: where
                layers run must not change how their rows are cut, which decides the last bits of sums.
        """
        most = MOST_ROWS_PER_PUSHED_TILE if pushes else MOST_ROWS_PER_TILE
        return cls(LEAST_ROWS_PER_BORDER, most if device.type == "cpu" else 2**40)


def cut(
    graph: PreparedGraph,
    place: Place,
    routes: HaloRoutes,
    device: torch.device,
    sizes: TileSizes,
    *,
    features: bool,
) -> list[ChunkData]:
    """Cut what this rank reads of the graph into chunks, on its device.

    Args:
        graph: the whole prepared graph; only this part's rows of it are read.
        place: place of the rank; its part is cut.
        routes: of the boundary rows that travel while the chunk's own rows are pulled.
        device: device that is to hold everything.
        sizes: sizes of the tiles.
        features: whether the rank reads features.
    """
    forward = _part_edges(graph.matrix, graph, place, graph.halo_forward[place.part], None, device)
    backward = forward
    if graph.matrix_t is not graph.matrix:
        halo = graph.halo_backward[place.part]
        backward = _part_edges(graph.matrix_t, graph, place, halo, graph.entry_t, device)
    matrix, matrix_t = forward.matrix, backward.matrix
    part_start = part_range(graph.ranges, place.part).start
    chunks = []
    for index, span in enumerate(graph.ranges[place.part]):
        chunk = Chunk(span.start - part_start, span.stop - part_start)
        route, route_back = routes.forward[index], routes.backward[index]
        border = _border(matrix, chunk, graph.facts.part_nodes[place.part]) if route else 0
        slices, first_border = _slices(chunk.num_nodes, border, sizes)
        node_id = graph.node_id[span.start : span.stop].to(device)
        tiles = []
        for rows in slices:
            tile_span = Chunk(chunk.start + rows.start, chunk.start + rows.stop)
            pull = _pull(matrix, tile_span, route)
            # one matrix, one route: an undirected graph's pulls are the same both ways, and held once
            pull_back = pull if matrix_t is matrix else _pull(matrix_t, tile_span, route_back)
            edges = forward.rows(tile_span.start, tile_span.stop)
            edges_back = edges if backward is forward else backward.rows(tile_span.start, tile_span.stop)
            tiles.append(Tile(rows, node_id[rows], pull, pull_back, edges, edges_back))
        held = [_feature_rows(graph.features, span, rows, device) for rows in slices] if features else ()
        chunks.append(ChunkData(chunk, node_id, tuple(tiles), first_border, tuple(held)))
    return chunks


def cut_labels(graph: PreparedGraph, place: Place, device: torch.device) -> list[ChunkLabels]:
    """The labels of each chunk on the last stage; an empty list on the others."""
    if not place.is_last:
        return []
    return [
        ChunkLabels(
            graph.labels[span.start : span.stop].to(device),
            {name: mask[span.start : span.stop].to(device) for name, mask in graph.masks.items()},
            graph.masks["train"][span.start : span.stop].nonzero().squeeze(1).to(device),
        )
        for span in graph.ranges[place.part]
    ]


def _slices(num_rows: int, border: int, sizes: TileSizes) -> tuple[list[slice], int]:
    """Cut the rows of a chunk into tiles of nearly equal size.

        # 10 rows, of which those from row 6 on read the halo; tiles of 3 rows at most
        # rows   0 1 2 | 3 4 5 | 6 7 | 8 9
        # tile     0       1      2     3     the first border tile is 2

    Args:
        num_rows: rows of the chunk.
        border: the first row that reads the halo.
        sizes: sizes of the tiles.

    Returns:
        the tiles, and the index of the first one of border rows (0 if rows of both kinds stay together).
    """
    apart = min(border, num_rows - border) >= max(sizes.least_border, 1)
    kinds = [(0, border), (border, num_rows)] if apart else [(0, num_rows)]
    by_kind = [_even_slices(start, stop, sizes.most) for start, stop in kinds]
    return [rows for slices in by_kind for rows in slices], len(by_kind[0]) if apart else 0


def _even_slices(start: int, stop: int, most: int) -> list[slice]:
    """The fewest slices of at most ``most`` rows, whose sizes differ by one at most."""
    count = -(-(stop - start) // most)
    bounds = [start + (stop - start) * index // count for index in range(count + 1)] if count else []
    return [slice(*pair) for pair in pairwise(bounds)]


def _own_rows(matrix: Csr, graph: PreparedGraph, place: Place, halo: Tensor) -> Csr:
    """The part's rows of a matrix, with columns numbered as the rows of its tables: own rows, then halo.

    # part of nodes 4..7, halo rows 9 2 (in the order in which they arrive)
    # node      4 5 6 7   9 2
    # column    0 1 2 3   4 5
    """
    mine = part_range(graph.ranges, place.part)
    rows = matrix.rows(mine.start, mine.stop)
    if place.num_parts == 1:
        return rows
    col = rows.col.to(torch.int64)
    remote = (col < mine.start) | (col >= mine.stop)
    # the halo is in order of arrival, a binary search wants it ascending: search, then map back
    ascending = torch.argsort(halo)
    local = col - mine.start
    local[remote] = mine.num_nodes + ascending[torch.searchsorted(halo[ascending], col[remote])]
    return replace(rows, col=local.to(rows.col.dtype), num_cols=mine.num_nodes + halo.numel())


def _part_edges(
    matrix: Csr,
    graph: PreparedGraph,
    place: Place,
    halo: Tensor,
    entry: Tensor | None,
    device: torch.device,
) -> Edges:
    """The part's rows of A or A^T with features and types of their edges.

    Args:
        matrix: A or A^T of the whole graph.
        graph: the whole graph.
        place: place of the rank.
        halo: ids of the halo rows that the part reads through the matrix.
        entry: for each entry of A^T its index among those of A, whose order features and types have; None
            for A.
        device: device that is to hold everything.
    """
    mine = part_range(graph.ranges, place.part)
    entries = slice(int(matrix.rowptr[mine.start]), int(matrix.rowptr[mine.stop]))

    def of_part(values: Tensor | None) -> Tensor | None:
        if values is None:
            return None
        return (values[entries] if entry is None else values[entry[entries]]).to(device)

    rows = _own_rows(matrix, graph, place, halo).to(device)
    return Edges(rows, 0, of_part(graph.edge_attr), of_part(graph.edge_type))


def _pull(matrix: Csr, span: Chunk, route: Route | None) -> Pull:
    rows = matrix.rows(span.start, span.stop)
    if route is None:
        return Pull(rows, None)
    # the chunk's own exchange fills consecutive rows of the table; halo rows of others are there, or stale
    brought = (rows.col >= route.arrive.start) & (rows.col < route.arrive.stop)
    if not brought.any():
        return Pull(rows, None)
    later, now = rows.split(brought)
    return Pull(now, later)


def _border(matrix: Csr, chunk: Chunk, num_own: int) -> int:
    """The chunk's first row that reads the halo: the number of rows that don't, as `cut_graph` of
    `gnnpipe.graph.cut.chunks` puts those first."""
    rows = matrix.rows(chunk.start, chunk.stop)
    remote, _ = rows.split(rows.col >= num_own)
    return int((remote.rowptr[1:] == remote.rowptr[:-1]).sum())


def _feature_rows(features: Tensor | Csr, span: Chunk, tile: slice, device: torch.device) -> FeatureRows:
    start, stop = span.start + tile.start, span.start + tile.stop
    # a mapped file's pages are read here, those of this tile only
    if isinstance(features, Csr):
        return SparseRows.from_csr(features.rows(start, stop).to(device))
    return features[start:stop].to(device)
