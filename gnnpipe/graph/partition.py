"""Cutting a graph into groups of nodes of equal cost with few edges between them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import reverse_cuthill_mckee

from gnnpipe.graph.csr import Csr
from gnnpipe.system.killable import killable

# METIS is made for parts of many nodes; with fewer than this on average it leaves parts empty.
LEAST_NODES_PER_METIS_PART = 4


@dataclass(frozen=True)
class Partition:
    """Which group each node belongs to."""

    assignment: np.ndarray
    """int ``[num_nodes]``: group of each node."""
    num_groups: int
    """Number of groups; some may be empty."""
    method: str
    """``metis``, ``rcm`` (reverse Cuthill-McKee, cut into ranges), or ``whole``."""

    def sizes(self) -> np.ndarray:
        """Nodes of each group."""
        return np.bincount(self.assignment, minlength=self.num_groups)


def partition(
    adjacency: Csr, num_groups: int, cost: np.ndarray, *, allow_empty: bool = True, rough: bool = False
) -> Partition:
    """Cut with METIS, or, where it is absent or the groups are tiny, along a locality order.

    Args:
        adjacency: directions are ignored, self loops too.
        num_groups: how many groups.
        cost: of each node; groups get equally much of it. See `node_cost`.
        allow_empty: whether METIS may leave a group empty; if not, the locality order takes over then.
        rough: whether a cut that METIS has refined once will do; that takes half as long.
    """
    num_nodes = adjacency.num_rows
    if num_groups == 1:
        return Partition(np.zeros(num_nodes, dtype=np.int64), 1, "whole")
    structure = undirected_structure(adjacency)
    cost = np.round(cost).astype(np.int64)
    pymetis = _import_pymetis()
    if pymetis is None or num_nodes < LEAST_NODES_PER_METIS_PART * num_groups:
        return Partition(_cut_locality_order(structure, num_groups, cost), num_groups, "rcm")
    with killable():
        _, assignment = pymetis.part_graph(
            num_groups,
            pymetis.CSRAdjacency(structure.indptr, structure.indices),
            vweights=cost,
            options=pymetis.Options(niter=1) if rough else None,
        )
    groups = Partition(np.asarray(assignment, dtype=np.int64), num_groups, "metis")
    if not allow_empty and not groups.sizes().all():
        return Partition(_cut_locality_order(structure, num_groups, cost), num_groups, "rcm")
    return groups


def node_cost(adjacency: Csr, row_cost: float) -> np.ndarray:
    """Work of each node: ``row_cost + degree``, in units of the work of one edge.

    ``row_cost`` is the dense work of a row. The degree is the mean of in-degree and out-degree, as forward
    reads the one and backward the other.
    """
    in_degree = np.diff(adjacency.rowptr.numpy())
    out_degree = np.bincount(adjacency.col.numpy(), minlength=adjacency.num_cols)
    return row_cost + (in_degree + out_degree) / 2


def halo_counts(adjacency: Csr, groups: Partition) -> tuple[int, int]:
    """Rows that groups read of other groups, summed over the groups: forward (A) and backward (A^T).

    The first number over the number of nodes is the mean number of *other* groups that read a node's row:
    alpha of the published formula. On undirected graphs both are equal.
    """
    matrix = adjacency.to_scipy().tocoo()
    reader, owner = groups.assignment[matrix.row], groups.assignment[matrix.col]
    remote = reader != owner
    forward = matrix.col[remote].astype(np.int64) * groups.num_groups + reader[remote]
    backward = matrix.row[remote].astype(np.int64) * groups.num_groups + owner[remote]
    return np.unique(forward).size, np.unique(backward).size


def undirected_structure(adjacency: Csr) -> sp.csr_matrix:
    """Where edges are, either way, without self loops."""
    matrix = adjacency.to_scipy()
    both = sp.csr_matrix(matrix + matrix.T)
    both.setdiag(0)
    both.eliminate_zeros()
    both.sort_indices()
    return both


def _cut_locality_order(structure: sp.csr_matrix, num_groups: int, cost: np.ndarray) -> np.ndarray:
    return cut_order(reverse_cuthill_mckee(structure, symmetric_mode=True), num_groups, cost)


def cut_order(order: np.ndarray, num_groups: int, cost: np.ndarray) -> np.ndarray:
    """Cut an order of the nodes into ranges of equal cost; no range is empty while nodes suffice.

    Args:
        order: int ``[num_nodes]``: ids of nodes.
        num_groups: how many ranges.
        cost: of each node.

    Returns:
        int ``[num_nodes]``: the range of each node.
    """
    total = np.cumsum(cost[order])
    ends = np.searchsorted(total, total[-1] * np.arange(1, num_groups) / num_groups, side="left") + 1
    num_nodes = len(order)
    for group in range(num_groups - 1):
        least = (ends[group - 1] if group else 0) + 1
        ends[group] = min(max(ends[group], least), max(num_nodes - (num_groups - 1 - group), 0))
    assignment = np.empty(num_nodes, dtype=np.int64)
    assignment[order] = np.searchsorted(ends, np.arange(num_nodes), side="right")
    return assignment


def _import_pymetis() -> Any | None:
    """METIS is a binary package: where it can't be had, the locality order takes its place."""
    try:
        import pymetis
    except ImportError:
        warnings.warn(
            "pymetis can't be imported, so parts and chunks come from a reverse Cuthill-McKee order and cut "
            "more edges; pip install pymetis",
            stacklevel=3,
        )
        return None
    return pymetis
