"""Edges of a table, as numbers of nodes in a file of their own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gnnpipe.config.importing import UnknownNodes
from gnnpipe.errors import DataError, shown
from gnnpipe.files.spool import Spool, release
from gnnpipe.graph.sources.tables.arrow import arrow, as_numbers
from gnnpipe.graph.sources.tables.ids import (
    Ids,
    TextIdsError,
    Values,
    WholeIds,
    concatenated,
    id_type,
    ids_in,
    looks_like_text,
    make_ids,
)
from gnnpipe.graph.sources.tables.roles import EdgeTable
from gnnpipe.graph.sources.tables.sets import TextSet, WholeSet, distinct, new_set
from gnnpipe.graph.sources.tables.table import Batch, Table, joined

# Edges that are looked at to tell whether any has its reverse.
_SAMPLED = 500_000
_BLOCK = 1 << 20
# Numbers of features and types stay as they are if the largest is at most this many times their number.
_GAPS, _FEW = 4, 1_000
MOST_TYPES = 1_000
"""Types of edges that are named, or renumbered."""
_WEIGHT_CURE = "give each edge a finite number, or --weight none to count each as 1"
_FEATURE_CURE = "give each edge a finite number, or leave the column out of --edge-features"


def collect_ids(table: Table, columns: tuple[str, ...], found: WholeSet | TextSet, known: Ids | None) -> None:
    """Add the ids in some columns to a set, except those that are known."""
    is_text = isinstance(found, TextSet)

    def collect(batches: Iterator[Batch]) -> None:
        for batch in batches:
            for column in columns:
                values = ids_in(batch, column, is_text=is_text)
                found.add(values if known is None else known.only(values, known.find(values) < 0))

    table.passed(dict.fromkeys(columns, id_type(is_text=is_text)), collect)


def numbered(table: Table, column: str) -> Ids:
    """The different values of a column, which numbers stand for: whole numbers from 0 on for themselves."""
    is_text = bool(looks_like_text([(table, column)]))
    found = new_set(is_text=is_text)
    try:
        collect_ids(table, (column,), found, None)
    except TextIdsError:
        is_text, found = True, new_set(is_text=True)
        collect_ids(table, (column,), found, None)
    values = make_ids(found.result(), is_text=is_text)
    if isinstance(values, WholeIds) and len(values) and values.values[0] >= 0:
        largest = int(values.values[-1])
        if largest < _GAPS * len(values) + _FEW:  # those that don't occur stay
            return WholeIds(np.arange(largest + 1))
    return values


def _types_of(edges: EdgeTable) -> Ids | None:
    """The types of edges; None where they have none. Raises DataError where there are too many."""
    if edges.type is None:
        return None
    types = numbered(edges.table, edges.type)
    if types.node_ids() is not None and len(types) > MOST_TYPES:
        raise DataError(
            f"{edges.table.name}: column {shown(edges.type)} has {len(types):,} different values, and "
            f"at most {MOST_TYPES:,} types can have names; number them from 0 on, or name another column"
        )
    return types


@dataclass(frozen=True)
class EdgeArrays:
    """Edges as numbers of nodes."""

    index: np.ndarray
    """int32 or int64 ``[2, num_edges]``, mapped from a file."""
    weight: np.ndarray | None
    """float32 ``[num_edges]``, mapped from a file."""
    dropped: int
    """Number of edges left out, as an end is no node."""
    attr: np.ndarray | None
    """float32 ``[num_edges, edge_dim]``, mapped from a file; None if edges have no features."""
    type: np.ndarray | None
    """int64 ``[num_edges]``, mapped from a file; None if edges have no types."""
    type_names: tuple[str, ...]
    """Name of each type; empty where they are numbers from 0 on."""


def read_edges(edges: EdgeTable, ids: Ids, unknown: UnknownNodes, scratch: Path, name: str) -> EdgeArrays:
    """Number the ends of all edges.

    Args:
        edges: the table.
        ids: all nodes.
        unknown: ``drop`` leaves edges to other nodes out, all else refuses them.
        scratch: folder for the files.
        name: beginning of their names; files of an earlier attempt have another.

    Raises:
        DataError: an id or a weight is missing or damaged, or an end is no node.
        TextIdsError: an id is text, and the nodes' are whole numbers.
    """
    kinds = _types_of(edges)
    types = dict.fromkeys((edges.source, edges.target), id_type(is_text=ids.is_text))
    types |= dict.fromkeys(filter(None, (edges.weight, *edges.features)), arrow().float64())
    if kinds is not None and edges.type:
        types[edges.type] = id_type(is_text=kinds.is_text)
    attempts = itertools.count()

    def number(batches: Iterator[Batch]) -> EdgeArrays:
        spools = _Spools.made(scratch, f"{name}-{next(attempts)}", edges, len(ids))
        try:
            dropped = sum(
                _append(group, edges, ids, kinds, unknown, spools)
                for group in joined(batches, ids.least_rows)
            )
        finally:
            spools.close()
        return spools.mapped(dropped, kinds)

    return edges.table.passed(types, number)


@dataclass(frozen=True)
class _Spools:
    """Files of the columns that edges have; a row of each is an edge."""

    ends: Spool
    weight: Spool | None
    attr: Spool | None
    type: Spool | None

    @classmethod
    def made(cls, scratch: Path, name: str, edges: EdgeTable, num_nodes: int) -> _Spools:
        """New files, appended to as edges come, whatever their number."""
        width = len(edges.features)
        return cls(
            Spool(scratch / f"{name}-edges", np.int32 if num_nodes < 2**31 else np.int64, 2),
            Spool(scratch / f"{name}-weights", np.float32) if edges.weight else None,
            Spool(scratch / f"{name}-edge-features", np.float32, width) if width else None,
            Spool(scratch / f"{name}-edge-types", np.int64) if edges.type else None,
        )

    def close(self) -> None:
        """Release the files."""
        for spool in filter(None, (self.ends, self.weight, self.attr, self.type)):
            spool.close()

    def mapped(self, dropped: int, kinds: Ids | None) -> EdgeArrays:
        """The arrays, mapped."""
        columns = (self.weight, self.attr, self.type)
        weight, attr, type_ = (None if spool is None else spool.mapped() for spool in columns)
        names = None if kinds is None else kinds.node_ids()
        type_names = () if names is None else tuple(str(names[number]) for number in range(len(names)))
        return EdgeArrays(self.ends.mapped().T, weight, dropped, attr, type_, type_names)


def _append(
    group: list[Batch], edges: EdgeTable, ids: Ids, kinds: Ids | None, unknown: UnknownNodes, spools: _Spools
) -> int:
    """Write the edges of some batches; returns the number of those left out."""
    ends = _numbers(group, (edges.source, edges.target), ids)
    is_known = np.all(ends >= 0, axis=1)
    if not is_known.all():
        if unknown != "drop":
            raise _unknown(group, edges, ends)
        ends = ends[is_known]
    spools.ends.append(ends)
    if spools.weight is not None and edges.weight:
        spools.weight.append(_finite(group, (edges.weight,), "weight", _WEIGHT_CURE)[is_known, 0])
    if spools.attr is not None:
        spools.attr.append(_finite(group, edges.features, "feature", _FEATURE_CURE)[is_known])
    if spools.type is not None and kinds is not None and edges.type:
        spools.type.append(_numbers(group, (edges.type,), kinds)[is_known, 0])
    return len(is_known) - len(ends)


def _finite(group: list[Batch], columns: tuple[str, ...], what: str, cure: str) -> np.ndarray:
    """float32 ``[num_rows, num_columns]`` of some batches, as `finite_numbers`."""
    return np.concatenate(
        [np.stack([finite_numbers(batch, name, what, cure) for name in columns], axis=1) for batch in group]
    )


def _numbers(group: list[Batch], columns: tuple[str, ...], ids: Ids) -> np.ndarray:
    """The nodes that columns name, -1 for others: int64 ``[num_rows, num_columns]``."""
    values: list[Values] = [
        ids_in(batch, column, is_text=ids.is_text) for column in columns for batch in group
    ]
    return ids.find(concatenated(values, is_text=ids.is_text)).reshape(len(columns), -1).T


def _unknown(group: list[Batch], edges: EdgeTable, ends: np.ndarray) -> DataError:
    """The error of the first edge with an end that is no node."""
    row = int((ends < 0).any(axis=1).argmax())
    column = edges.source if ends[row, 0] < 0 else edges.target
    for batch in group:
        if row < len(batch):
            break
        row -= len(batch)
    value = shown(batch.cell(row, column))
    return DataError(
        f"{batch.place(row, column)}: node '{value}' is in no node table; mend it, or give --unknown add "
        "(a node without label, of features 0) or --unknown drop (leave such edges out)"
    )


def finite_numbers(batch: Batch, column: str, what: str, cure: str) -> np.ndarray:
    """float32 ``[num_rows]``.

    Args:
        batch: rows of a table.
        column: its column of numbers.
        what: word for such a number, for messages.
        cure: the way out, for messages.

    Raises:
        DataError: a cell is missing, or no number that is finite as float32.
    """
    numbers, bad = as_numbers(batch.columns[column])
    with np.errstate(over="ignore"):
        finite = numbers.astype(np.float32)
    bad |= ~np.isfinite(finite)
    if bad.any():
        row = int(bad.argmax())
        cell = batch.columns[column][row].as_py()
        is_missing = cell is None or cell == ""
        words = f"the {what} is missing" if is_missing else f"'{shown(str(cell))}' is no {what}"
        raise DataError(f"{batch.place(row, column)}: {words}; {cure}")
    return finite


def goes_one_way(index: np.ndarray) -> bool:
    """Whether no edge has its reverse, among a few million edges at most; loops aside."""
    num_edges = index.shape[1]
    every = max(1, num_edges // _SAMPLED)
    ways: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for begin in range(0, num_edges, _BLOCK):
        source, target = index[:, begin : begin + _BLOCK].astype(np.uint64)
        pair = (np.minimum(source, target) << np.uint64(32)) | np.maximum(source, target)
        # both directions of a pair have the same hash, so that both are sampled or none
        sampled = ((pair * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(33)) % np.uint64(every) == 0
        ways[0].append(distinct(pair[sampled & (source < target)]))
        ways[1].append(distinct(pair[sampled & (source > target)]))
        release(index)
    rising, falling = (distinct(np.concatenate([np.zeros(0, np.uint64), *way])) for way in ways)
    return len(rising) + len(falling) > 0 and not len(np.intersect1d(rising, falling, assume_unique=True))
