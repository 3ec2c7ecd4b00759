"""Runs side by side: a table, JSON, and a picture; all from the runs' folders alone."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from gnnpipe.errors import ConfigError, shown
from gnnpipe.report.console import METRIC_NAMES, wide_console
from gnnpipe.report.damage import as_written
from gnnpipe.report.pictures import PIECES, draw_comparison, median_breakdown
from gnnpipe.run.records import RunFolder
from gnnpipe.run.taking import PLAN, SUMMARY, check_is_run
from gnnpipe.system.words import readable_bytes

# What plans are allowed to differ in; other differences are told, as the comparison may be unfair.
OF_THE_PLAN = {"stages", "parts", "chunks", "halo"}


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
    for column in columns:
        column["speed_up"] = columns[0]["median_epoch_seconds"] / column["median_epoch_seconds"]
        column["times_less"] = columns[0]["bytes"] / column["bytes"] if column["bytes"] else None
    unequal = _differences(folders)
    if as_json:
        sys.stdout.write(json.dumps({"runs": columns, "unequal": unequal}, indent=2) + "\n")
        return 0
    console = wide_console()
    console.print(_table(columns))
    for line in unequal:
        console.print(f"not equal: {line}", markup=False)
    console.print(draw_comparison(columns, folders[0].path.parent), markup=False)
    return 0


def _check(folder: RunFolder) -> None:
    check_is_run(folder.path, "runs")
    if not (folder.path / SUMMARY).exists():
        raise ConfigError(f"runs: '{folder.path}' is not finished; {folder.saved()}; run it again")


def _column(folder: RunFolder) -> dict[str, Any]:
    """The numbers of one run."""
    summary, plan, records = folder.read(SUMMARY), folder.read(PLAN)["plan"], folder.records()
    # the first epoch touches its memory for the first time
    ranks = median_breakdown(records[1:] or records)
    stale = folder.settings().get("halo") == "stale"
    return {
        "run": str(folder.path),
        "plan": "x".join(str(plan[key]) for key in ("num_stages", "num_parts", "num_chunks"))
        + ("+stale" if stale else ""),
        "metric": summary["metric"],
        "test_at_best_val": summary["test_at_best_val"],
        "best_val": summary["best_val"],
        "median_epoch_seconds": summary["median_epoch_seconds"],
        "bytes": sum(summary["bytes_per_epoch"].values()),
        "bytes_by_kind": summary["bytes_per_epoch"],
        "breakdown": {part: statistics.mean(rank[part] for rank in ranks) for part in PIECES},
        "peak_memory_bytes": max(summary["peak_memory_bytes"]),
    }


def _differences(folders: Sequence[RunFolder]) -> list[str]:
    """Settings besides the plan, and machines, that are not the same in all runs."""
    seen = [_flat(folder.settings()) for folder in folders]
    for settings, folder in zip(seen, folders, strict=True):
        summary = folder.read(SUMMARY)
        hardware = {key: value for key, value in summary["hardware"].items() if key != "ranks"}
        settings |= _flat({"versions": summary["versions"], "hardware": hardware})
    keys = sorted({key for settings in seen for key in settings} - OF_THE_PLAN)
    return [
        f"{shown(key)}: {', '.join(shown(settings.get(key)) for settings in seen)}"
        for key in keys
        if len({json.dumps(settings.get(key)) for settings in seen}) > 1
    ]


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in settings.items():
        result |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return result


def _table(columns: list[dict[str, Any]]) -> Table:
    table = Table()
    table.add_column("stages x parts x chunks")
    for column in columns:
        table.add_column(column["plan"], justify="right")
    for name, cells in _rows(columns):
        table.add_row(name, *cells)
    return table


def _rows(columns: list[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    """The lines of the table."""
    metric = METRIC_NAMES[columns[0]["metric"]]
    rows = [
        ("run", [Path(column["run"]).name for column in columns]),
        (f"test {metric} at best validation", [f"{column['test_at_best_val']:.4f}" for column in columns]),
        ("median epoch", [f"{column['median_epoch_seconds']:.3f} s" for column in columns]),
        ("speed-up", [f"{column['speed_up']:.2f} x" for column in columns]),
        ("sent per epoch", [readable_bytes(column["bytes"]) for column in columns]),
    ]
    kinds = sorted({kind for column in columns for kind, count in column["bytes_by_kind"].items() if count})
    rows += [
        (f"  {kind}", [readable_bytes(column["bytes_by_kind"].get(kind, 0)) for column in columns])
        for kind in kinds
    ]
    times = [column["times_less"] for column in columns]
    rows.append(("times less sent", ["-" if ratio is None else f"{ratio:.2f} x" for ratio in times]))
    rows.append(("where it goes, mean of ranks", [""] * len(columns)))
    rows += [
        (f"  {part.replace('_', '-')}", [f"{column['breakdown'][part]:.3f} s" for column in columns])
        for part in PIECES
    ]
    rows.append(
        ("peak memory of a rank", [readable_bytes(column["peak_memory_bytes"]) for column in columns])
    )
    return rows
