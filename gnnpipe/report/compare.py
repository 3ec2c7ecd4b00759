"""Runs side by side: a table, JSON, and a picture; all from the runs' folders alone."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
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
from gnnpipe.report.console import METRIC_NAMES, wide_console
from gnnpipe.report.damage import as_written
from gnnpipe.report.pictures import PIECES, combined, draw_comparison, median_breakdown
from gnnpipe.schedule.timeline import Breakdown
from gnnpipe.system.words import readable_bytes

# What plans are allowed to differ in; other differences are told, as the comparison may be unfair.
OF_THE_PLAN = {"stages", "parts", "chunks", "halo"}


@dataclass(frozen=True)
class Column:
    """The numbers of one run."""

    run: str
    """Its folder."""
    plan: str
    metric: Metric
    test_at_best_val: float
    best_val: float
    median_epoch_seconds: float
    bytes: int
    """Of an epoch, by all ranks."""
    bytes_by_kind: BytesSent
    breakdown: Breakdown
    """Of a median epoch, mean of the ranks."""
    peak_memory_bytes: int
    """Of the rank that needs most."""


@dataclass(frozen=True)
class Compared:
    """A run beside the first one."""

    column: Annotated[Column, SPREAD]
    speed_up: float
    times_less: float | None
    """Bytes of the first run over its own; None if it sends nothing."""


def compare(paths: Sequence[Path], *, as_json: bool) -> int:
    """Print the comparison of finished runs; return the exit code.

    Raises:
        ConfigError: a folder that is no run, or a run that is not finished.
        DataError: a file of one is damaged.
    """
    with as_written(paths):
        return _compare([RunFolder(path) for path in paths], as_json=as_json)


def _compare(folders: Sequence[RunFolder], *, as_json: bool) -> int:
    for folder in folders:
        _check(folder)
    columns = [_column(folder) for folder in folders]
    runs = [_compared(column, columns[0]) for column in columns]
    unequal = _differences(folders)
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


def _differences(folders: Sequence[RunFolder]) -> list[str]:
    """Settings besides the plan, and machines, that are not the same in all runs."""
    seen = [_flat(folder.settings()) for folder in folders]
    for settings, folder in zip(seen, folders, strict=True):
        summary = folder.summary()
        hardware = {key: value for key, value in summary.hardware.items() if key != "ranks"}
        settings |= _flat({"versions": summary.versions, "hardware": hardware})
    keys = sorted({key for settings in seen for key in settings} - OF_THE_PLAN)
    return [
        f"{shown(key)}: {', '.join(shown(settings.get(key)) for settings in seen)}"
        for key in keys
        if len({json.dumps(settings.get(key)) for settings in seen}) > 1
    ]


def _flat(settings: Content, prefix: str = "") -> Content:
    result: Content = {}
    for key, value in settings.items():
        result |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return result


def _table(runs: list[Compared]) -> Table:
    table = Table()
    table.add_column("stages x parts x chunks")
    for item in runs:
        table.add_column(item.column.plan, justify="right")
    for name, cells in _rows(runs):
        table.add_row(name, *cells)
    return table


def _rows(runs: list[Compared]) -> list[tuple[str, list[str]]]:
    """The lines of the table."""
    columns = [item.column for item in runs]
    metric = METRIC_NAMES[columns[0].metric]
    rows = [
        ("run", [Path(column.run).name for column in columns]),
        (f"test {metric} at best validation", [f"{column.test_at_best_val:.4f}" for column in columns]),
        ("median epoch", [f"{column.median_epoch_seconds:.3f} s" for column in columns]),
        ("speed-up", [f"{item.speed_up:.2f} x" for item in runs]),
        ("sent per epoch", [readable_bytes(column.bytes) for column in columns]),
    ]
    kinds = sorted({kind for column in columns for kind, count in column.bytes_by_kind.items() if count})
    rows += [
        (f"  {kind}", [readable_bytes(column.bytes_by_kind.get(kind, 0)) for column in columns])
        for kind in kinds
    ]
    times = [item.times_less for item in runs]
    rows.append(("times less sent", ["-" if ratio is None else f"{ratio:.2f} x" for ratio in times]))
    rows.append(("where it goes, mean of ranks", [""] * len(columns)))
    rows += [
        (f"  {part.replace('_', '-')}", [f"{getattr(column.breakdown, part):.3f} s" for column in columns])
        for part in PIECES
    ]
    rows.append(("peak memory of a rank", [readable_bytes(column.peak_memory_bytes) for column in columns]))
    return rows
