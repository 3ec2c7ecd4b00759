"""Recall of each class of a finished run, and warnings of classes that its metric hides."""

from __future__ import annotations

from collections.abc import Sequence

from gnnpipe.config.run import Metric
from gnnpipe.errors import shown
from gnnpipe.nn.metrics import ClassCounts, Classes

# With more than MOST_LISTED classes, tables list the WORST_LISTED ones only.
MOST_LISTED, WORST_LISTED = 10, 5
# Metrics that the largest classes dominate, by the name that a warning calls them.
_OF_THE_MANY: dict[Metric, str] = {"accuracy": "accuracy", "f1": "micro-F1"}


def class_rows(classes: Classes | None, names: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Rows of the final table: recall and nodes of each class, or of the worst ones; none if the run did not
    count classes.

    Args:
        classes: counts by class.
        names: name of each class; empty where classes are numbers.
    """
    if classes is None:
        return []
    table = classes.test
    present = _present(table)
    if not present:
        return []
    chosen = present
    title = "recall on test nodes"
    if len(present) > MOST_LISTED:
        chosen = sorted(present, key=lambda index: _recall(table, index))[:WORST_LISTED]
        title = f"recall on test nodes, worst {WORST_LISTED} of {len(present)} classes"
    lines = ((f"  class {_name(i, names)}", f"{_recall(table, i):.4f} of {table.count[i]:,}") for i in chosen)
    return [(title, ""), *lines]


def class_warnings(classes: Classes | None, metric: Metric, names: Sequence[str] = ()) -> list[str]:
    """Warnings of classes that a good metric may hide: those never predicted, and those with less than half
    the recall of all test nodes. Arguments as for `class_rows`, and the metric of the run."""
    if classes is None:
        return []
    table = classes.test
    present = _present(table)
    if len(present) < 2:
        return []
    average = sum(table.correct) / sum(table.count)
    never = [index for index in present if not table.predicted[index]]
    missed = [i for i in present if table.predicted[i] and _recall(table, i) < average / 2]
    lines = []
    if never:
        lines.append(f"{_named(never, table, names)} never predicted")
    if missed:
        lines.append(f"{_named(missed, table, names)} found less than half as often as nodes are on average")
    name = _OF_THE_MANY.get(metric)
    way_out = "--metric macro_f1 counts all alike"
    hint = f"; {name} hardly shows it, {way_out}" if name else ""
    return [f"warning: {line}{hint}" for line in lines]


def _present(table: ClassCounts) -> list[int]:
    """Classes that have test nodes."""
    return [index for index, count in enumerate(table.count) if count]


def _recall(table: ClassCounts, index: int) -> float:
    return table.correct[index] / table.count[index]


def _name(index: int, names: Sequence[str]) -> str:
    return shown(names[index]) if index < len(names) else str(index)


def _named(classes: list[int], table: ClassCounts, names: Sequence[str]) -> str:
    """Subject and verb of a warning: the classes, and their share of the test labels."""
    nodes = f"{sum(table.count[index] for index in classes):,} of {sum(table.count):,} test labels"
    if len(classes) == 1:
        return f"class {_name(classes[0], names)} ({nodes}) is"
    listed = ", ".join(_name(index, names) for index in classes[:WORST_LISTED])
    more = " and others" if len(classes) > WORST_LISTED else ""
    return f"{len(classes)} classes ({listed}{more}; {nodes}) are"
