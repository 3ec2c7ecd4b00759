"""Ids of nodes, which tables name by whole numbers or text, as numbers 0, 1, 2 and so on.

whole numbers    a direct table where their range is small, else a search in the sorted ids
text             pyarrow's hash table, built again for each large group of rows
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from gnnpipe.errors import DataError, shown
from gnnpipe.graph.ids import NodeIds
from gnnpipe.graph.sources.tables.arrow import Column, arrow, as_text, as_whole
from gnnpipe.graph.sources.tables.table import Batch, Table

Values = Any
"""Ids as read: int64 ``[num_rows]``, or a pyarrow array of text."""
# A direct table is used for ids whose range is at most this many times their number, and takes at most this
# many entries of 4 bytes.
_RANGE, _MOST_DIRECT = 8, 1 << 28
# Least and most rows of a group whose text is looked up.
_LEAST_GROUP, _MOST_GROUP = 1 << 18, 1 << 23
# Rows that are looked at to tell text from numbers.
_SAMPLE = 10_000
# Words for the kinds of cells that `as_whole` tells apart.
_WORDS = {2: "is no whole number", 3: "is too large for a whole number of 64 bits"}
_NO_ID = "the id is missing; fill it in, or take the row out"


class TextIdsError(Exception):
    """Ids were taken for whole numbers, and one is text; the message says where."""


def looks_like_text(columns: Iterable[tuple[Table, str]]) -> str:
    """Where the first rows have an id that is text, or has leading zeros; empty if all are whole numbers."""
    pa = arrow()
    for table, column in columns:
        batch = table.first_batch((column,))
        if batch is None:
            continue
        cells = batch.columns[column][:_SAMPLE]
        if pa.types.is_integer(cells.type) or pa.types.is_floating(cells.type):
            continue
        _, kinds = as_whole(cells)
        padded = pa.compute.match_substring_regex(as_text(cells), "^-?0[0-9]").fill_null(False)
        text = (kinds == 1) | np.asarray(padded)
        if text.any():
            return _cell(batch, column, int(text.argmax()))
    return ""


def _cell(batch: Batch, column: str, row: int) -> str:
    return f"'{shown(batch.cell(row, column))}' in {batch.place(row, column)}"


def ids_in(batch: Batch, column: str, *, is_text: bool) -> Values:
    """The ids in a column.

    Raises:
        DataError: an id is missing, no whole number, or too large.
        TextIdsError: an id is text, though ``is_text`` is False.
    """
    cells = batch.columns[column]
    if is_text and not arrow().types.is_floating(cells.type):
        texts = as_text(cells)
        empty = np.asarray(arrow().compute.equal(texts, "").fill_null(True))
        if empty.any():
            raise DataError(f"{batch.place(int(empty.argmax()), column)}: {_NO_ID}")
        return texts
    values, kinds = as_whole(cells)
    if kinds.any():
        raise _no_id(batch, column, kinds)
    return as_text(arrow().array(values)) if is_text else values  # 17.0 is the id 17


def _no_id(batch: Batch, column: str, kinds: np.ndarray) -> DataError | TextIdsError:
    """The error of the first cell that is no whole number."""
    if (kinds == 1).any():
        return TextIdsError(_cell(batch, column, int((kinds == 1).argmax())))
    row = int((kinds != 0).argmax())
    if kinds[row] == 4:
        return DataError(f"{batch.place(row, column)}: {_NO_ID}")
    value = shown(batch.cell(row, column))
    return DataError(
        f"{batch.place(row, column)}: '{value}' {_WORDS[int(kinds[row])]}; ids are whole numbers, or text"
    )


def id_type(*, is_text: bool) -> Any:
    """The pyarrow type to read ids as."""
    return arrow().large_string() if is_text else arrow().int64()


class WholeIds:
    """Ids that are whole numbers.

    Args:
        ids: int64 ``[num_nodes]``: the id of each node; no two are equal.
    """

    is_text = False
    least_rows = _LEAST_GROUP
    """Rows to look up at once, at least: more of them are closer to each other among the sorted ids."""

    def __init__(self, ids: np.ndarray) -> None:
        self.values = ids
        self._low = int(ids.min()) if len(ids) else 0
        span = int(ids.max()) - self._low + 1 if len(ids) else 0
        self._in_order = span == len(ids) and bool((np.diff(ids) == 1).all())
        self._table = self._sorted = self._order = None
        if self._in_order:
            self._span = span
        elif span <= min(max(_RANGE * len(ids), 1 << 16), _MOST_DIRECT):
            self._table = np.full(span, -1, np.int32)
            self._table[ids - self._low] = np.arange(len(ids), dtype=np.int32)
        else:
            self._order = np.argsort(ids)
            self._sorted = ids[self._order]

    def __len__(self) -> int:
        """Number of nodes."""
        return len(self.values)

    def find(self, values: np.ndarray) -> np.ndarray:
        """The number of each node, -1 where there is none: int64 ``[num_rows]``."""
        if self._sorted is not None and self._order is not None:
            return self._search(values, self._sorted, self._order)
        # distances from the lowest id, wrapped around: those below it become huge
        distance = values.view(np.uint64) - np.uint64(self._low % 2**64)
        table = self._table
        outside = distance >= np.uint64(len(table) if table is not None else self._span)
        numbers = distance.view(np.int64)
        numbers[outside] = 0
        if table is not None:
            numbers = table[numbers].astype(np.int64)
        numbers[outside] = -1
        return numbers

    @staticmethod
    def _search(values: np.ndarray, ids: np.ndarray, order: np.ndarray) -> np.ndarray:
        # sorted values walk through the ids in order, so that each piece of them is in the cache
        by_value = np.argsort(values)
        wanted = values[by_value]
        at = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
        numbers = np.empty(len(values), np.int64)
        numbers[by_value] = np.where(ids[at] == wanted, order[at], -1)
        return numbers

    def with_more(self, more: np.ndarray) -> WholeIds:
        """These ids, and those of more nodes behind them."""
        return WholeIds(np.concatenate([self.values, more])) if len(more) else self

    def only(self, values: np.ndarray, keep: np.ndarray) -> np.ndarray:
        """The values at which ``keep`` holds."""
        return values[keep]

    def name(self, node: int) -> str:
        """The id of a node for a message."""
        return str(self.values[node])

    def node_ids(self) -> NodeIds | None:
        """The ids for the graph; None where they are 0, 1, 2 and so on."""
        return None if self._in_order and self._low == 0 else NodeIds(self.values)


class TextIds:
    """Ids that are text.

    Args:
        ids: pyarrow large_string ``[num_nodes]``: the id of each node; no two are equal.
    """

    is_text = True

    def __init__(self, ids: Column) -> None:
        self.values = ids.combine_chunks() if isinstance(ids, arrow().ChunkedArray) else ids

    def __len__(self) -> int:
        """Number of nodes."""
        return len(self.values)

    @property
    def least_rows(self) -> int:
        """Rows to look up at once, at least: as many as there are nodes, as each group makes a hash table."""
        return min(max(len(self), _LEAST_GROUP), _MOST_GROUP)

    def find(self, values: Column) -> np.ndarray:
        """The number of each node, -1 where there is none: int64 ``[num_rows]``."""
        found = arrow().compute.index_in(values, value_set=self.values)
        return np.asarray(found.fill_null(-1)).astype(np.int64)

    def with_more(self, more: Column) -> TextIds:
        """These ids, and those of more nodes behind them."""
        pa = arrow()
        return TextIds(pa.chunked_array([self.values, more], pa.large_string())) if len(more) else self

    def only(self, values: Column, keep: np.ndarray) -> Column:
        """The values at which ``keep`` holds."""
        return values.filter(arrow().array(keep))

    def name(self, node: int) -> str:
        """The id of a node for a message."""
        return f"'{shown(self.values[node].as_py())}'"

    def node_ids(self) -> NodeIds:
        """The ids for the graph."""
        _, offsets, content = self.values.buffers()
        first, length = self.values.offset, len(self.values)
        start = np.frombuffer(offsets, np.int64)[first : first + length + 1]
        text = np.frombuffer(content, np.uint8) if content is not None else np.zeros(0, np.uint8)
        return NodeIds(text[start[0] : start[-1]].copy(), start - start[0])


Ids = WholeIds | TextIds


def make_ids(values: Values, *, is_text: bool) -> Ids:
    """Ids of a kind in the order given."""
    return TextIds(values) if is_text else WholeIds(values)


def concatenated(values: list[Values], *, is_text: bool) -> Values:
    """Ids of several batches behind each other."""
    pa = arrow()
    if is_text:
        chunks = [
            chunk for value in values for chunk in (value.chunks if hasattr(value, "chunks") else [value])
        ]
        return pa.chunked_array(chunks, pa.large_string()).combine_chunks()
    return np.concatenate([np.zeros(0, np.int64), *values])


def first_repeat(values: Values, *, is_text: bool) -> tuple[int, int] | None:
    """Positions of the first id that occurs a second time: that of the first time and of the second."""
    if is_text:
        values = np.asarray(values.dictionary_encode().indices)
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    again = np.flatnonzero(ordered[1:] == ordered[:-1])
    if not len(again):
        return None
    nearest = again[order[again + 1].argmin()]
    return int(order[nearest]), int(order[nearest + 1])
