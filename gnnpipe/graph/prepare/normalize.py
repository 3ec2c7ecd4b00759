"""Normalised adjacencies, computed once when the graph is prepared, as torch_geometric computes them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from gnnpipe.errors import DataError
from gnnpipe.graph.blocks import Rows, blocks, offsets, picked_rows, row_blocks
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.ids import NodeIds
from gnnpipe.graph.prepare.entries import Loops, in_order, merged
from gnnpipe.graph.transpose import is_symmetric

Normalization = Literal["gcn", "mean", "none", "loops"]


@dataclass(frozen=True)
class _Rule:
    """The steps of a normalisation."""

    loops: Literal["given", "missing", "one"]
    """Self loops: as they are given, or added where there are none, or one for each node."""
    power: float | None
    """Entries are multiplied by this power of the sums or numbers of edges; None to leave them."""
    by_number: bool = False
    """Whether a node's edges are counted, whatever their weights, and not added up."""
    both_ends: bool = False
    """Whether entries are multiplied for both ends, and not for their row alone."""


RULES: dict[Normalization, _Rule] = {
    "gcn": _Rule("one", -0.5, both_ends=True),
    "mean": _Rule("given", -1.0, by_number=True),
    "none": _Rule("given", None),
    "loops": _Rule("missing", None),
}


def normalized(
    adjacency: Csr,
    kind: Normalization,
    *,
    weighted: bool = False,
    apart: bool = False,
    order: np.ndarray | None = None,
    ids: NodeIds | None = None,
) -> Csr:
    """The matrix A of a model; rows are sorted, and no entry occurs twice unless they are kept ``apart``.

    gcn: ``D^-1/2 (A + I) D^-1/2``, where every node has exactly one self loop and D holds the sums of rows
    (arXiv 1609.02907). A self loop of a weighted graph keeps its weight, and of parallel ones the last one
    counts; all others get the weight 1. mean: ``D^-1 A``, where D holds the numbers of edges (arXiv
    1706.02216): without weights every row sums to 1, or to 0 without neighbours. none: A as it is, weights of
    edges or 1. loops: the same, and a self loop of weight 1 for every node that has none. Parallel edges
    weigh as often as they occur.

    Args:
        adjacency: as in `Graph`.
        kind: normalisation.
        weighted: whether entries are weights, as in `Graph`.
        apart: whether parallel edges stay entries of their own, in their order, and are not added up.
        order: old id of each node in the new numbering of A; None keeps the numbers.
        ids: ids of the nodes in their files, for messages.

    Raises:
        DataError: a weight is negative, and gcn would take the square root of its sums.
    """
    return Normalizer.of(adjacency, kind, weighted=weighted, apart=apart, ids=ids).matrix(order)


@dataclass(frozen=True)
class Normalizer:
    """A normalised adjacency before its entries are made: sizes of its rows, and how entries are scaled."""

    adjacency: Csr
    """As in `Graph`."""
    rule: _Rule
    """The steps of the normalisation."""
    loops: Loops | None
    """Self loops that are put in; None where loops are edges as any other."""
    scale: np.ndarray | None
    """float64 ``[num_nodes]``: the diagonal of ``D^-1/2`` or ``D^-1``, 0 where D has 0; None for ones."""
    num_entries: int
    """Number of entries of A."""
    apart: bool
    """Whether parallel edges are entries of their own."""

    @classmethod
    def of(
        cls,
        adjacency: Csr,
        kind: Normalization,
        *,
        weighted: bool,
        apart: bool = False,
        ids: NodeIds | None = None,
    ) -> Normalizer:
        """Add up the weights of every node's edges, in one pass; raises DataError as `normalized` does."""
        rule = RULES[kind]
        if weighted and rule.both_ends:
            _check_weights(adjacency, ids)
        num_nodes = adjacency.num_rows
        loops = _loops_of(rule, adjacency, weighted=weighted, entries=apart)
        degree = np.zeros(num_nodes)
        num_entries = 0
        if loops is not None:
            num_entries = int(np.count_nonzero(loops.chosen))
            degree += np.where(loops.chosen, loops.weight, 0)
        # in the order of the given numbers: sums of a row then don't depend on the plan
        for start, stop, rows in row_blocks(adjacency):
            others = rows if loops is None else loops.others(rows, np.arange(start, stop))
            num_entries += len(others.col if apart else merged(others, num_nodes).col)
            if rule.power is not None:
                weigh = None if weighted and rule.by_number else others.value  # None: each edge counts 1
                degree[start:stop] += np.bincount(others.row, weigh, minlength=stop - start)
        scale = None
        if rule.power is not None:
            scale = np.power(degree, rule.power, out=degree, where=degree > 0)
        return cls(adjacency, rule, loops, scale, num_entries, apart)

    def matrix(self, order: np.ndarray | None = None) -> Csr:
        """The normalised adjacency; see `normalized`."""
        num_nodes = self.adjacency.num_rows
        rowptr = np.zeros(num_nodes + 1, dtype=self._index)
        col, value = np.empty(self.num_entries, self._index), np.empty(self.num_entries, np.float32)
        for start, stop, rows in self.rows(order):
            first = int(rowptr[start])
            rowptr[start + 1 : stop + 1] = first + rows.rowptr[1:]
            span = slice(first, int(rowptr[stop]))
            col[span], value[span] = rows.col, rows.value
        return Csr(torch.from_numpy(rowptr), torch.from_numpy(col), torch.from_numpy(value), num_nodes)

    def rows(self, order: np.ndarray | None = None) -> Iterator[tuple[int, int, Rows]]:
        """All rows of the normalised adjacency in order, block by block, as ``(start, stop, rows)``.

        Where parallel edges are kept apart, entries come with their numbers in the adjacency as it was given;
        that of an added loop is -1.

        Args:
            order: old id of each node in the new numbering; None keeps the numbers.
        """
        num_nodes = self.adjacency.num_rows
        order = np.arange(num_nodes) if order is None else order
        # entries name columns by their old number, so the order has to be inverted
        new_id = np.empty(num_nodes, dtype=self._index)
        new_id[order] = np.arange(num_nodes, dtype=self._index)
        scale = None if self.scale is None else self.scale[order]
        sizes = np.diff(self.adjacency.rowptr.numpy())
        for start, stop in blocks(offsets(sizes[order])):
            ids = order[start:stop]
            rows = picked_rows(self.adjacency, ids, entries=self.apart)
            if self.loops is not None:
                rows = self.loops.put(rows, ids)
            rows = replace(rows, col=new_id[rows.col])
            rows = in_order(rows) if self.apart else merged(rows, num_nodes)
            yield start, stop, rows if scale is None else self._scaled(rows, scale, start, stop)

    def _scaled(self, rows: Rows, scale: np.ndarray, start: int, stop: int) -> Rows:
        factor = np.repeat(scale[start:stop], np.diff(rows.rowptr))
        if self.rule.both_ends:
            # both factors are multiplied first: floating-point products commute, so a symmetric graph stays
            # symmetric to the last bit, and is stored once
            factor = factor * scale[rows.col]
        return replace(rows, value=rows.value * factor)

    @property
    def _index(self) -> type[np.int32] | type[np.int64]:
        return np.int32 if max(self.num_entries, self.adjacency.num_rows) < 2**31 else np.int64


def num_self_loops(kind: Normalization, num_nodes: int) -> int:
    """Number of entries that `normalized` adds to a graph without self loops."""
    return 0 if RULES[kind].loops == "given" else num_nodes


def num_normalized_entries(
    adjacency: Csr, kind: Normalization, *, weighted: bool, apart: bool = False
) -> int:
    """Number of entries of the normalised adjacency.

    Args:
        adjacency: as in `Graph`.
        kind: normalisation.
        weighted: as in `Graph`.
        apart: as for `normalized`.

    Raises:
        DataError: a weight is negative, as in `normalized`.
    """
    return Normalizer.of(adjacency, kind, weighted=weighted, apart=apart).num_entries


def keeps_symmetry(kind: Normalization) -> bool:
    """Whether the normalised adjacency of an undirected graph is symmetric."""
    return RULES[kind].power is None or RULES[kind].both_ends


def is_undirected(adjacency: Csr) -> bool:
    """Whether every edge has a reverse of the same weight, parallel ones taken together.

    Args:
        adjacency: as in `Graph`.
    """
    if all(rows.rise for _, _, rows in row_blocks(adjacency)):
        return is_symmetric(adjacency)
    return is_symmetric(normalized(adjacency, "none", weighted=True))


def _loops_of(rule: _Rule, adjacency: Csr, *, weighted: bool, entries: bool) -> Loops | None:
    """The self loops that are put in; None for none."""
    if rule.loops == "one":
        return Loops.one_each(adjacency, weighted=weighted, entries=entries)
    return Loops.missing(adjacency) if rule.loops == "missing" else None


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
