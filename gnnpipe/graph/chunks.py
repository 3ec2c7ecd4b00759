"""Chunks: the contiguous ranges of nodes that stream through the pipeline."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gnnpipe.graph.csr import Csr
from gnnpipe.graph.partition import Partition, node_cost


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
class Chunking:
    """How the nodes are renumbered and cut, and how good the cut is."""

    order: np.ndarray
    """int ``[num_nodes]``: the original id of each new node id."""
    chunks: tuple[Chunk, ...]
    """Consecutive ranges that cover all nodes."""
    method: str
    """What made the cut: metis, rcm or whole."""
    cut_fraction: float
    """Share of the edges whose ends lie in different chunks."""
    imbalance: float
    """Cost of the dearest chunk over the mean cost."""

    @property
    def fresh_fraction(self) -> float:
        """Expected share of the edges that carry a fresh row under a shuffled order.

        Edges inside a chunk always do, the others in one order of the two chunks out of two.
        """
        return 1.0 - self.cut_fraction / 2


def cut_into_chunks(adjacency: Csr, groups: Partition, row_cost: float) -> Chunking:
    """Renumber the nodes so that each group is a contiguous range, keeping their order inside it."""
    order = np.argsort(groups.assignment, kind="stable")
    sizes = np.bincount(groups.assignment, minlength=groups.num_groups)
    stops = np.cumsum(sizes)
    chunks = tuple(Chunk(int(stop - size), int(stop)) for size, stop in zip(sizes, stops, strict=True))
    degree = np.diff(adjacency.rowptr.numpy())
    work = node_cost(adjacency, row_cost)
    cost = np.bincount(groups.assignment, weights=work, minlength=groups.num_groups)
    reader = np.repeat(groups.assignment, degree)
    cut = int(np.count_nonzero(reader != groups.assignment[adjacency.col.numpy()]))
    return Chunking(
        order,
        chunks,
        groups.method,
        cut_fraction=cut / max(adjacency.num_entries, 1),
        imbalance=float(cost.max() / cost.mean()),
    )


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
