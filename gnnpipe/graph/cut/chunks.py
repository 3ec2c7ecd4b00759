"""Parts and chunks: contiguous ranges of nodes. A rank holds a part; chunks stream through the pipeline.

Rows after renumbering, for 2 parts of 3 chunks each:

    part     0                               1
    chunk    0         1         2           0         1         2
           | range 0 | range 1 | range 2   | range 3 | range 4 | range 5 |

    inside a range:  rows that read no other part, cell by cell | rows that do, cell by cell

Chunk k of the graph is range k of every part together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gnnpipe.config.run import PartBalance
from gnnpipe.graph.blocks import edge_blocks
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.cut.locality import Locality
from gnnpipe.graph.cut.partition import Partition, node_cost, partition
from gnnpipe.graph.cut.structure import Structure

# Rows of a cell, a group of nodes with many edges among them: with the usual widths its rows take a few
# hundred KiB, which a core's own cache holds.
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
    """The wanted cut of a graph."""

    num_parts: int
    """Number of parts."""
    num_chunks: int
    """Number of chunks of each part."""
    row_cost: float
    """Dense work of one row, in units of the work of one edge (`node_cost`)."""
    part_balance: PartBalance = "nodes"
    """Which total is equal for all parts: nodes or work."""
    local: bool = False
    """Whether chunks follow a locality order, of which parts are strips; their work is equal then."""


@dataclass(frozen=True)
class Cut:
    """A graph's new numbering and its ranges, with figures of their quality."""

    order: np.ndarray
    """int ``[num_nodes]``: original id of each node in the new numbering."""
    ranges: tuple[tuple[Chunk, ...], ...]
    """``[part][chunk]``: consecutive ranges that cover all nodes."""
    part_method: str
    """Method that made the parts: metis, kaminpar, rcm, whole, or one of `LocalCut`."""
    chunk_method: str
    """Method that made the chunks: metis, rcm, whole, one of `LocalCut`, or mixed where parts differ."""
    cut_fraction: float
    """Share of the edges that join different chunks."""
    part_imbalance: float
    """Work of the most expensive part over the mean of all parts."""
    chunk_imbalance: float
    """Work of the most expensive range over the mean of all ranges."""


def cut_graph(adjacency: Csr, spec: CutSpec) -> Cut:
    """Cut into parts and each part into chunks; renumber so that both are contiguous.

    Inside a range, rows that read no other part come first: they can be computed while the halo is on its
    way. Both kinds are ordered by cell, so that rows which are aggregated together are read from the cache.
    Chunks along a line keep the original order inside, which is local already.
    """
    work = node_cost(adjacency, spec.row_cost)
    structure = Structure.of(adjacency)
    part_of, part_method, chunks, chunk_method = _parts_and_chunks(structure, spec, work)
    # ranges are numbered part by part, so that sorting by them makes parts contiguous, too
    num_ranges = spec.num_parts * spec.num_chunks
    range_of = part_of * spec.num_chunks + chunks
    reads_halo, num_cut = _crossings(adjacency, part_of, chunks)
    stops = np.cumsum(np.bincount(range_of, minlength=num_ranges)).tolist()
    ranges = [Chunk(start, stop) for start, stop in zip([0, *stops[:-1]], stops, strict=True)]
    cost = np.bincount(range_of, weights=work, minlength=num_ranges)
    part_cost = cost.reshape(spec.num_parts, spec.num_chunks).sum(axis=1)
    cell = np.zeros_like(range_of) if spec.local else _cells(structure, range_of, num_ranges)
    return Cut(
        # lexsort's last key counts first: by range, then without halo before with halo, then by cell; it is
        # stable, so nodes that agree in all three keep their order
        np.lexsort((cell, reads_halo, range_of)),
        rows_of_parts(ranges, spec.num_parts),
        part_method,
        chunk_method,
        cut_fraction=num_cut / max(adjacency.num_entries, 1),
        part_imbalance=float(part_cost.max() / part_cost.mean()),
        chunk_imbalance=float(cost.max() / cost.mean()),
    )


def _crossings(adjacency: Csr, part: np.ndarray, chunk: np.ndarray) -> tuple[np.ndarray, int]:
    """For each node whether it reads another part, and the number of edges that join different chunks."""
    reads_halo = np.zeros(adjacency.num_rows, dtype=bool)
    num_cut = 0
    for reader, owner in edge_blocks(adjacency):
        reads_halo[reader[part[reader] != part[owner]]] = True
        num_cut += int(np.count_nonzero(chunk[reader] != chunk[owner]))
    return reads_halo, num_cut


def _cells(structure: Structure, range_of: np.ndarray, num_ranges: int) -> np.ndarray:
    """The cell of each node, numbered from 0 in each range; a range of few nodes is one cell."""
    cell = np.zeros(structure.num_rows, dtype=np.int64)
    for range_index in range(num_ranges):
        nodes = np.flatnonzero(range_of == range_index)
        if len(nodes) >= 2 * ROWS_PER_CELL:
            # only edges inside the range count: its rows are read one range at a time
            cells = partition(
                structure.inside(nodes), len(nodes) // ROWS_PER_CELL, np.ones(len(nodes)), rough=True
            )
            cell[nodes] = cells.assignment
    return cell


def rows_of_parts(ranges: list[Chunk], num_parts: int) -> tuple[tuple[Chunk, ...], ...]:
    """Group a flat list of ranges by part: ``[part][chunk]``."""
    num_chunks = len(ranges) // num_parts
    return tuple(tuple(ranges[part * num_chunks : (part + 1) * num_chunks]) for part in range(num_parts))


def cut_into_parts(
    graph: Csr | Structure, num_parts: int, balance: PartBalance, work: np.ndarray
) -> Partition:
    """Cut into parts; none is empty while there are enough nodes."""
    cost = work if balance == "work" else np.ones(graph.num_rows)
    return partition(graph, num_parts, cost, allow_empty=False)


def _parts_and_chunks(
    structure: Structure, spec: CutSpec, work: np.ndarray
) -> tuple[np.ndarray, str, np.ndarray, str]:
    """The part of each node and the method that made the parts, its chunk inside the part and the method that
    made the chunks."""
    if spec.local:
        line = Locality(structure, work).cut(spec.num_chunks, spec.num_parts)
        return line.part, line.method if spec.num_parts > 1 else "whole", line.chunk, line.method
    parts = cut_into_parts(structure, spec.num_parts, spec.part_balance, work)
    if spec.num_parts == 1:
        whole = partition(structure, spec.num_chunks, work)
        return parts.assignment, parts.method, whole.assignment, whole.method
    # each part is cut by itself: chunk k of one part has nothing to do with chunk k of another
    chunks = np.zeros(structure.num_rows, dtype=np.int64)
    methods = set()
    for part in range(spec.num_parts):
        nodes = np.flatnonzero(parts.assignment == part)
        groups = partition(structure.inside(nodes), spec.num_chunks, work[nodes])
        chunks[nodes] = groups.assignment
        methods.add(groups.method)
    return parts.assignment, parts.method, chunks, methods.pop() if len(methods) == 1 else "mixed"
