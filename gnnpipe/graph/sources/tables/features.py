"""Features in columns: numbers, true and false, and text that is encoded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gnnpipe.config.importing import TablesConfig
from gnnpipe.errors import DataError, shown
from gnnpipe.files.spool import new_mapped, release
from gnnpipe.graph.sources.tables import names
from gnnpipe.graph.sources.tables.arrow import Column, arrow, as_numbers, as_text, missing, other_notation
from gnnpipe.graph.sources.tables.ids import Ids
from gnnpipe.graph.sources.tables.nodes import Rows
from gnnpipe.graph.sources.tables.roles import NodeTable
from gnnpipe.graph.sources.tables.table import BadCellError, Batch, Table

# One-hot columns that a column of text may become, and values that it may have as codes.
MOST_ONE_HOT, MOST_CODES = 1_000, 1 << 24
# float32 tells neighbouring whole numbers apart up to here.
_EXACT = 2**24
# Bytes of features that are written before their pages are given back.
_RELEASE = 1 << 26
_DATE = r"^\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([T ]\d{1,2}:\d\d.*)?$"


@dataclass(frozen=True)
class Feature:
    """A column of a table, and the columns of the feature matrix that it becomes."""

    name: str
    kind: str
    """``number``, ``flag`` (true and false) or ``text``."""
    start: int
    """Its first column in the matrix."""
    width: int
    values: Column | None = None
    """For text: its values in alphabetical order."""

    @property
    def type(self) -> Any:
        """The pyarrow type to read it as."""
        pa = arrow()
        return {"number": pa.float64(), "flag": pa.bool_(), "text": pa.string()}[self.kind]


def plan_features(tables: tuple[NodeTable, ...], config: TablesConfig) -> list[list[Feature]]:
    """For each table the features in it; raises DataError for columns that can't be features."""
    columns = [name for table in tables for name in table.features]
    as_categories = (
        set(names.chosen("categorical", config.categorical, columns)) if config.categorical else set()
    )
    plans, start = [], 0
    for nodes in tables:
        sample = nodes.table.first_batch(nodes.features) if nodes.features else None
        kinds = {name: _kind(sample, name, as_categories) for name in nodes.features} if sample else {}
        values = _all_values(
            nodes.table, [name for name, kind in kinds.items() if kind == "text"], as_categories, config
        )
        plan = []
        for name, kind in kinds.items():
            width = len(values[name]) if kind == "text" and config.categories == "one-hot" else 1
            plan.append(Feature(name, kind, start, width, values.get(name)))
            start += width
        plans.append(plan)
    return plans


def encodings(table: Table, plan: list[Feature]) -> str:
    """A line that says which columns of a table are encoded, and as how many columns; empty if none is."""
    encoded = [f"{feature.name} ({feature.width:,})" for feature in plan if feature.values is not None]
    if not encoded:
        return ""
    return f"{table.name}: encoded as categories (columns of features): {names.listed(encoded)}"


def _kind(sample: Batch, name: str, as_categories: set[str]) -> str:
    """Whether a column holds numbers, true and false, or text, judged by its first rows."""
    types, column = arrow().types, sample.columns[name]
    kind = column.type.value_type if types.is_dictionary(column.type) else column.type
    where = f"{sample.part.path.name}, column {shown(name)}"
    if types.is_temporal(kind):
        raise _date(where, str(column[0].as_py()), name)
    if name in as_categories:
        return "text"
    if types.is_boolean(kind):
        return "flag"
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return "number"
    if not (types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)):
        raise DataError(f"{where}: values of type {shown(str(kind))} can't be features; {_leave_out(name)}")
    return _kind_of_text(sample, name, where)


def _kind_of_text(sample: Batch, name: str, where: str) -> str:
    """Whether cells of text spell numbers, true and false, or neither."""
    column = sample.columns[name]
    bad = as_numbers(column)[1]
    texts = as_text(column)
    present = ~np.asarray(missing(texts))
    if not (bad & present).any():
        lower = arrow().compute.utf8_lower(texts)
        words = arrow().array(["true", "false"], lower.type)
        flags = np.asarray(arrow().compute.is_in(lower, value_set=words))
        return "flag" if present.any() and flags[present].all() else "number"
    if np.asarray(arrow().compute.match_substring_regex(texts, _DATE).fill_null(False))[present].all():
        raise _date(where, texts[int(present.argmax())].as_py(), name)
    if not bad[present].all():
        row = int(bad.argmax())
        raise _mixed(sample.place(row, name), str(column[row].as_py()), name)
    return "text"


def _date(where: str, value: str, name: str) -> DataError:
    return DataError(
        f"{where}: it holds dates ('{shown(value)}'), which are no features; write numbers, such as years or "
        f"days, or {_leave_out(name)}"
    )


def _leave_out(name: str) -> str:
    return f"leave it out with --feature-columns '!{shown(name)}'"


def _mixed(place: str, value: str, name: str) -> DataError:
    return DataError(
        f"{place}: '{shown(value)}' is no number, though other cells are; mend it, name the column in "
        f"--categorical to encode all its values, or {_leave_out(name)}"
    )


def _all_values(
    table: Table, columns: list[str], as_categories: set[str], config: TablesConfig
) -> dict[str, Column]:
    """The values of columns that hold text, in alphabetical order; numbers in numeric order."""
    if not columns:
        return {}
    pa = arrow()
    found = {name: pa.array([], pa.large_string()) for name in columns}
    most = MOST_ONE_HOT if config.categories == "one-hot" else MOST_CODES
    for batch in table.batches(dict.fromkeys(columns, pa.string())):
        for name in columns:
            texts = as_text(batch.columns[name])
            _check_present(batch, name, np.asarray(missing(texts)))
            _, bad = as_numbers(texts) if name not in as_categories else (None, np.ones(1, bool))
            if not bad.all():
                raise _mixed_text(batch, name, int((~bad).argmax()))
            found[name] = pa.compute.unique(pa.chunked_array([found[name], texts], pa.large_string()))
            if len(found[name]) > most:
                raise _too_many(batch, name, most)
    for name, values in found.items():
        text = other_notation(values.to_pylist()) if name not in as_categories else ""
        if text:
            raise DataError(
                f"{table.name}, column {shown(name)}: '{shown(text)}' and all other cells are numbers with a "
                "decimal comma, marks between thousands or a unit; write them as 0.5 and 1234, name the "
                f"column in --categorical to encode each as a category, or {_leave_out(name)}"
            )
    return {name: _ordered(values) for name, values in found.items()}


def _mixed_text(batch: Batch, name: str, row: int) -> DataError:
    value = shown(batch.cell(row, name))
    return DataError(
        f"{batch.place(row, name)}: '{value}' is a number, though other cells are text; mend it, name the "
        f"column in --categorical to encode all its values, or {_leave_out(name)}"
    )


def _too_many(batch: Batch, name: str, most: int) -> DataError:
    codes = "" if most == MOST_CODES else "give --categories codes, or "
    return DataError(
        f"{batch.part.path.name}, column {shown(name)}: it holds text with more than {most:,} different "
        f"values, such as '{shown(batch.cell(0, name), 40)}'; {codes}{_leave_out(name)}"
    )


def _ordered(values: Column) -> Column:
    numbers, bad = as_numbers(values)
    if not bad.any():
        return values.take(arrow().array(np.argsort(numbers, kind="stable")))
    return values.take(arrow().compute.sort_indices(values))


def _check_present(batch: Batch, name: str, absent: np.ndarray) -> None:
    if absent.any():
        raise DataError(
            f"{batch.place(int(absent.argmax()), name)}: the cell is empty or NaN; fill it in (with 0 or the "
            f"column's mean, say), or {_leave_out(name)}"
        )


def read_features(
    tables: tuple[NodeTable, ...], rows: list[Rows], plans: list[list[Feature]], ids: Ids, num_listed: int,
    path: Path, notes: list[str],
) -> np.ndarray | None:  # fmt: skip
    """The feature matrix, float32 ``[num_nodes, num_features]``, mapped from a new file; or None.

    Args:
        tables: node tables.
        rows: for each table, which node each of its rows is.
        plans: for each table its features.
        ids: all nodes.
        num_listed: number of nodes that the tables list; those behind them have zeros.
        path: file to make.
        notes: gets a line for whole numbers that are rounded.

    Raises:
        DataError: a cell is missing, no number, or too large; or a table lacks a node that another has.
    """
    width = sum(feature.width for plan in plans for feature in plan)
    if not width:
        return None
    matrix = new_mapped(path, np.float32, (len(ids), width))
    for nodes, table_rows, plan in zip(tables, rows, plans, strict=True):
        if not plan:
            continue
        _check_all_listed(nodes, table_rows, ids, num_listed)
        rounded: dict[str, int] = {}
        try:
            _fill(matrix, nodes.table, table_rows, plan, rounded)
        except BadCellError as bad:
            place, value = nodes.table.first_cell(bad.part, bad.column, lambda cells: as_numbers(cells)[1])
            raise _mixed(place, value, bad.column) from None
        notes += [
            f"{nodes.table.name}: column {shown(name)}: {count:,} whole numbers above {_EXACT:,} are "
            "rounded to float32"
            for name, count in rounded.items()
        ]
    return matrix


def _check_all_listed(nodes: NodeTable, rows: Rows, ids: Ids, num_listed: int) -> None:
    has_row = np.zeros(len(ids), bool)
    has_row[rows.nodes] = True
    if not has_row[:num_listed].all():
        node = int((~has_row[:num_listed]).argmax())
        raise DataError(
            f"{nodes.table.name}: it has no row for node {ids.name(node)}, which another table lists; add "
            "its features"
        )


def _fill(matrix: np.ndarray, table: Table, rows: Rows, plan: list[Feature], rounded: dict[str, int]) -> None:
    """Write a table's features into the matrix, and count whole numbers that are rounded."""
    first, last = plan[0].start, plan[-1].start + plan[-1].width
    written = 0
    for batch in table.batches({feature.name: feature.type for feature in plan}):
        block = np.zeros((len(batch), last - first), np.float32)
        for feature in plan:
            at = feature.start - first
            if feature.values is None:
                block[:, at] = _as_float32(batch, feature, rounded)
                continue
            codes = _codes(batch, feature)
            if feature.width == 1:
                block[:, at] = codes
            else:
                block[np.arange(len(batch)), at + codes] = 1
        matrix[rows.of(batch), first:last] = block
        written += block.nbytes
        if written > _RELEASE:
            release(matrix)
            written = 0
    release(matrix)


def _as_float32(batch: Batch, feature: Feature, rounded: dict[str, int]) -> np.ndarray:
    numbers, bad = as_numbers(batch.columns[feature.name])
    if bad.any():
        row = int(bad.argmax())
        value = batch.cell(row, feature.name)
        raise _mixed(batch.place(row, feature.name), value, feature.name)
    _check_present(batch, feature.name, np.isnan(numbers))
    with np.errstate(over="ignore"):
        narrow = numbers.astype(np.float32)
    if not np.isfinite(narrow).all():
        row = int((~np.isfinite(narrow)).argmax())
        raise DataError(
            f"{batch.place(row, feature.name)}: {numbers[row]:g} is no finite number of 32 bits; scale the "
            f"column down, or {_leave_out(feature.name)}"
        )
    if np.abs(narrow).max(initial=0) >= _EXACT:
        count = int(((narrow != numbers) & (numbers == np.trunc(numbers))).sum())
        if count:
            rounded[feature.name] = rounded.get(feature.name, 0) + count
    return narrow


def _codes(batch: Batch, feature: Feature) -> np.ndarray:
    """The number of each cell's value."""
    found = arrow().compute.index_in(as_text(batch.columns[feature.name]), value_set=feature.values)
    return np.asarray(found.fill_null(0))
