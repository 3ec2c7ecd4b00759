"""Parts and chunks: the contiguous ranges of nodes that ranks hold and that stream through the pipeline."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from gnnpipe.config.run import PartBalance
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.locality import Locality
from gnnpipe.graph.partition import Partition, node_cost, partition

# Rows of a cell: with the usual widths a few hundred KiB, which a core's own cache holds.
ROWS_PER_CELL = 1024


@dataclass(frozen=True)
class Chunk:
    """A contiguous range of nodes: the unit that flows through the pipeline."""

    start: int
    stop: int
    """Node ids ``[start, stop)`` after renumbering."""

    @property
    def num_nodes(self) -> int:
        """Rows of the chunk; may be 0."""
        return self.stop - self.start


@dataclass(frozen=True)
class CutSpec:
    """How a graph is to be cut."""

    num_parts: int
    num_chunks: int
    """Chunks of each part."""
    row_cost: float
    """See `node_cost`."""
    part_balance: PartBalance = "nodes"
    local: bool = False
    """Whether chunks follow a locality order; with one part only."""


@dataclass(frozen=True)
class Cut:
    """How the nodes are renumbered and cut, and how good the cut is."""

    order: np.ndarray
    """int ``[num_nodes]``: the original id of each new node id."""
    ranges: tuple[tuple[Chunk, ...], ...]
    """``[part][chunk]``: consecutive ranges that cover all nodes. Chunk k is the union of the k-th ranges."""
    part_method: str
    """What made the parts: metis, rcm or whole."""
    chunk_method: str
    """What made the chunks; ``mixed`` where that differs from part to part; see also `LocalCut`."""
    cut_fraction: float
    """Share of the edges whose ends lie in different chunks."""
    part_imbalance: float
    """Work of the dearest part over the mean."""
    chunk_imbalance: float
    """Work of the dearest range over the mean."""


def cut_graph(adjacency: Csr, spec: CutSpec) -> Cut:
    """Cut into parts, each part into chunks, and renumber so that both are contiguous.

    Inside a range, rows that read no other part's come first: they can be computed while the others' halo is
    on its way. Both kinds are ordered by cells, groups of nodes with many edges among them, so that rows
    which are aggregated together are read from the cache; chunks along a line keep their old order.
    """
    work = node_cost(adjacency, spec.row_cost)
    parts, chunks, chunk_method = _groups(adjacency, spec, work)
    num_ranges = spec.num_parts * spec.num_chunks
    place = parts.assignment * spec.num_chunks + chunks
    reader = np.repeat(np.arange(adjacency.num_rows), np.diff(adjacency.rowptr.numpy()))
    owner = adjacency.col.numpy()
    reads_halo = np.zeros(adjacency.num_rows, dtype=bool)
    reads_halo[reader[parts.assignment[reader] != parts.assignment[owner]]] = True
    stops = np.cumsum(np.bincount(place, minlength=num_ranges)).tolist()
    ranges = [Chunk(start, stop) for start, stop in zip([0, *stops[:-1]], stops, strict=True)]
    cost = np.bincount(place, weights=work, minlength=num_ranges)
    part_cost = cost.reshape(spec.num_parts, spec.num_chunks).sum(axis=1)
    cell = np.zeros_like(place) if spec.local else _cells(adjacency, place, num_ranges)
    return Cut(
        np.lexsort((cell, reads_halo, place)),
        rows_of_parts(ranges, spec.num_parts),
        parts.method,
        chunk_method,
        cut_fraction=np.count_nonzero(chunks[reader] != chunks[owner]) / max(adjacency.num_entries, 1),
        part_imbalance=float(part_cost.max() / part_cost.mean()),
        chunk_imbalance=float(cost.max() / cost.mean()),
    )


def _cells(adjacency: Csr, place: np.ndarray, num_ranges: int) -> np.ndarray:
    """The cell of each node among those of its range; a range of few nodes is one cell."""
    cell = np.zeros(adjacency.num_rows, dtype=np.int64)
    matrix = adjacency.to_scipy()
    for number in range(num_ranges):
        mine = np.flatnonzero(place == number)
        if len(mine) >= 2 * ROWS_PER_CELL:
            inside = Csr.from_scipy(sp.csr_matrix(matrix[mine][:, mine]))
            cells = partition(inside, len(mine) // ROWS_PER_CELL, np.ones(len(mine)), rough=True)
            cell[mine] = cells.assignment
    return cell


def rows_of_parts(ranges: list[Chunk], num_parts: int) -> tuple[tuple[Chunk, ...], ...]:
    """Group consecutive ranges by part."""
    num_chunks = len(ranges) // num_parts
    return tuple(tuple(ranges[part * num_chunks : (part + 1) * num_chunks]) for part in range(num_parts))


def cut_into_parts(adjacency: Csr, num_parts: int, balance: PartBalance, work: np.ndarray) -> Partition:
    """Cut into parts, none of which is empty while there are nodes enough."""
    cost = work if balance == "work" else np.ones(adjacency.num_rows)
    return partition(adjacency, num_parts, cost, allow_empty=False)


def renumbered(matrix: Csr, rows: np.ndarray, cols: np.ndarray | None) -> Csr:
    """Reorder rows, and columns where ``cols`` is given, to the new numbering (new id -> old id)."""
    moved = matrix.to_scipy()[rows]
    if cols is not None:
        new_id = np.empty_like(cols)
        new_id[cols] = np.arange(len(cols))
        moved.indices = new_id[moved.indices].astype(moved.indices.dtype)
        moved.has_sorted_indices = False
        moved.sort_indices()
    return Csr.from_scipy(moved)


def _groups(adjacency: Csr, spec: CutSpec, work: np.ndarray) -> tuple[Partition, np.ndarray, str]:
    """The part of each node, its chunk, and what made the chunks."""
    parts = cut_into_parts(adjacency, spec.num_parts, spec.part_balance, work)
    if spec.local:
        line = Locality(adjacency, work).cut(spec.num_chunks)
        return parts, line.chunk, line.method
    if spec.num_parts == 1:
        whole = partition(adjacency, spec.num_chunks, work)
        return parts, whole.assignment, whole.method
    chunks = np.zeros(adjacency.num_rows, dtype=np.int64)
    methods = set()
    matrix = adjacency.to_scipy()
    for part in range(spec.num_parts):
        mine = np.flatnonzero(parts.assignment == part)
        inside = Csr.from_scipy(sp.csr_matrix(matrix[mine][:, mine]))
        groups = partition(inside, spec.num_chunks, work[mine])
        chunks[mine] = groups.assignment
        methods.add(groups.method)
    return parts, chunks, methods.pop() if len(methods) == 1 else "mixed"
