"""Cuts of a graph into parts, in numbers: what planning needs to know of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gnnpipe.config.run import PartBalance
from gnnpipe.graph.blocks import edge_blocks
from gnnpipe.graph.cut.chunks import cut_into_parts
from gnnpipe.graph.cut.partition import halo_counts, node_cost
from gnnpipe.graph.data import Graph
from gnnpipe.graph.prepare.lazy import LazyGraph
from gnnpipe.graph.prepare.normalize import is_undirected
from gnnpipe.planner.costs import row_cost


@dataclass(frozen=True)
class CutCounts:
    """A cut into parts."""

    method: str
    """How the parts were cut."""
    forward: int
    """Rows that parts read of each other in the forward pass."""
    backward: int
    """The same in the backward pass."""
    across: float
    """Share of the edges whose ends are in different parts."""


@dataclass(frozen=True)
class _Direction:
    """Whether edges have one."""

    directed: bool


def count_cut(graph: LazyGraph, num_parts: int, balance: PartBalance, hidden: int) -> CutCounts:
    """Cut a graph into parts as a run would, and count what crosses.

    Args:
        graph: the graph.
        num_parts: at most as many as nodes.
        balance: what is equal for all parts.
        hidden: width of the hidden rows, which decides what a row weighs.
    """
    cost = row_cost(hidden)
    ingredients = {"parts": num_parts, "balance": balance, "row_cost": cost}
    return graph.remember(
        "cut",
        f"{num_parts} parts of equal {balance}",
        ingredients,
        CutCounts,
        lambda: _count(graph, num_parts, balance, cost),
    )


def is_directed(graph: LazyGraph) -> bool:
    """Whether an edge lacks its reverse."""
    return graph.remember("direction", "", {}, _Direction, lambda: _direction(graph.graph)).directed


def _count(graph: LazyGraph, num_parts: int, balance: PartBalance, cost: float) -> CutCounts:
    adjacency = graph.graph.adjacency
    groups = cut_into_parts(graph.structure, num_parts, balance, node_cost(adjacency, cost))
    across = sum(
        int(np.count_nonzero(groups.assignment[reader] != groups.assignment[owner]))
        for reader, owner in edge_blocks(adjacency)
    )
    return CutCounts(groups.method, *halo_counts(adjacency, groups), across / max(adjacency.num_entries, 1))


def _direction(graph: Graph) -> _Direction:
    return _Direction(not is_undirected(graph.adjacency))
