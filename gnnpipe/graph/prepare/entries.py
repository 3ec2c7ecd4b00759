"""Entries of an adjacency's rows while it is normalised: self loops, and edges that are parallel.

Each function changes some rows; entries keep the numbers that they have in the adjacency, where these are
known, and what is added has the number -1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from gnnpipe.graph.blocks import Rows, offsets, row_blocks
from gnnpipe.graph.csr import Csr


@dataclass(frozen=True)
class Loops:
    """The self loops that are put into the rows of an adjacency."""

    replace: bool
    """Whether loops that are there are taken out."""
    chosen: np.ndarray
    """bool ``[num_nodes]``: which nodes get one."""
    weight: np.ndarray
    """float32 ``[num_nodes]``: weight of each."""
    entry: np.ndarray
    """int64 ``[num_nodes]``: the entry that the loop takes the place of, -1 for none."""

    @classmethod
    def one_each(cls, adjacency: Csr, *, weighted: bool, entries: bool) -> Loops:
        """One loop for each node: its own in a weighted graph, of parallel ones the last; otherwise one of 1.

        Args:
            adjacency: as in `gnnpipe.graph.data.Graph`.
            weighted: as there.
            entries: whether to look for the entries that loops take the place of.
        """
        num_nodes = adjacency.num_rows
        weight, entry = np.ones(num_nodes, np.float32), _nothing(num_nodes)
        entry = np.full(num_nodes, -1) if entries else entry
        for start, rows, own in _own_loops(adjacency) if weighted or entries else ():
            row = (rows.row + start)[own]
            # NumPy keeps the last value of a repeated index
            if weighted:
                weight[row] = rows.value[own]
            if entries:
                entry[row] = own + int(adjacency.rowptr[start])
        return cls(True, np.broadcast_to(True, num_nodes), weight, entry)

    @classmethod
    def missing(cls, adjacency: Csr) -> Loops:
        """A loop of weight 1 for each node that has none."""
        num_nodes = adjacency.num_rows
        chosen = np.ones(num_nodes, bool)
        for start, rows, own in _own_loops(adjacency):
            chosen[start + rows.row[own]] = False
        return cls(False, chosen, np.broadcast_to(np.float32(1), num_nodes), _nothing(num_nodes))

    def others(self, rows: Rows, ids: np.ndarray) -> Rows:
        """The entries of some rows that stay, without those that loops are put in for."""
        return without_loops(rows, ids) if self.replace else rows

    def put(self, rows: Rows, ids: np.ndarray) -> Rows:
        """Some rows with these loops; each stands at the end of its row.

        Args:
            rows: some rows.
            ids: number of each of them among the columns.
        """
        rows, chosen = self.others(rows, ids), self.chosen[ids]
        # the loops of all rows in front stand in between
        added = offsets(chosen)
        position = np.arange(len(rows.col)) + added[rows.row]
        rowptr = rows.rowptr + added
        at, nodes = rowptr[1:][chosen] - 1, ids[chosen]

        def both(others: np.ndarray, loops: np.ndarray) -> np.ndarray:
            column = np.empty(len(position) + len(at), others.dtype)
            column[position], column[at] = others, loops
            return column

        entry = None if rows.entry is None else both(rows.entry, self.entry[nodes])
        return Rows(rowptr, both(rows.col, nodes), both(rows.value, self.weight[nodes]), entry)


def _nothing(num_nodes: int) -> np.ndarray:
    """-1 for each node, which takes no memory."""
    return np.broadcast_to(np.int64(-1), num_nodes)


def _own_loops(adjacency: Csr) -> Iterator[tuple[int, Rows, np.ndarray]]:
    """Blocks of rows: the first row, the rows, and which of their entries are self loops."""
    for start, _, rows in row_blocks(adjacency):
        yield start, rows, np.flatnonzero(rows.col == rows.row + start)


def without_loops(rows: Rows, ids: np.ndarray) -> Rows:
    """Some rows without self loops.

    Args:
        rows: some rows.
        ids: number of each of them among the columns.
    """
    row = rows.row
    kept = rows.col != ids[row]
    return rows.taken(kept, offsets(np.bincount(row[kept], minlength=len(ids))))


def in_order(rows: Rows) -> Rows:
    """Sort each row by column; parallel edges stay apart, in their order."""
    if rows.rise:
        return rows
    return rows.taken(np.lexsort((rows.col, rows.row)), rows.rowptr)


def merged(rows: Rows, num_cols: int) -> Rows:
    """Sort each row by column, and add up entries of the same column.

    Weights of 0 stay: cuts are made from the adjacency, and expect the same entries here. A sum does not
    depend on the order of its terms: parallel edges of an undirected graph may come in another order the
    other way, and their sums have to agree to the last bit.
    """
    if rows.rise:
        return rows
    entries = rows.value, rows.col, rows.rowptr
    matrix = sp.csr_matrix(entries, shape=(len(rows.rowptr) - 1, num_cols), copy=True)
    matrix.sort_indices()
    rows = Rows(rows.rowptr, matrix.indices, matrix.data)
    if rows.rise:
        return rows
    row = rows.row
    value = rows.value.astype(np.float64)
    new = np.ones(len(row), dtype=bool)
    new[1:] = (rows.col[1:] != rows.col[:-1]) | (row[1:] != row[:-1])
    # each group of parallel edges is sorted by weight before it is added up
    repeated = ~new
    repeated[:-1] |= repeated[1:].copy()
    groups = np.cumsum(new)[repeated]
    value[repeated] = value[repeated][np.lexsort((value[repeated], groups))]
    first = np.flatnonzero(new)
    size = np.bincount(row[first], minlength=len(rows.rowptr) - 1)
    return Rows(offsets(size), rows.col[first], np.add.reduceat(value, first))
