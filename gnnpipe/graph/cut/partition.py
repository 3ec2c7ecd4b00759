"""Cutting a graph into groups of nodes: equal cost for each group, few edges between groups."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.sparse.csgraph import reverse_cuthill_mckee

from gnnpipe.errors import DataError
from gnnpipe.files.scratch import scratch_folder
from gnnpipe.files.writing import write_arrays
from gnnpipe.graph.blocks import edge_blocks
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.cut.structure import Structure
from gnnpipe.graph.transpose import column_sizes
from gnnpipe.system.failures import advice, reason
from gnnpipe.system.killable import killable

# METIS leaves groups empty when they have fewer nodes than this on average.
LEAST_NODES_PER_METIS_PART = 4
# Entries from which on KaMinPar is taken where it is installed (benchmarks/cutting).
LEAST_KAMINPAR_ENTRIES = 2_000_000
KAMINPAR_SEED = 0
# Largest cost of a group over the mean, less 1, that KaMinPar allows; it uses what it is given.
IMBALANCE = 0.01
# Bytes in which readings of nodes by groups are noted at once; half of the graph's own, where that is more.
LEAST_NOTED_BYTES = 2**24


@dataclass(frozen=True)
class Partition:
    """The group of each node."""

    assignment: np.ndarray
    """int ``[num_nodes]``: group of each node."""
    num_groups: int
    """Number of groups; some may be empty."""
    method: str
    """``metis``, ``kaminpar``, ``rcm`` (reverse Cuthill-McKee order cut into ranges), or ``whole`` (one
    group)."""

    def sizes(self) -> np.ndarray:
        """Number of nodes of each group."""
        return np.bincount(self.assignment, minlength=self.num_groups)


def partition(
    graph: Csr | Structure,
    num_groups: int,
    cost: np.ndarray,
    *,
    allow_empty: bool = True,
    rough: bool = False,
) -> Partition:
    """Cut with METIS or KaMinPar; along a locality order where neither is there or the groups are tiny.

    Args:
        graph: adjacency, of which directions and self loops are ignored, or its structure.
        num_groups: number of groups.
        cost: ``[num_nodes]``: cost of each node, such as `node_cost`; each group gets the same total.
        allow_empty: whether a group may be left empty; if not, the locality order replaces such a cut.
        rough: let METIS refine the cut once only, which takes half as long.
    """
    num_nodes = graph.num_rows
    if num_groups == 1:
        return Partition(np.zeros(num_nodes, dtype=np.int64), 1, "whole")
    structure = graph if isinstance(graph, Structure) else Structure.of(graph)
    cost = np.round(cost).astype(np.int64)  # METIS takes whole numbers
    method = _method(len(structure.indices))
    if method == "rcm" or num_nodes < LEAST_NODES_PER_METIS_PART * num_groups:
        return Partition(_cut_locality_order(structure, num_groups, cost), num_groups, "rcm")
    if method == "kaminpar":
        assignment = kaminpar_cut(structure, num_groups, cost)
    else:
        assignment = metis_cut(structure, num_groups, cost, rough=rough)
    groups = Partition(assignment, num_groups, method)
    if not allow_empty and not groups.sizes().all():
        return Partition(_cut_locality_order(structure, num_groups, cost), num_groups, "rcm")
    return groups


def metis_cut(structure: Structure, num_groups: int, cost: np.ndarray, *, rough: bool = False) -> np.ndarray:
    """Cut with METIS.

    Args:
        structure: edges of the graph.
        num_groups: number of groups.
        cost: int ``[num_nodes]``: cost of each node.
        rough: refine the cut once only.

    Returns:
        int64 ``[num_nodes]``: the group of each node.

    Raises:
        ImportError: the package is not installed.
    """
    pymetis = _import_pymetis()
    if pymetis is None:
        raise ImportError("pymetis is not installed; pip install pymetis")
    # METIS holds Python's global lock, so no signal handler could run meanwhile
    with killable():
        _, assignment = pymetis.part_graph(
            num_groups,
            pymetis.CSRAdjacency(structure.indptr, structure.indices),
            vweights=cost,
            options=pymetis.Options(niter=1) if rough else None,
        )
    return np.asarray(assignment, dtype=np.int64)


def kaminpar_cut(structure: Structure, num_groups: int, cost: np.ndarray, threads: int = 1) -> np.ndarray:
    """Cut with KaMinPar.

    Args:
        structure: edges of the graph.
        num_groups: number of groups.
        cost: int ``[num_nodes]``: cost of each node.
        threads: with one, the same graph gives the same cut; with several, another one each time.

    Returns:
        int64 ``[num_nodes]``: the group of each node.

    Raises:
        ImportError: the package is not installed.
        DataError: TMPDIR has no room for the graph, which the package takes as a file only.
    """
    kaminpar = _import_kaminpar()
    if kaminpar is None:
        raise ImportError("kaminpar is not installed; pip install 'gnnpipe[kaminpar]'")
    with scratch_folder() as folder:
        path = folder / "graph.parhip"
        try:
            write_arrays(path, _parhip(structure, cost))
        except OSError as error:
            raise DataError(
                f"TMPDIR: can't write the graph for KaMinPar to '{folder}' ({reason(error, str(path))}); "
                f"{advice(error)} with TMPDIR"
            ) from None
        with killable():
            kaminpar.reseed(KAMINPAR_SEED)
            graph = kaminpar.load_graph(str(path), kaminpar.GraphFileFormat.PARHIP)
            solver = kaminpar.KaMinPar(threads, kaminpar.default_context())
            assignment = solver.compute_partition(graph, num_groups, IMBALANCE)
    return np.asarray(assignment, dtype=np.int64)


def _parhip(structure: Structure, cost: np.ndarray) -> Iterator[np.ndarray]:
    """A graph in ParHIP's binary format, array by array.

    flags, nodes, entries | where the neighbours of each node stand, in bytes | neighbours | costs
    """
    num_nodes, num_entries = structure.num_rows, len(structure.indices)
    # the bits stand for what is absent: weights of edges, and more than 32 bits for a node's number
    yield np.array([1 | 8, num_nodes, num_entries], dtype=np.uint64)
    first = 8 * (3 + num_nodes + 1)
    yield first + 4 * structure.indptr.astype(np.uint64)
    yield structure.indices.astype(np.uint32, copy=False)
    yield cost.astype(np.int64, copy=False)


def node_cost(adjacency: Csr, row_cost: float) -> np.ndarray:
    """Work of each node: ``row_cost + degree``, in units of the work of one edge.

    ``row_cost`` is the dense work of one row (its matrix products). The degree is the mean of in-degree and
    out-degree: the forward pass reads the row's in-edges, the backward pass its out-edges.
    """
    in_degree = np.diff(adjacency.rowptr.numpy())
    out_degree = column_sizes(adjacency)
    return row_cost + (in_degree + out_degree) / 2


def halo_counts(adjacency: Csr, groups: Partition) -> tuple[int, int]:
    """Halo rows of all groups together: forward (reading through A) and backward (through A^T).

    The first count divided by the number of nodes is the mean number of *other* groups that read a node's
    row: alpha in the published formula (``2 L alpha N H`` numbers an epoch). On undirected graphs both are
    equal.
    """
    forward = backward = 0
    # seen[group, node]: whether a group reads a node. As many groups at once as have room, as each time all
    # edges are gone through.
    room = max(LEAST_NOTED_BYTES, adjacency.nbytes // 2) // adjacency.num_rows
    seen = np.zeros((min(max(room, 1), groups.num_groups), adjacency.num_rows), dtype=bool)
    for first in range(0, groups.num_groups, len(seen)):
        forward += _num_pairs(seen, first, groups, edge_blocks(adjacency))
        # backward, edges are read from the other end
        turned = ((owner, reader) for reader, owner in edge_blocks(adjacency))
        backward += _num_pairs(seen, first, groups, turned)
    return forward, backward


def _num_pairs(
    seen: np.ndarray, first: int, groups: Partition, edges: Iterator[tuple[np.ndarray, np.ndarray]]
) -> int:
    """Number of pairs of a group and a node outside that it reads, however many edges do.

    Args:
        seen: bool ``[groups, num_nodes]`` to work in.
        first: the group that ``seen[0]`` stands for.
        groups: groups of the nodes.
        edges: readers and the nodes that they read.
    """
    seen[:] = False
    for reader, owner in edges:
        group = groups.assignment[reader]
        counts = (group != groups.assignment[owner]) & (group >= first) & (group < first + len(seen))
        seen[group[counts] - first, owner[counts]] = True
    return int(np.count_nonzero(seen))


def _cut_locality_order(structure: Structure, num_groups: int, cost: np.ndarray) -> np.ndarray:
    return cut_order(reverse_cuthill_mckee(structure.to_scipy(), symmetric_mode=True), num_groups, cost)


def cut_order(order: np.ndarray, num_groups: int, cost: np.ndarray) -> np.ndarray:
    """Cut an order of the nodes into ranges of equal cost; no range is empty while nodes suffice.

    Args:
        order: int ``[num_nodes]``: node ids in order.
        num_groups: number of ranges.
        cost: ``[num_nodes]``: cost of each node.

    Returns:
        int ``[num_nodes]``: the range of each node.
    """
    # Range g ends with the node at which the running cost reaches (g + 1) / num_groups of the total:
    #     cost in order   1 1 5 1 1 3        3 ranges of a total of 12: cuts at 4 and at 8
    #     running cost    1 2 7 8 9 12       reached by the third node (7) and the fourth (8)
    #     range           0 0 0 1 2 2
    running = np.cumsum(cost[order])
    ends = np.searchsorted(running, running[-1] * np.arange(1, num_groups) / num_groups, side="left") + 1
    num_nodes = len(order)
    # A node of great cost may hold several cuts. Move each end behind the one before it, and leave a node
    # for each range that follows.
    for group in range(num_groups - 1):
        least = (ends[group - 1] if group else 0) + 1
        ends[group] = min(max(ends[group], least), max(num_nodes - (num_groups - 1 - group), 0))
    # position i belongs to the first range that ends behind it
    assignment = np.empty(num_nodes, dtype=np.int64)
    assignment[order] = np.searchsorted(ends, np.arange(num_nodes), side="right")
    return assignment


def _method(num_entries: int) -> Literal["metis", "kaminpar", "rcm"]:
    """The way to cut a graph, by its size and by what is installed. Warns where nothing is."""
    if num_entries >= LEAST_KAMINPAR_ENTRIES and _import_kaminpar():
        return "kaminpar"
    if _import_pymetis():
        return "metis"
    warnings.warn(
        "pymetis can't be imported, so parts and chunks come from a reverse Cuthill-McKee order and cut more "
        "edges; pip install pymetis",
        stacklevel=3,
    )
    return "rcm"


def _import_pymetis() -> Any | None:
    """The pymetis module; None where this binary package can't be imported."""
    try:
        import pymetis
    except ImportError:
        return None
    return pymetis


def _import_kaminpar() -> Any | None:
    """The kaminpar module; None where this binary package can't be imported."""
    try:
        import kaminpar
    except ImportError:
        return None
    return kaminpar
