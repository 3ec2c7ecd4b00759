"""Normalised adjacencies, computed once when the graph is prepared, as torch_geometric computes them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import scipy.sparse as sp
import torch

from gnnpipe.errors import DataError
from gnnpipe.graph.blocks import Rows, blocks, edge_blocks, offsets, picked_rows, row_blocks
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.ids import NodeIds
from gnnpipe.graph.transpose import is_symmetric

Normalization = Literal["gcn", "mean"]


def normalized(
    adjacency: Csr,
    kind: Normalization,
    *,
    weighted: bool = False,
    order: np.ndarray | None = None,
    ids: NodeIds | None = None,
) -> Csr:
    """The matrix A that layers multiply their input rows with; rows are sorted and no entry occurs twice.

    gcn: ``D^-1/2 (A + I) D^-1/2``, where every node has exactly one self loop and D holds the sums of rows
    (arXiv 1609.02907). A self loop of a weighted graph keeps its weight, and of parallel ones the last one
    counts; all others get the weight 1. mean: ``D^-1 A``, where D holds the numbers of edges (arXiv
    1706.02216): without weights every row sums to 1, or to 0 without neighbours. Parallel edges weigh as
    often as they occur.

    Args:
        adjacency: as in `Graph`.
        kind: normalisation.
        weighted: whether entries are weights, as in `Graph`.
        order: old id of each node in the new numbering of A; None keeps the numbers.
        ids: ids of the nodes in their files, for messages.

    Raises:
        DataError: a weight is negative, and gcn would take the square root of its sums.
    """
    return Normalizer.of(adjacency, kind, weighted=weighted, ids=ids).matrix(order)


@dataclass(frozen=True)
class Normalizer:
    """A normalised adjacency before its entries are made: sizes of its rows, and how entries are scaled."""

    adjacency: Csr
    """As in `Graph`."""
    kind: Normalization
    loop: np.ndarray | None
    """float32 ``[num_nodes]``: weight of each node's self loop; None where loops are edges as any other."""
    scale: np.ndarray
    """float64 ``[num_nodes]``: the diagonal of ``D^-1/2`` or ``D^-1``; 0 where D has 0."""
    num_entries: int
    """Number of entries of A; parallel edges are one."""

    @classmethod
    def of(
        cls, adjacency: Csr, kind: Normalization, *, weighted: bool, ids: NodeIds | None = None
    ) -> Normalizer:
        """Add up the weights of every node's edges, in one pass; raises DataError as `normalized` does."""
        if weighted and kind == "gcn":
            _check_weights(adjacency, ids)
        num_nodes = adjacency.num_rows
        loop = _loops(adjacency, weighted=weighted) if kind == "gcn" else None
        degree = np.zeros(num_nodes) if loop is None else loop.astype(np.float64)
        num_entries = 0 if loop is None else num_nodes
        # in the order of the given numbers: sums of a row then don't depend on the plan
        for start, stop, rows in row_blocks(adjacency):
            others = rows if loop is None else _without_loops(rows, np.arange(start, stop))
            num_entries += len(_merged(others, num_nodes).col)
            weigh = None if weighted and kind == "mean" else others.value  # None: each edge counts 1
            degree[start:stop] += np.bincount(others.row, weigh, minlength=stop - start)
        power = -0.5 if kind == "gcn" else -1.0
        scale = np.power(degree, power, out=degree, where=degree > 0)
        return cls(adjacency, kind, loop, scale, num_entries)

    def matrix(self, order: np.ndarray | None = None) -> Csr:
        """The normalised adjacency; see `normalized`."""
        num_nodes = self.adjacency.num_rows
        index = np.int32 if max(self.num_entries, num_nodes) < 2**31 else np.int64
        order = np.arange(num_nodes) if order is None else order
        # entries name columns by their old number, so the order has to be inverted
        new_id = np.empty(num_nodes, dtype=index)
        new_id[order] = np.arange(num_nodes, dtype=index)
        scale = self.scale[order]
        rowptr = np.zeros(num_nodes + 1, dtype=index)
        col, value = np.empty(self.num_entries, index), np.empty(self.num_entries, np.float32)
        sizes = np.diff(self.adjacency.rowptr.numpy())
        for start, stop in blocks(offsets(sizes[order])):
            ids = order[start:stop]
            rows = picked_rows(self.adjacency, ids)
            if self.loop is not None:
                rows = _with_loops(rows, ids, self.loop[ids])
            rows = _merged(Rows(rows.rowptr, new_id[rows.col], rows.value), num_nodes)
            first = int(rowptr[start])
            rowptr[start + 1 : stop + 1] = first + rows.rowptr[1:]
            span = slice(first, int(rowptr[stop]))
            per_entry = np.repeat(scale[start:stop], np.diff(rows.rowptr))
            if self.kind == "gcn":
                # both factors are multiplied first: floating-point products commute, so a symmetric graph
                # stays symmetric to the last bit, and is stored once
                per_entry = per_entry * scale[rows.col]
            col[span] = rows.col
            value[span] = rows.value * per_entry
        return Csr(torch.from_numpy(rowptr), torch.from_numpy(col), torch.from_numpy(value), num_nodes)


def num_self_loops(kind: Normalization, num_nodes: int) -> int:
    """Number of entries that `normalized` adds to a graph without self loops."""
    return num_nodes if kind == "gcn" else 0


def num_normalized_entries(adjacency: Csr, kind: Normalization, *, weighted: bool) -> int:
    """Number of entries of the normalised adjacency.

    Args:
        adjacency: as in `Graph`.
        kind: normalisation.
        weighted: as in `Graph`.

    Raises:
        DataError: a weight is negative, as in `normalized`.
    """
    if not weighted:  # no entry is repeated
        if kind == "mean":
            return adjacency.num_entries
        num_loops = sum(int(np.count_nonzero(row == col)) for row, col in edge_blocks(adjacency))
        return adjacency.num_entries - num_loops + adjacency.num_rows
    return Normalizer.of(adjacency, kind, weighted=weighted).num_entries


def keeps_symmetry(kind: Normalization) -> bool:
    """Whether the normalised adjacency of an undirected graph is symmetric."""
    return kind == "gcn"


def is_undirected(adjacency: Csr) -> bool:
    """Whether every edge has a reverse of the same weight, parallel ones taken together.

    Args:
        adjacency: as in `Graph`.
    """
    if all(rows.rise for _, _, rows in row_blocks(adjacency)):
        return is_symmetric(adjacency)
    # parallel edges are added up, but not divided by anything
    plain = replace(Normalizer.of(adjacency, "mean", weighted=True), scale=np.ones(adjacency.num_rows))
    return is_symmetric(plain.matrix())


def _check_weights(adjacency: Csr, ids: NodeIds | None) -> None:
    for start, _, rows in row_blocks(adjacency):
        negative = np.flatnonzero(rows.value < 0)
        if len(negative):
            entry = negative[0]
            ends = int(rows.col[entry]), start + int(rows.row[entry])
            source, target = (node if ids is None else ids[node] for node in ends)
            raise DataError(
                f"edge weights: the edge from node {source} to node {target} weighs "
                f"{float(rows.value[entry]):g}, and gcn normalisation takes square roots of sums of weights; "
                "use --model sage, which takes any weight, or make weights 0 or larger"
            )


def _loops(adjacency: Csr, *, weighted: bool) -> np.ndarray:
    """Weight of the self loop that each node gets: its own in a weighted graph, otherwise 1."""
    loop = np.ones(adjacency.num_rows, dtype=np.float32)
    if weighted:
        for start, _, rows in row_blocks(adjacency):
            row = rows.row + start
            own = rows.col == row
            loop[row[own]] = rows.value[own]  # NumPy keeps the last value of a repeated index
    return loop


def _without_loops(rows: Rows, ids: np.ndarray) -> Rows:
    """Some rows without self loops.

    Args:
        rows: some rows.
        ids: number of each of them among the columns.
    """
    row = rows.row
    kept = rows.col != ids[row]
    size = np.bincount(row[kept], minlength=len(ids))
    return Rows(offsets(size), rows.col[kept], rows.value[kept])


def _with_loops(rows: Rows, ids: np.ndarray, loop: np.ndarray) -> Rows:
    """Some rows with new self loops in place of theirs; each stands at the end of its row.

    Args:
        rows: some rows.
        ids: number of each of them among the columns.
        loop: weight of the self loop of each row.
    """
    others = _without_loops(rows, ids)
    # the loops of all rows in front stand in between
    position = np.arange(len(others.col)) + others.row
    rowptr = others.rowptr + np.arange(len(ids) + 1)
    col, value = np.empty(rowptr[-1], rows.col.dtype), np.empty(rowptr[-1], np.float32)
    col[position], value[position] = others.col, others.value
    col[rowptr[1:] - 1], value[rowptr[1:] - 1] = ids, loop
    return Rows(rowptr, col, value)


def _merged(rows: Rows, num_cols: int) -> Rows:
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
