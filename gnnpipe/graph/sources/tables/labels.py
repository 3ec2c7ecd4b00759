"""Labels and splits of node tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from gnnpipe.config.run import LabelTask
from gnnpipe.errors import DataError, shown
from gnnpipe.graph.sources.raw import KnownTask
from gnnpipe.graph.sources.tables.arrow import arrow, as_numbers, as_text, missing, other_notation
from gnnpipe.graph.sources.tables.ids import Ids
from gnnpipe.graph.sources.tables.names import listed
from gnnpipe.graph.sources.tables.nodes import Rows
from gnnpipe.graph.sources.tables.roles import NodeTable
from gnnpipe.graph.sources.tables.sets import distinct
from gnnpipe.graph.sources.tables.table import Batch
from gnnpipe.graph.splits import SPLIT_WORDS, Masks

MOST_CLASSES = 10_000
# With more classes than this, at most half of the labels may be different: else they are ids or values.
_FEW_CLASSES = 100
_MOST_WORDS = 1_000
# float64 tells neighbouring whole numbers apart up to here.
_EXACT = 2**53


@dataclass(frozen=True)
class TableLabels:
    """Labels of all nodes."""

    values: np.ndarray
    """int64 ``[num_nodes]`` classes, -1 for none; or float32 ``[num_nodes]`` or ``[num_nodes, num_labels]``,
    NaN for none."""
    class_names: tuple[str, ...] = ()
    """Name of each class, or of each column of 0 and 1; empty where the file numbers classes 0, 1, 2 and so
    on."""
    task: KnownTask = "classes"
    """Whether they are classes (columns of 0 and 1 included), or values to be predicted."""


def read_labels(
    tables: tuple[NodeTable, ...], rows: list[Rows], ids: Ids, task: LabelTask
) -> TableLabels | None:
    """The labels in all tables; None where there are none.

    Raises:
        DataError: a label is neither a number nor text like the others, or does not suit the task.
    """
    columns = [name for nodes in tables for name in nodes.labels]
    if not columns:
        return None
    values = np.full((len(ids), len(columns)), np.nan)
    names: tuple[str, ...] = ()
    for nodes, table_rows in zip(tables, rows, strict=True):
        for name in nodes.labels:
            read = _read_column(nodes, name, table_rows)
            numbers, names = read
            values[table_rows.nodes, columns.index(name)] = numbers
            _check_notation(names, f"{nodes.table.name}, column {shown(name)}", task)
            if names and len(columns) > 1:
                raise DataError(
                    f"{nodes.table.name}, column {shown(name)}: it holds text ({listed(names)}); where "
                    "--label names several columns, each holds 0 or 1"
                )
    what = f"labels (column {listed(columns)})"
    if len(columns) > 1:
        return _several(values, columns, ids, task)
    single = values[:, 0]
    if names:
        if task == "regression":
            raise DataError(
                f"{what}: text ({listed(names)}) can't be predicted as values; give --task classes"
            )
        return TableLabels(np.where(np.isnan(single), -1, single).astype(np.int64), names)
    return _numbers(single, what, ids, task)


def case_notes(class_names: tuple[str, ...]) -> list[str]:
    """A note where classes differ in their case alone."""
    first: dict[str, str] = {}
    for name in class_names:
        other = first.setdefault(name.casefold(), name)
        if other != name:
            return [f"labels: classes {shown(other)} and {shown(name)} differ in their case alone"]
    return []


def _check_notation(texts: tuple[str, ...], where: str, task: LabelTask) -> None:
    """Refuse numbers in a notation that would make each of them a class."""
    if task != "classes" and (text := other_notation(texts)):
        raise DataError(
            f"{where}: '{shown(text)}' and all other labels are numbers with a decimal comma, marks between "
            "thousands or a unit; write them as 0.5 and 1234, or give --task classes if each names a "
            "class"
        )


def _read_column(nodes: NodeTable, name: str, rows: Rows) -> tuple[np.ndarray, tuple[str, ...]]:
    """A column's numbers, NaN for none, row by row; for text the number of each class, and their names."""

    def read(batches: Iterator[Batch]) -> tuple[np.ndarray, tuple[str, ...]]:
        numbers, codes = np.full(len(rows.nodes), np.nan), dict[str, int]()
        first = 0
        for batch in batches:
            part = numbers[first : first + len(batch)]
            part[:], bad = as_numbers(batch.columns[name])
            if bad.any() or codes:
                _encode(batch, name, part, bad, codes, is_first=first == 0 or bool(codes))
            first += len(batch)
        if not codes:
            return numbers, ()
        names = sorted(codes)
        position = np.empty(len(names))
        position[[codes[text] for text in names]] = np.arange(len(names))
        has_one = ~np.isnan(numbers)
        numbers[has_one] = position[numbers[has_one].astype(np.int64)]
        return numbers, tuple(names)

    return nodes.table.passed({name: arrow().float64()}, read)


def _encode(
    batch: Batch, name: str, part: np.ndarray, bad: np.ndarray, codes: dict[str, int], *, is_first: bool
) -> None:
    """Replace ``part`` by the codes of a batch's text, in order of their first occurrence."""
    if not is_first:
        raise _mixed(batch, name, int(bad.argmax()))
    texts = as_text(batch.columns[name])
    absent = np.asarray(missing(texts))
    if not (bad | absent).all():
        raise _mixed(batch, name, int(bad.argmax()) if bad.any() else int((~absent).argmax()))
    encoded = texts.dictionary_encode()
    words = encoded.dictionary.to_pylist()
    indices = np.asarray(encoded.indices.fill_null(0))
    present = set(np.unique(indices[~absent]).tolist())
    for index, word in enumerate(words):
        if index in present:
            codes.setdefault(word, len(codes))
    if len(codes) > MOST_CLASSES:
        raise DataError(
            f"{batch.part.path.name}, column {shown(name)}: it holds more than {MOST_CLASSES:,} different "
            f"texts, such as '{shown(next(iter(codes)), 40)}', which are no classes; name another column "
            "with --label"
        )
    code = np.array([codes.get(word, -1) for word in words], np.float64)
    part[:] = np.where(absent, np.nan, code[indices] if len(code) else np.nan)


def _mixed(batch: Batch, name: str, row: int) -> DataError:
    value = shown(batch.cell(row, name))
    return DataError(
        f"{batch.place(row, name)}: labels are numbers in some rows and text in others ('{value}'); write "
        "all classes as numbers or all as text, and leave the cell empty where a node has no label"
    )


def _several(values: np.ndarray, columns: list[str], ids: Ids, task: LabelTask) -> TableLabels:
    """Labels of several columns: 0 and 1, or values where the task is regression."""
    odd = ~(np.isnan(values) | (values == 0) | (values == 1))
    decimals = bool((odd & (values != np.trunc(values))).any())
    if odd.any() and not (task == "regression" or (decimals and task == "auto")):
        node, column = np.argwhere(odd)[0]
        raise DataError(
            f"labels: {values[node, column]:g} of node {ids.name(node)}, column {shown(columns[column])}, is "
            "neither 0 nor 1; name one column of classes with --label, or give --task regression to "
            "predict values"
        )
    if task == "regression" or odd.any():
        return TableLabels(values.astype(np.float32), task="regression")
    return TableLabels(values.astype(np.float32), tuple(columns))


def _numbers(values: np.ndarray, what: str, ids: Ids, task: LabelTask) -> TableLabels:
    """Labels that are numbers: values to be predicted, or classes in numeric order."""
    known = distinct(values[~np.isnan(values)])
    whole = bool((known == np.trunc(known)).all()) and bool(np.isfinite(known).all())
    if task == "regression" or (task == "auto" and not whole):
        with np.errstate(over="ignore"):
            narrow = values.astype(np.float32)
        if not np.isfinite(narrow[~np.isnan(values)]).all():
            node = int((~np.isfinite(narrow) & ~np.isnan(values)).argmax())
            raise DataError(
                f"{what}: {values[node]:g} of node {ids.name(node)} is no finite number of 32 bits"
            )
        return TableLabels(narrow, task="regression")
    if not whole:
        node = int(((values != np.trunc(values)) & ~np.isnan(values)).argmax())
        raise DataError(
            f"{what}: {values[node]:g} of node {ids.name(node)} is no class; classes are whole numbers or "
            "text"
        )
    if len(known) and max(abs(known[0]), abs(known[-1])) >= _EXACT:
        raise DataError(
            f"{what}: {known[np.abs(known).argmax()]:.0f} is above 2^53, where neighbouring numbers can't be "
            "told apart; write classes as text or smaller numbers, or give --task regression to predict "
            "values"
        )
    return _classes(values, known.astype(np.int64), what, task)


def _classes(values: np.ndarray, known: np.ndarray, what: str, task: LabelTask) -> TableLabels:
    if -1 in known and ((len(known) == 2 and 1 in known) or known[0] < -1):
        raise DataError(
            f"{what}: -1 means that a node has no label, but it seems to be a class beside "
            f"{', '.join(str(one) for one in known[:3] if one != -1)}; number the classes 0, 1, 2 and so "
            "on, or give --task regression to predict values"
        )
    classes = known[known != -1]
    num_labelled = int((~np.isnan(values) & (values != -1)).sum())
    many = len(classes) > _FEW_CLASSES and len(classes) > num_labelled / 2
    if len(classes) > MOST_CLASSES or (many and task == "auto"):
        raise DataError(
            f"{what}: {len(classes):,} different numbers for {num_labelled:,} nodes; give --task "
            "regression to predict values, or name the column of the classes with --label"
        )
    has_one = ~np.isnan(values) & (values != -1)
    labels = np.full(len(values), -1, np.int64)
    labels[has_one] = np.searchsorted(classes, values[has_one].astype(np.int64))
    in_order = bool((classes == np.arange(len(classes))).all())
    return TableLabels(labels, () if in_order else tuple(str(one) for one in classes))


def read_splits(tables: tuple[NodeTable, ...], rows: list[Rows], num_nodes: int) -> Masks | None:
    """The three masks, from the one table that has a column of the split; None where none has.

    Raises:
        DataError: a cell is neither a split's name nor empty.
    """
    for nodes, table_rows in zip(tables, rows, strict=True):
        if nodes.split:
            split = np.full(num_nodes, -1, np.int8)
            for batch in nodes.table.batches({nodes.split: arrow().string()}):
                split[table_rows.of(batch)] = _splits_in(batch, nodes.split)
            train, val, test = (torch.from_numpy(split == number) for number in range(3))
            return train, val, test
    return None


def _splits_in(batch: Batch, name: str) -> np.ndarray:
    pa = arrow()
    texts = pa.compute.fill_null(as_text(batch.columns[name]), "")
    encoded = texts.dictionary_encode()
    words = encoded.dictionary.to_pylist()
    empty = set(encoded.dictionary.filter(missing(encoded.dictionary)).to_pylist())
    unknown = [word for word in words[:_MOST_WORDS] if word not in empty and word.lower() not in SPLIT_WORDS]
    if unknown or len(words) > _MOST_WORDS:
        row = int(np.asarray(pa.compute.equal(texts, unknown[0])).argmax()) if unknown else 0
        raise DataError(
            f"{batch.place(row, name)}: {listed([repr(word) for word in unknown])} name no split; write "
            "train, val (valid, validation) or test, and nothing for nodes in none, or give --split none"
        )
    numbers = np.array([-1 if word in empty else SPLIT_WORDS[word.lower()] for word in words], np.int8)
    return numbers[np.asarray(encoded.indices)]
