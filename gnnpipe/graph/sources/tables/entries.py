"""Features in long form: a row for each entry of a sparse matrix."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from gnnpipe.config.importing import UnknownNodes
from gnnpipe.errors import DataError, shown
from gnnpipe.graph.sources.tables.arrow import arrow
from gnnpipe.graph.sources.tables.edges import finite_numbers, numbered
from gnnpipe.graph.sources.tables.ids import Ids, id_type, ids_in
from gnnpipe.graph.sources.tables.roles import EntryTable
from gnnpipe.graph.sources.tables.table import Batch


@dataclass(frozen=True)
class _Rows:
    """Rows of a table in long form."""

    nodes: np.ndarray
    """int32 ``[num_rows]``, -1 where it is none."""
    features: np.ndarray
    """int32 ``[num_rows]``: columns of the matrix."""
    values: np.ndarray
    """float32 ``[num_rows]``."""


def read_entries(entries: EntryTable, ids: Ids, unknown: UnknownNodes, notes: list[str]) -> sp.csr_matrix:
    """The feature matrix, float32 ``[num_nodes, num_features]``.

    Args:
        entries: the table.
        ids: all nodes.
        unknown: ``drop`` leaves rows of other nodes out, all else refuses them.
        notes: gets a line for rows and nodes that are left out.

    Raises:
        DataError: a cell is missing or damaged, an entry occurs twice, or a row names no node.
        TextIdsError: an id is text, and the nodes' are whole numbers.
    """
    columns, width = _columns(entries)
    rows = _read(entries, ids, columns, unknown)
    num_unknown = int((rows.nodes < 0).sum())
    if num_unknown:
        notes.append(f"{entries.table.name}: {num_unknown:,} rows name no node, and are left out")
    keep = _each_once(entries, rows, width)
    num_again = len(rows.nodes) - num_unknown - len(keep)
    if num_again:
        notes.append(f"{entries.table.name}: {num_again:,} rows repeat others, and are left out")
    where = (rows.nodes[keep], rows.features[keep])
    matrix = sp.csr_matrix((rows.values[keep], where), shape=(len(ids), width), dtype=np.float32)
    without = int((np.diff(matrix.indptr) == 0).sum())
    if without:
        notes.append(
            f"{entries.table.name}: {without:,} of {len(ids):,} nodes have no row; their features are 0"
        )
    return matrix


def _columns(entries: EntryTable) -> tuple[Ids, int]:
    """The ids of the features, and the number of columns."""
    features = numbered(entries.table, entries.feature)
    if not len(features):
        raise DataError(f"{entries.table.name}: it names columns, but has no rows")
    return features, len(features)


def _read(entries: EntryTable, ids: Ids, features: Ids, unknown: UnknownNodes) -> _Rows:
    types = {entries.id: id_type(is_text=ids.is_text), entries.feature: id_type(is_text=features.is_text)}
    if entries.value:
        types[entries.value] = arrow().float64()

    def read(batches: Iterator[Batch]) -> _Rows:
        nodes, columns, values = [np.zeros(0, np.int32)], [np.zeros(0, np.int32)], [np.zeros(0, np.float32)]
        for batch in batches:
            found = ids.find(ids_in(batch, entries.id, is_text=ids.is_text))
            if unknown != "drop" and (found < 0).any():
                row = int((found < 0).argmax())
                value = shown(batch.cell(row, entries.id))
                raise DataError(
                    f"{batch.place(row, entries.id)}: node '{value}' is in no node table; mend it, or give "
                    "--unknown add or drop"
                )
            nodes.append(found.astype(np.int32))
            columns.append(
                features.find(ids_in(batch, entries.feature, is_text=features.is_text)).astype(np.int32)
            )
            values.append(_values(batch, entries.value))
        return _Rows(np.concatenate(nodes), np.concatenate(columns), np.concatenate(values))

    return entries.table.passed(types, read)


def _values(batch: Batch, column: str | None) -> np.ndarray:
    if column is None:
        return np.ones(len(batch), np.float32)
    return finite_numbers(batch, column, "value", "give each row a finite number, or take it out")


def _each_once(entries: EntryTable, rows: _Rows, width: int) -> np.ndarray:
    """Positions of the rows of known nodes, of equal rows the first; ordered by node and feature.

    Raises:
        DataError: two rows give a feature of a node different values.
    """
    key = np.where(rows.nodes < 0, -1, rows.nodes.astype(np.int64) * width + rows.features)
    order = np.argsort(key, kind="stable")
    order = order[np.searchsorted(key[order], 0) :]
    again = np.zeros(len(order), bool)
    again[1:] = key[order[1:]] == key[order[:-1]]
    differs = again[1:] & (rows.values[order[1:]] != rows.values[order[:-1]])
    if differs.any():
        at = int(differs.argmax())
        places = [entries.table.place(int(order[position]), entries.id) for position in (at, at + 1)]
        raise DataError(
            f"{places[0]} and {places[1]}: they give a feature of the same node two values, "
            f"{rows.values[order[at]]:g} and {rows.values[order[at + 1]]:g}; take one of the rows out"
        )
    return order[~again]
