"""Tables with a row for each node: which nodes there are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from gnnpipe.errors import DataError, shown
from gnnpipe.graph.sources.tables.arrow import arrow
from gnnpipe.graph.sources.tables.ids import Ids, concatenated, first_repeat, id_type, ids_in, make_ids
from gnnpipe.graph.sources.tables.roles import NodeTable
from gnnpipe.graph.sources.tables.table import Batch


@dataclass(frozen=True)
class Rows:
    """Which node each row of a table is."""

    nodes: np.ndarray
    """int64 ``[num_rows]``, all files of the table behind each other."""

    def of(self, batch: Batch) -> np.ndarray:
        """The nodes of a batch's rows."""
        return self.nodes[batch.position : batch.position + len(batch)]


def read_nodes(tables: tuple[NodeTable, ...], *, is_text: bool) -> tuple[Ids | None, list[Rows]]:
    """All nodes in the order of the first table, then those that further tables add.

    Raises:
        DataError: an id is missing or damaged, or occurs twice in a table.
        TextIdsError: an id is text, and ``is_text`` is False.
    """
    ids: Ids | None = None
    rows = []
    for nodes in tables:
        values = _ids_of(nodes, is_text=is_text)
        if repeat := first_repeat(values, is_text=is_text):
            first, second = (nodes.table.place(row, nodes.id) for row in repeat)
            raise DataError(
                f"{second}: node {shown(str(values[repeat[0]]))} occurs a second time (first in {first}); "
                "take one row out"
            )
        is_new = ids.find(values) < 0 if ids else np.ones(len(values), bool)
        more = values.filter(arrow().array(is_new)) if is_text else values[is_new]
        ids = ids.with_more(more) if ids else make_ids(more, is_text=is_text)
        rows.append(Rows(ids.find(values)))
    return ids, rows


def _ids_of(nodes: NodeTable, *, is_text: bool) -> Any:
    """The ids of a table's rows."""

    def read(batches: Iterator[Batch]) -> Any:
        values = [ids_in(batch, nodes.id, is_text=is_text) for batch in batches]
        if not values:
            raise DataError(f"{nodes.table.name}: it names columns, but has no rows")
        return concatenated(values, is_text=is_text)

    return nodes.table.passed({nodes.id: id_type(is_text=is_text)}, read)
