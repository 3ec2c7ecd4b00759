"""Figures by class of the best epoch as tables: classes.csv and confusion.csv."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from gnnpipe.nn.metrics import Classes

COLUMNS = ("split", "class", "precision", "recall", "f1", "support", "predicted", "correct")


def class_table(classes: Classes, names: Sequence[str] = ()) -> str:
    """CSV with a line for each split and class (or label); a figure that is undefined is empty.

    Args:
        classes: counts by class.
        names: of the classes; empty where they are numbers.
    """
    lines: list[Sequence[object]] = [COLUMNS]
    for split, table in (("val", classes.val), ("test", classes.test)):
        for index in range(len(table.count)):
            figures = (table.precision(index), table.recall(index), table.f1(index))
            counts = (table.count[index], table.predicted[index], table.correct[index])
            lines.append((split, class_name(index, names), *figures, *counts))
    return _csv(lines)


def confusion_table(classes: Classes, names: Sequence[str] = ()) -> str:
    """CSV of the confusion matrix: a line for each class, a column for each predicted class.

    Args:
        classes: counts by class, with a matrix.
        names: as for `class_table`.
    """
    named = [class_name(index, names) for index in range(len(classes.confusion))]
    head = [f"{classes.reported} nodes: class (rows), predicted (columns)", *named]
    return _csv([head, *([name, *row] for name, row in zip(named, classes.confusion, strict=True))])


def class_name(index: int, names: Sequence[str]) -> str:
    """Name of a class as the data have it, or its number."""
    return names[index] if index < len(names) else str(index)


def _csv(lines: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()
