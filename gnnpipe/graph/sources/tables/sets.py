"""Sets of ids that grow batch by batch."""

from __future__ import annotations

from typing import Any

import numpy as np

from gnnpipe.graph.sources.tables.arrow import Column, arrow

# Range of whole numbers up to which those that occur are marked in an array of a byte each.
_MOST_MARKED = 1 << 29
# Numbers that are collected before they are sorted and merged.
_MERGE = 1 << 22


def distinct(values: np.ndarray) -> np.ndarray:
    """The different values, ascending. `numpy.unique` hashes whole numbers, and takes ten times as long."""
    ordered = np.sort(values)
    is_first = np.ones(len(ordered), bool)
    np.not_equal(ordered[1:], ordered[:-1], out=is_first[1:])
    return ordered[is_first]


class WholeSet:
    """Collects the whole numbers that occur: marks in an array, or sorted blocks that are merged."""

    def __init__(self) -> None:
        self._low = 0
        self._marks: np.ndarray | None = np.zeros(0, bool)
        self._sorted = np.zeros(0, np.int64)
        self._pending: list[np.ndarray] = []

    def add(self, values: np.ndarray) -> None:
        """Add numbers, in any order; repeats are allowed."""
        if not len(values):
            return
        if self._marks is not None and self._make_room(int(values.min()), int(values.max())):
            self._marks[values - self._low] = True
            return
        self._pending.append(distinct(values))
        if sum(map(len, self._pending)) > max(_MERGE, len(self._sorted)):
            self._merge()

    def _make_room(self, low: int, high: int) -> bool:
        """Widen the marks to hold ``low`` to ``high``; False, and marks no more, if that takes too many."""
        marks = self._marks
        if marks is None:
            return False
        old_low, old_high = (self._low, self._low + len(marks) - 1) if len(marks) else (low, high)
        new_low, new_high = min(low, old_low), max(high, old_high)
        if len(marks) and new_low == old_low and new_high == old_high:
            return True
        if new_high - new_low >= _MOST_MARKED:
            self._pending, self._marks = [np.flatnonzero(marks) + self._low], None
            return False
        # room for twice as many, so that rising ids do not cost a copy for every batch
        size = min(_MOST_MARKED, max(new_high - new_low + 1, 2 * len(marks)))
        new_low = max(new_low, -(2**63)) if new_low == old_low else max(new_high - size + 1, -(2**63))
        wider = np.zeros(size, bool)
        wider[old_low - new_low : old_low - new_low + len(marks)] = marks
        self._marks, self._low = wider, new_low
        return True

    def _merge(self) -> None:
        self._sorted = distinct(np.concatenate([self._sorted, *self._pending]))
        self._pending = []

    def result(self) -> np.ndarray:
        """All numbers, ascending."""
        if self._marks is not None:
            return np.flatnonzero(self._marks) + self._low
        self._merge()
        return self._sorted


class TextSet:
    """Collects the texts that occur."""

    def __init__(self) -> None:
        self._merged: Any = arrow().array([], arrow().large_string())
        self._pending: list[Any] = []

    def add(self, values: Column) -> None:
        """Add texts, in any order; repeats are allowed."""
        self._pending.append(arrow().compute.unique(values))
        if sum(map(len, self._pending)) > max(_MERGE, len(self._merged)):
            self._merge()

    def _merge(self) -> None:
        pa = arrow()
        self._merged = pa.compute.unique(pa.chunked_array([self._merged, *self._pending], pa.large_string()))
        self._pending = []

    def result(self) -> Column:
        """All texts in alphabetical order (of their code points)."""
        self._merge()
        return self._merged.take(arrow().compute.sort_indices(self._merged))


def new_set(*, is_text: bool) -> WholeSet | TextSet:
    """An empty set for ids of a kind."""
    return TextSet() if is_text else WholeSet()
