"""Adjacencies from lists of edges, and with the reverse of every edge."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from gnnpipe.errors import DataError
from gnnpipe.graph.convert import as_ids, as_tensor, as_weights
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.edge_data import NO_EDGE_DATA, EdgeData, edge_data_of


@dataclass(frozen=True)
class Adjacency:
    """A matrix whose row i lists the nodes that node i aggregates from."""

    matrix: Csr
    """``[num_nodes, num_nodes]``, each row ascending."""
    weighted: bool
    """Whether entries are weights of edges; else they count parallel edges."""
    notes: tuple[str, ...] = ()
    """Lines for the user: each names something that was changed."""
    data: EdgeData = NO_EDGE_DATA
    """Features and types of the entries; parallel edges are then entries of their own, as with weights."""

    def with_reverse(self) -> Adjacency:
        """The adjacency with the reverse of every edge.

        Without weights, features and types all edges then count once. With any of them an edge takes them to
        its reverse, unless there is an edge the other way already: such pairs, and self loops, stay as they
        are. So the reverses are added once, however often one asks, and a graph that lists each edge both
        ways stays.
        """
        if self.weighted or self.data.exists:
            return _with_reverse_entries(self)
        matrix = replace(self.matrix, value=self.matrix.value.contiguous()).to_scipy()
        matrix = (matrix + matrix.T).tocsr()
        matrix.data[:] = 1.0
        return Adjacency(Csr.from_scipy(matrix), weighted=False, notes=self.notes)


def adjacency_of(
    edge_index: Any,
    num_nodes: int,
    weight: Any = None,
    *,
    edge_attr: Any = None,
    edge_type: Any = None,
    undirected: bool = False,
) -> Adjacency:
    """The adjacency of a list of edges.

    Args:
        edge_index: whole numbers ``[2, num_edges]``: sources and targets.
        num_nodes: number of nodes.
        weight: ``[num_edges]``; None or all 1 for edges without weights. Zero is a weight like another: its
            edge counts in a mean over neighbours.
        edge_attr: features of the edges, as for `edge_data_of`.
        edge_type: types of the edges, as there.
        undirected: add the reverse of every edge.

    Raises:
        DataError: another shape, an edge that names no node, or a weight or feature that is not finite.
    """
    edge_index = as_tensor(edge_index, "edge_index")
    if edge_index.dim() != 2 or edge_index.shape[0] != 2:
        turned = "; transpose it" if edge_index.dim() == 2 and edge_index.shape[1] == 2 else ""
        raise DataError(f"edge_index: expected shape [2, num_edges], got {list(edge_index.shape)}{turned}")
    source, target = as_ids(edge_index, "edge_index", num_nodes)
    weights, notes = (None, ()) if weight is None else as_weights(weight, len(source))
    data, data_notes = edge_data_of(edge_attr, edge_type, len(source))
    if weights is not None:
        low, high = float(weights.min()), float(weights.max())
        data_notes = (*data_notes, f"edges: weights from {low:g} to {high:g} are used")
    notes = (*notes, *data_notes)
    if weights is not None or data.exists:
        found = _apart(source, target, weights, data, num_nodes, notes)
        repeated, own = _num_repeated(found.matrix), "weight" if weights is not None else "features or type"
        weigh = f"with its own {own}"
    else:
        # conversion from coordinates sums duplicates, so that an entry counts parallel edges
        ends = target.numpy(), source.numpy()
        ones = np.ones(len(source), dtype=np.float32)
        matrix = Csr.from_scipy(sp.coo_matrix((ones, ends), shape=(num_nodes, num_nodes)).tocsr())
        found = Adjacency(matrix, weighted=False, notes=notes)
        repeated = len(source) - matrix.num_entries
        weigh = "once, as --undirected is given" if undirected else "as often as it occurs"
    if repeated:
        note = f"edges: {repeated:,} of {len(source):,} repeat others; each counts {weigh}"
        found = replace(found, notes=(*notes, note))
    return found.with_reverse() if undirected else found


def _apart(
    source: Tensor,
    target: Tensor,
    weight: Tensor | None,
    data: EdgeData,
    num_nodes: int,
    notes: tuple[str, ...],
) -> Adjacency:
    """Edges by target, then by source, parallel ones in the order given; each an entry of its own."""
    # the number of each edge as the value of its entry
    number = np.arange(len(source))
    matrix = sp.coo_matrix((number, (target.numpy(), source.numpy())), shape=(num_nodes, num_nodes))
    # Sorted by counting, first by source and then by target: that keeps the order of equal ones. SciPy would
    # add up parallel edges unless it is told that there are none.
    matrix.has_canonical_format = True
    rows = matrix.tocsc().tocsr()
    order, index = torch.from_numpy(rows.data), np.int32 if rows.nnz < 2**31 else np.int64
    csr = Csr(
        torch.from_numpy(rows.indptr.astype(index, copy=False)),
        torch.from_numpy(rows.indices.astype(index, copy=False)),
        torch.ones(1).expand(len(order)) if weight is None else weight[order],
        num_nodes,
    )
    return Adjacency(csr, weight is not None, notes, data.sorted(order))


def _num_repeated(matrix: Csr) -> int:
    """Number of entries that have the row and the column of the entry before them."""
    same = matrix.col[1:] == matrix.col[:-1]
    starts = matrix.rowptr[1:-1].to(torch.int64)
    # the first entry of a row repeats none; a start at 0 or at the end has no entry on both sides
    starts = starts[(starts > 0) & (starts < matrix.num_entries)]
    same[starts - 1] = False
    return int(same.sum())


def _with_reverse_entries(adjacency: Adjacency) -> Adjacency:
    matrix, size = adjacency.matrix, adjacency.matrix.num_rows
    target = torch.repeat_interleave(torch.arange(size), matrix.rowptr.to(torch.int64).diff())
    source = matrix.col.to(torch.int64)
    # entries are in order, so the numbers of their pairs ascend, and a reverse is found by bisection
    pair, reverse = target * size + source, source * size + target
    one_way = (target != source) & ~_found(pair, reverse)
    both_ways = int(((target != source) & ~one_way).sum())
    notes = adjacency.notes
    if both_ways:
        notes = (
            *notes,
            f"undirected: {both_ways:,} edges are there both ways already and stay as they are",
        )
    entry = torch.cat([torch.arange(matrix.num_entries), one_way.nonzero().squeeze(1)])
    return _apart(
        torch.cat([source, target[one_way]]),
        torch.cat([target, source[one_way]]),
        matrix.value[entry] if adjacency.weighted else None,
        adjacency.data.taken(entry),
        size,
        notes,
    )


def _found(ascending: Tensor, wanted: Tensor) -> Tensor:
    """bool: which numbers are among those of ``ascending``."""
    if not len(ascending):
        return torch.zeros_like(wanted, dtype=torch.bool)
    place = torch.searchsorted(ascending, wanted).clamp(max=len(ascending) - 1)
    return ascending[place] == wanted
