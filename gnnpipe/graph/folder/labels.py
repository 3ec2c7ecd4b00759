"""Labels of a graph folder: which kind they are, and their numbers, in two passes over blocks of nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from gnnpipe.errors import DataError
from gnnpipe.files.npy import ArrayWriter, StoredArray
from gnnpipe.files.spool import copied_rows
from gnnpipe.graph.convert import without_single_column
from gnnpipe.graph.folder.edges import numpy_of
from gnnpipe.graph.folder.report import ClassSize, LabelFacts
from gnnpipe.graph.labels import LabelKind
from gnnpipe.graph.sources.raw import KnownTask

ROWS = 1 << 18
"""Nodes that are handled at once."""
MOST_LISTED = 20
"""Classes that a report lists."""


@dataclass(frozen=True)
class WrittenLabels:
    """Labels that are in the folder."""

    stored: StoredArray
    """The file."""
    facts: LabelFacts
    """Statistics, counted on the way."""
    classes: np.ndarray | None
    """int32 ``[num_nodes]``: class of each node, -1 for none; None where labels are no classes."""


def write_labels(
    path: Path,
    labels: Tensor | np.ndarray,
    task: KnownTask | None,
    names: Sequence[str] = (),
    num_classes: int = 0,
) -> WrittenLabels:
    """Write labels as class numbers (int64, -1 for none), or 0/1 columns or values (float32, NaN for none).

    Args:
        path: file to write.
        labels: ``[num_nodes]`` or ``[num_nodes, num_labels]``; -1 or NaN where a node has none.
        task: what they are; None: values if a label is no whole number.
        names: names of the classes, if they have any.
        num_classes: number of classes, where there may be more than the labels show.

    Raises:
        DataError: a label is no class number, or none of these.
    """
    given = numpy_of(labels)
    if given.dtype.kind not in "biuf" or given.ndim not in (1, 2):
        raise DataError(
            f"labels: expected numbers [num_nodes] or [num_nodes, num_labels], got {given.dtype} "
            f"{list(given.shape)}"
        )
    given = without_single_column(given)
    kind = _kind(given, task)
    if kind == "classes":
        return _write_classes(path, given, names, max(num_classes, len(names)))
    return _write_values(path, given, kind, names)


def _kind(labels: np.ndarray, task: KnownTask | None) -> LabelKind:
    if task == "regression":
        return "regression"
    bad = _first_odd(labels)
    if bad is None:
        return "classes" if labels.ndim == 1 else "multilabel"
    if task is None and bad.value % 1:
        return "regression"
    what, cure = "class number", "number the classes 0, 1, 2 and so on"
    if labels.ndim == 2:
        what, cure = "0 or 1", "where a node may have several labels each is 0 or 1, or all are NaN, for none"
    raise DataError(
        f"labels: {bad.value:g} of node {bad.node}{bad.column} is no {what}; {cure}; or use "
        "--task regression for values to be predicted as they are"
    )


@dataclass(frozen=True)
class _Odd:
    """A label that is no class; in columns, one that is neither 0 nor 1."""

    value: float
    node: int
    column: str
    """Its column as a message names it; empty where there is one only."""


def _first_odd(labels: np.ndarray) -> _Odd | None:
    """The first label with a fraction, which tells values from classes; else the first that is no class."""
    first: _Odd | None = None
    for start, block in copied_rows(labels, ROWS):
        if block.dtype.kind == "b":
            continue
        with np.errstate(invalid="ignore"):
            odd = _is_odd(block)
            fraction = odd & (block % 1 != 0) if block.dtype.kind == "f" else np.zeros_like(odd)
        if fraction.any():
            return _odd_at(fraction, block, start)
        if first is None and odd.any():
            first = _odd_at(odd, block, start)
    return first


def _odd_at(chosen: np.ndarray, block: np.ndarray, start: int) -> _Odd:
    """The first chosen label of a block that begins with node ``start``."""
    at = np.unravel_index(int(np.flatnonzero(chosen)[0]), block.shape)
    column = f", column {at[1]}" if block.ndim == 2 else ""
    return _Odd(float(block[at]), start + int(at[0]), column)


def _is_odd(block: np.ndarray) -> np.ndarray:
    """bool, of the shape of the block: labels as in `_Odd`."""
    if block.ndim == 2:
        odd = (block != 0) & (block != 1) & ~np.isnan(block)
        odd[_no_labels(block)] = False
        return odd
    if block.dtype.kind != "f":
        return np.asarray((block < -1) | (block >= 2**53))
    return np.asarray(~np.isnan(block) & ((block % 1 != 0) | (block < -1) | (np.abs(block) >= 2**53)))


def _no_labels(block: np.ndarray) -> np.ndarray:
    """bool ``[num_rows]``: rows that are all NaN, or all -1."""
    return np.asarray(np.isnan(block).all(axis=1) | (block == -1).all(axis=1))


def _write_classes(path: Path, labels: np.ndarray, names: Sequence[str], num_classes: int) -> WrittenLabels:
    writer, num_nodes = ArrayWriter(path, np.int64), len(labels)
    classes = np.full(num_nodes, -1, dtype=np.int32)
    try:
        for start, block in copied_rows(labels, ROWS):
            number = np.where(np.isnan(block), -1, block).astype(np.int64)
            _check_largest(number, start, num_nodes, len(names), num_classes)
            classes[start : start + len(block)] = number
            writer.append(number)
        stored = writer.finish()
    finally:
        writer.close()
    sizes = np.bincount(classes[classes >= 0], minlength=num_classes)
    unlabelled = int(np.count_nonzero(classes < 0))
    if not num_classes and len(sizes) == 2 and not sizes[0] and unlabelled:
        raise DataError(
            "labels: all are -1 or 1, but -1 means that a node has no label; number the two classes 0 and 1"
        )
    facts = LabelFacts("classes", len(sizes), _largest(sizes, names), unlabelled, None)
    return WrittenLabels(stored, facts, classes)


def _check_largest(number: np.ndarray, start: int, num_nodes: int, num_names: int, num_classes: int) -> None:
    """Refuse class numbers above the names, or absurd ones; ``start`` is the first node of the block."""
    most, node = int(number.max()), start + int(number.argmax())
    if num_names and most >= num_names:
        raise DataError(
            f"labels: {most} of node {node} has no name, as there are {num_names:,} names, of classes 0 to "
            f"{num_names - 1}; name all classes, or none"
        )
    if most >= max(num_nodes, num_classes):  # more classes than nodes: these are ids, or years
        raise DataError(
            f"labels: {most} of node {node} can't be a class of a graph with {num_nodes:,} nodes; number the "
            "classes 0, 1, 2 and so on, or use --task regression for values"
        )


def _write_values(path: Path, labels: np.ndarray, kind: LabelKind, names: Sequence[str]) -> WrittenLabels:
    columns = labels.shape[1:]
    writer = ArrayWriter(path, np.float32, columns)
    sums, unlabelled, low, high = np.zeros(columns), 0, np.inf, -np.inf
    try:
        for start, block in copied_rows(labels, max(1, ROWS // max(1, *columns, 1))):
            values = _float32(block, start)
            if kind == "multilabel":
                values[_no_labels(values)] = np.nan
            missing = np.isnan(values)
            unlabelled += int(np.count_nonzero(missing.any(axis=1) if columns else missing))
            sums = sums + np.where(missing, 0, values).sum(axis=0, dtype=np.float64)
            low = min(low, float(np.min(values, initial=np.inf, where=~missing)))
            high = max(high, float(np.max(values, initial=-np.inf, where=~missing)))
            writer.append(values)
        stored = writer.finish()
    finally:
        writer.close()
    listed = _largest(sums.astype(np.int64), names) if kind == "multilabel" else ()
    spread = (low, high) if kind == "regression" and low <= high else None
    num_columns = columns[0] if columns else 1
    return WrittenLabels(stored, LabelFacts(kind, num_columns, listed, unlabelled, spread), None)


def _float32(block: np.ndarray, start: int) -> np.ndarray:
    with np.errstate(over="ignore"):
        values = block.astype(np.float32)
    bad = np.isinf(values)
    if bad.any():
        at = np.unravel_index(int(np.flatnonzero(bad)[0]), block.shape)
        raise DataError(
            f"labels: {block[at]} of node {start + int(at[0])} is infinite in float32; mend it, or write NaN "
            "where a node has no label"
        )
    return values


def _largest(sizes: np.ndarray[Any, Any], names: Sequence[str]) -> tuple[ClassSize, ...]:
    order = np.argsort(-sizes, kind="stable")[:MOST_LISTED].tolist()
    return tuple(ClassSize(names[c] if c < len(names) else str(c), int(sizes[c])) for c in order)
