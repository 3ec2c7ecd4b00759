"""Figures of each class of a finished run, and warnings of classes that its metric hides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from gnnpipe.config.run import Metric
from gnnpipe.errors import shown
from gnnpipe.nn.metrics import ClassCounts, Classes
from gnnpipe.records.class_tables import class_name

# With more than MOST_LISTED classes, tables list the WORST_LISTED ones only.
MOST_LISTED, WORST_LISTED = 10, 5
# Metrics that the largest classes dominate, by the name that a warning calls them.
_OF_THE_MANY: dict[Metric, str] = {"accuracy": "accuracy", "f1": "micro-F1"}
SPLITS_IN_WORDS = {"test": "test", "val": "validation"}


def class_table(
    classes: Classes | None, names: Sequence[str] = (), whole: Path | None = None
) -> Table | None:
    """Precision, recall and F1 of each class, or of those with the lowest F1; None if the run did not count
    classes.

    Args:
        classes: counts by class.
        names: name of each class; empty where classes are numbers.
        whole: the file that has all classes, if there is one.
    """
    if classes is None or not classes.table.present:
        return None
    table = Table(title=_title(classes, whole), title_justify="left")
    table.add_column("class")
    for column in ("precision", "recall", "F1", f"{SPLITS_IN_WORDS[classes.reported]} nodes"):
        table.add_column(column, justify="right")
    for row in class_rows(classes, names):
        table.add_row(*map(Text, row))  # as Text: a name may hold what Rich takes for markup
    return table


def class_rows(classes: Classes, names: Sequence[str] = ()) -> list[tuple[str, ...]]:
    """Rows of `class_table`: name, precision, recall, F1 and number of nodes; a dash where there is none."""
    counts = classes.table
    return [
        (
            shown_name(index, names),
            *(_figure(value(index)) for value in (counts.precision, counts.recall, counts.f1)),
            f"{counts.count[index]:,}",
        )
        for index in _listed(counts)
    ]


def class_warnings(classes: Classes | None, metric: Metric, names: Sequence[str] = ()) -> list[str]:
    """Warnings of classes that a good metric may hide: those never predicted, and those with less than half
    the recall of all nodes. Arguments as for `class_table`, and the metric of the run."""
    if classes is None or len(classes.table.present) < 2:
        return []
    table = classes.table
    average = sum(table.correct) / sum(table.count)
    never = [index for index in table.present if not table.predicted[index]]
    missed = [i for i in table.present if table.predicted[i] and (table.recall(i) or 0.0) < average / 2]
    lines = []
    if never:
        lines.append(f"{_named(never, classes, names)} never predicted")
    if missed:
        lines.append(
            f"{_named(missed, classes, names)} found less than half as often as nodes are on average"
        )
    name = _OF_THE_MANY.get(metric)
    way_out = "--metric macro_f1 does, and --class-weights balanced trains all classes alike"
    hint = f"; {name} hardly shows it, {way_out}" if name else ""
    return [f"warning: {line}{hint}" for line in lines]


def _title(classes: Classes, whole: Path | None) -> Text:
    present, split = len(classes.table.present), SPLITS_IN_WORDS[classes.reported]
    if present <= MOST_LISTED:
        return Text(f"classes on {split} nodes")
    rest = f"; all are in {whole}" if whole else ""
    return Text(f"classes on {split} nodes: the {WORST_LISTED} of {present} with the lowest F1{rest}")


def _listed(counts: ClassCounts) -> list[int]:
    """The classes that tables list: all that have nodes, or those with the lowest F1."""
    if len(counts.present) <= MOST_LISTED:
        return counts.present
    return sorted(counts.present, key=lambda index: counts.f1(index) or 0.0)[:WORST_LISTED]


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def shown_name(index: int, names: Sequence[str]) -> str:
    """Name of a class as output repeats it, or its number."""
    return shown(class_name(index, names))


def _named(classes: list[int], counted: Classes, names: Sequence[str]) -> str:
    """Subject and verb of a warning: the classes, and their share of the split's labels."""
    count, split = counted.table.count, SPLITS_IN_WORDS[counted.reported]
    nodes = f"{sum(count[index] for index in classes):,} of {sum(count):,} {split} labels"
    if len(classes) == 1:
        return f"class {shown_name(classes[0], names)} ({nodes}) is"
    listed = ", ".join(shown_name(index, names) for index in classes[:WORST_LISTED])
    more = " and others" if len(classes) > WORST_LISTED else ""
    return f"{len(classes)} classes ({listed}{more}; {nodes}) are"
