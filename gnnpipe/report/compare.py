"""Runs side by side, read from their folders alone: a table or JSON, and a picture."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

from rich.table import Table

from gnnpipe.config.run import Metric
from gnnpipe.errors import ConfigError, shown
from gnnpipe.files.reading import Content
from gnnpipe.files.typed_json import SPREAD, json_text
from gnnpipe.records.folder import RunFolder
from gnnpipe.records.record import BytesSent
from gnnpipe.records.taking import SUMMARY, check_is_run
from gnnpipe.report.console import METRIC_NAMES, score_text, wide_console
from gnnpipe.report.damage import as_written
from gnnpipe.report.pictures import PIECES, combined, draw_comparison, median_breakdown
from gnnpipe.schedule.timeline import Breakdown
from gnnpipe.system.words import readable_bytes

# Settings of the plan, which runs are compared for; other differences are printed, as they may be unfair.
OF_THE_PLAN = {"stages", "parts", "chunks", "halo"}


@dataclass(frozen=True)
class Column:
    """Figures of one run: a column of the table."""

    run: str
    """Folder of the run."""
    plan: str
    metric: Metric
    test_at_best_val: float | None
    """None where test labels are hidden."""
    best_val: float
    median_epoch_seconds: float
    bytes: int
    """Bytes that all ranks together send in an epoch."""
    bytes_by_kind: BytesSent
    breakdown: Breakdown
    """Seconds of a median epoch, mean of the ranks."""
    peak_memory_bytes: int
    """Peak of the rank that needs most."""


@dataclass(frozen=True)
class Compared:
    """Figures of a run, and their ratios to those of the first run."""

    column: Annotated[Column, SPREAD]
    speed_up: float
    """Epoch seconds of the first run over those of this one."""
    times_less: float | None
    """Bytes of the first run over those of this one; None if this one sends nothing."""


def compare(paths: Sequence[Path], *, as_json: bool) -> int:
    """Print the comparison of finished runs; return the exit code.

    Raises:
        ConfigError: a folder is no run, or a run is not finished.
        DataError: a file of a run is damaged.
    """
    with as_written(paths):
        return _compare([RunFolder(path) for path in paths], as_json=as_json)


def _compare(folders: Sequence[RunFolder], *, as_json: bool) -> int:
    for folder in folders:
        _check(folder)
    columns = [_column(folder) for folder in folders]
    runs = [_compared(column, columns[0]) for column in columns]
    unequal = differences(folders, OF_THE_PLAN)
    if as_json:
        sys.stdout.write(json_text({"runs": runs, "unequal": unequal}, indent=2) + "\n")
        return 0
    console = wide_console()
    console.print(_table(runs))
    for line in unequal:
        console.print(f"not equal: {line}", markup=False)
    plans = [column.plan for column in columns]
    labels = plans if len(set(plans)) == len(plans) else [folder.path.name for folder in folders]
    breakdowns, sent = [column.breakdown for column in columns], [column.bytes_by_kind for column in columns]
    console.print(draw_comparison(labels, breakdowns, sent, folders[0].path.parent), markup=False)
    return 0


def _check(folder: RunFolder) -> None:
    check_is_run(folder.path, "runs")
    if not (folder.path / SUMMARY).exists():
        raise ConfigError(f"runs: '{folder.path}' is not finished; {folder.saved()}; run it again")


def _column(folder: RunFolder) -> Column:
    summary, plan, records = folder.summary(), folder.stored_plan(), folder.records()
    # the first epoch touches its memory for the first time
    ranks = median_breakdown(records[1:] or records)
    stale = folder.settings().get("halo") == "stale"
    return Column(
        str(folder.path),
        "x".join(map(str, plan.shape)) + ("+stale" if stale else ""),
        summary.metric,
        summary.best.test,
        summary.best.val,
        summary.median_epoch_seconds,
        sum(summary.bytes_per_epoch.values()),
        summary.bytes_per_epoch,
        combined(statistics.mean, ranks),
        max(summary.peak_memory_bytes),
    )


def _compared(column: Column, first: Column) -> Compared:
    less = first.bytes / column.bytes if column.bytes else None
    return Compared(column, first.median_epoch_seconds / column.median_epoch_seconds, less)


def differences(folders: Sequence[RunFolder], ignored: set[str]) -> list[str]:
    """Lines on settings other than ``ignored`` ones, versions and machines that are not the same in all
    runs."""
    every = [_flat(folder.settings()) for folder in folders]
    for settings, folder in zip(every, folders, strict=True):
        summary = folder.summary()
        hardware = {key: value for key, value in summary.hardware.items() if key != "ranks"}
        settings |= _flat({"versions": summary.versions, "hardware": hardware})
    keys = sorted({key for settings in every for key in settings} - ignored)
    return [
        f"{shown(key)}: {', '.join(shown(settings.get(key)) for settings in every)}"
        for key in keys
        if len({json.dumps(settings.get(key)) for settings in every}) > 1
    ]


def _flat(settings: Content, prefix: str = "") -> Content:
    """Nested settings as one level: ``{"a": {"b": 1}}`` as ``{"a.b": 1}``."""
    result: Content = {}
    for key, value in settings.items():
        result |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return result


def _table(runs: list[Compared]) -> Table:
    table = Table()
    table.add_column("stages x parts x chunks")
    for run in runs:
        table.add_column(run.column.plan, justify="right")
    for name, cells in _rows(runs):
        table.add_row(name, *cells)
    return table


def _rows(runs: list[Compared]) -> list[tuple[str, list[str]]]:
    """Rows of the table: a name, and one cell per run."""
    columns = [run.column for run in runs]
    # of bytes and seconds also those of each kind of message and of each piece of an epoch
    figures: list[tuple[str, Callable[[Compared], str]]] = [
        ("run", lambda run: Path(run.column.run).name),
        (
            f"test {METRIC_NAMES[columns[0].metric]} at best validation",
            lambda run: score_text(run.column.test_at_best_val),
        ),
        ("median epoch", lambda run: f"{run.column.median_epoch_seconds:.3f} s"),
        ("speed-up", lambda run: f"{run.speed_up:.2f} x"),
        ("sent per epoch", lambda run: readable_bytes(run.column.bytes)),
        *((f"  {kind}", partial(_sent, kind)) for kind in _kinds_sent(columns)),
        ("times less sent", lambda run: "-" if run.times_less is None else f"{run.times_less:.2f} x"),
        ("where it goes, mean of ranks", lambda run: ""),
        *((f"  {piece.replace('_', '-')}", partial(_spent, piece)) for piece in PIECES),
        ("peak memory of a rank", lambda run: readable_bytes(run.column.peak_memory_bytes)),
    ]
    return [(name, [cell(run) for run in runs]) for name, cell in figures]


def _kinds_sent(columns: list[Column]) -> list[str]:
    """Kinds of messages of which some run sent any."""
    return sorted({kind for column in columns for kind, count in column.bytes_by_kind.items() if count})


def _sent(kind: str, run: Compared) -> str:
    return readable_bytes(run.column.bytes_by_kind.get(kind, 0))


def _spent(piece: str, run: Compared) -> str:
    return f"{getattr(run.column.breakdown, piece):.3f} s"
