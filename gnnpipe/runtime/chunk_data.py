"""What a rank holds of each chunk of its part of the graph."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gnnpipe.graph.chunks import Chunk
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.halo import part_range
from gnnpipe.graph.prepared import PreparedGraph
from gnnpipe.model.features import FeatureRows, SparseRows
from gnnpipe.runtime.halo import Route
from gnnpipe.runtime.place import Place

# A tile of fewer rows takes longer to start than it hides of a message; see docs/decisions.md.
LEAST_ROWS_PER_TILE = 1024


@dataclass(frozen=True)
class Pull:
    """Rows of A or A^T of one chunk, cut by when their columns are at hand.

        now     all rows, without the entries whose columns the chunk's exchange brings
        later   those entries, for the rows from ``first`` on (the rows before have none)

    Every entry is in one of the two. Without an exchange ``later`` is None.
    """

    now: Csr
    later: Csr | None
    first: int

    def finish(self, z: Tensor, rows: Tensor, start: int = 0) -> None:
        """Add what `later` pulls from table ``rows`` to ``z``, which begins at row ``start`` of the chunk."""
        if self.later is not None:
            z[self.first - start :] += self.later @ rows


@dataclass(frozen=True)
class Tile:
    """Consecutive rows of a chunk that are computed in one go."""

    rows: slice
    pull: Csr
    """What is at hand of their rows of A; see `Pull`."""


@dataclass(frozen=True)
class ChunkData:
    """What a rank holds of one chunk, cut once."""

    chunk: Chunk
    """Its rows in the part's own numbering."""
    node_id: Tensor
    """Original ids, which key the dropout masks."""
    pull: Pull
    """Rows of A; columns are the part's own rows, then its forward halo."""
    pull_back: Pull
    """Rows of A^T; columns are the part's own rows, then its backward halo."""
    tiles: tuple[Tile, ...]
    """Rows that read no halo, then those that do; one tile where nothing travels while rows are computed."""
    features: FeatureRows | None
    """On the first stage."""
    labels: Tensor | None
    masks: dict[str, Tensor]
    """On the last stage."""


def cut(
    graph: PreparedGraph,
    place: Place,
    forward: list[Route | None],
    backward: list[Route | None],
    device: torch.device,
    least_tile: int = LEAST_ROWS_PER_TILE,
) -> list[ChunkData]:
    """Cut what this rank reads of the graph into chunks, on its device.

    Args:
        graph: the whole prepared graph; only this part's rows of it are read.
        place: whose part.
        forward: what travels while a chunk's rows of A are pulled; see `routes`.
        backward: the same for A^T.
        device: where everything lives.
        least_tile: rows below which a tile is not worth it.
    """
    symmetric = graph.matrix_t is graph.matrix
    matrix = _own_rows(graph.matrix, graph, place, graph.halo_forward[place.part])
    matrix_t = (
        matrix if symmetric else _own_rows(graph.matrix_t, graph, place, graph.halo_backward[place.part])
    )
    start = part_range(graph.ranges, place.part).start
    result = []
    for index, span in enumerate(graph.ranges[place.part]):
        rows = slice(span.start, span.stop)
        chunk = Chunk(span.start - start, span.stop - start)
        pull = _pull(matrix, chunk, forward[index], device)
        result.append(
            ChunkData(
                chunk,
                graph.node_id[rows].to(device),
                pull,
                pull if symmetric else _pull(matrix_t, chunk, backward[index], device),
                _tiles(
                    pull,
                    _border(matrix, chunk, graph.facts.part_nodes[place.part]),
                    forward[index],
                    least_tile,
                ),
                _feature_rows(graph.features, span, device) if place.is_first else None,
                graph.labels[rows].to(device) if place.is_last else None,
                {name: mask[rows].to(device) for name, mask in graph.masks.items()} if place.is_last else {},
            )
        )
    return result


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


def _pull(matrix: Csr, chunk: Chunk, route: Route | None, device: torch.device) -> Pull:
    rows = matrix.rows(chunk.start, chunk.stop)
    if route is None:
        return Pull(rows.to(device), None, chunk.num_nodes)
    brought = (rows.col >= route.arrive.start) & (rows.col < route.arrive.stop)
    later, now = rows.split(brought)
    reading = (later.rowptr[1:] > later.rowptr[:-1]).nonzero()
    if not reading.numel():
        return Pull(rows.to(device), None, chunk.num_nodes)
    first = int(reading[0])
    return Pull(now.to(device), later.rows(first, chunk.num_nodes).to(device), first)


def _border(matrix: Csr, chunk: Chunk, num_own: int) -> int:
    """Rows of a chunk that read no halo; they come first, see `gnnpipe.graph.chunks.cut_graph`."""
    rows = matrix.rows(chunk.start, chunk.stop)
    remote, _ = rows.split(rows.col >= num_own)
    return int((remote.rowptr[1:] == remote.rowptr[:-1]).sum())


def _tiles(pull: Pull, border: int, route: Route | None, least: int) -> tuple[Tile, ...]:
    num_rows = pull.now.num_rows
    if route is None or min(border, num_rows - border) < max(least, 1):
        return (Tile(slice(0, num_rows), pull.now),)
    return (
        Tile(slice(0, border), pull.now.rows(0, border)),
        Tile(slice(border, num_rows), pull.now.rows(border, num_rows)),
    )


def _feature_rows(features: Tensor | Csr, chunk: Chunk, device: torch.device) -> FeatureRows:
    if isinstance(features, Csr):
        return SparseRows.from_csr(features.rows(chunk.start, chunk.stop).to(device))
    return features[chunk.start : chunk.stop].to(device)
