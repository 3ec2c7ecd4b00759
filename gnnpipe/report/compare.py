"""Runs side by side, read from their folders alone: a table or JSON, and a picture."""

from __future__ import annotations

import io
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from gnnpipe.comm.world import speaks
from gnnpipe.config.run import Metric
from gnnpipe.errors import ConfigError, shown
from gnnpipe.files.reading import Content
from gnnpipe.files.typed_json import json_text, to_plain
from gnnpipe.records.folder import RunFolder
from gnnpipe.records.record import BytesSent
from gnnpipe.records.taking import COMPARISON, SUMMARY, check_is_run
from gnnpipe.report.console import METRIC_NAMES, WIDE, score_text, wide_console
from gnnpipe.report.damage import as_written
from gnnpipe.report.notebook import as_html, frame, present
from gnnpipe.report.pictures import PIECES, combined, draw_comparison, median_breakdown
from gnnpipe.schedule.timeline import Breakdown
from gnnpipe.system.words import readable_bytes

if TYPE_CHECKING:
    import pandas

# Settings of the plan, which runs are compared for; other differences are printed, as they may be unfair.
OF_THE_PLAN = {"stages", "parts", "chunks", "halo"}
PLAN_COLUMN = "stages x parts x chunks"


@dataclass(frozen=True)
class ComparedRun:
    """Figures of one run, and their ratios to those of the first run: a column of the table."""

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
    speed_up: float
    """Epoch seconds of the first run over those of this one."""
    times_less: float | None
    """Bytes of the first run over those of this one; None if this one sends nothing."""


@dataclass(frozen=True)
class Comparison:
    """Finished runs side by side. It prints as a table, and shows as one in a notebook."""

    runs: tuple[ComparedRun, ...]
    """Figures of each run, in the order given; the first is what the others are compared with."""
    unequal: tuple[str, ...]
    """Settings other than the plan's, versions and machines that are not the same in all runs: a line each.
    They may make the comparison unfair."""

    @classmethod
    def of(cls, paths: Sequence[Path]) -> Comparison:
        """Read the folders of finished runs.

        Raises:
            ConfigError: a folder is no run, or a run is not finished.
            DataError: a file of a run is damaged.
        """
        with as_written(paths):
            folders = [RunFolder(path) for path in paths]
            for folder in folders:
                _check(folder)
            columns = [_column(folder) for folder in folders]
            runs = tuple(_compared(column, columns[0]) for column in columns)
            return cls(runs, tuple(differences(folders, OF_THE_PLAN)))

    def records(self) -> list[Content]:
        """One object for each run, with the keys of ``gnnpipe compare --json``."""
        return [to_plain(run) for run in self.runs]

    def frame(self) -> pandas.DataFrame:
        """The same as a DataFrame, by folder; raises ConfigError where pandas is not installed."""
        return frame(self.records(), "run")

    def show(self) -> None:
        """Print the table and draw the picture, as ``gnnpipe compare`` does; in a notebook, show both.

        Under torchrun only the first process does.
        """
        if not speaks():
            return
        folder = Path(self.runs[0].run).parent

        def write(console: Console) -> None:
            self.write_to(console)
            console.print(self._draw(folder), markup=False)

        present(write, wide_console(), [folder / COMPARISON])

    def _draw(self, folder: Path) -> str:
        """Draw comparison.png; return a line that says so."""
        plans = [run.plan for run in self.runs]
        names = [Path(run.run).name for run in self.runs]
        labels = plans if len(set(plans)) == len(plans) else names
        breakdowns, sent = [run.breakdown for run in self.runs], [run.bytes_by_kind for run in self.runs]
        return draw_comparison(labels, breakdowns, sent, folder)

    def write_to(self, console: Console) -> None:
        """Print the table, and lines on what may be unfair."""
        console.print(_table(self.runs))
        for line in self.unequal:
            console.print(f"not equal: {line}", markup=False)

    def __repr__(self) -> str:
        text = io.StringIO()
        self.write_to(Console(file=text, highlight=False, soft_wrap=True, width=WIDE, force_jupyter=False))
        return text.getvalue().rstrip()

    def _repr_html_(self) -> str:
        return as_html(self.write_to)


def compare(paths: Sequence[Path], *, as_json: bool) -> int:
    """Print the comparison of finished runs; return the exit code; raises as `Comparison.of`."""
    comparison = Comparison.of(paths)
    if as_json:
        sys.stdout.write(json_text(comparison, indent=2) + "\n")
    else:
        comparison.show()
    return 0


def _check(folder: RunFolder) -> None:
    check_is_run(folder.path, "runs")
    if not (folder.path / SUMMARY).exists():
        raise ConfigError(f"runs: '{folder.path}' is not finished; {folder.saved()}; run it again")


def _column(folder: RunFolder) -> ComparedRun:
    """Figures of a run, as if it was the first one."""
    summary, plan, records = folder.summary(), folder.stored_plan(), folder.records()
    # the first epoch touches its memory for the first time
    ranks = median_breakdown(records[1:] or records)
    stale = folder.settings().get("halo") == "stale"
    return ComparedRun(
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
        speed_up=1.0,
        times_less=1.0,
    )


def _compared(run: ComparedRun, first: ComparedRun) -> ComparedRun:
    less = first.bytes / run.bytes if run.bytes else None
    return replace(run, speed_up=first.median_epoch_seconds / run.median_epoch_seconds, times_less=less)


def differences(folders: Sequence[RunFolder], ignored: set[str]) -> list[str]:
    """Lines on settings other than ``ignored`` ones, versions and machines that are not the same in all
    runs."""
    every = [_flat(folder.settings()) for folder in folders]
    for settings, folder in zip(every, folders, strict=True):
        summary = folder.summary()
        hardware = {key: value for key, value in summary.hardware.items() if key != "ranks"}
        settings |= _flat({"versions": summary.versions, "hardware": hardware})
        settings["chunks"] = folder.stored_plan().plan.num_chunks  # a run that chose them does not name them
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


def _table(runs: Sequence[ComparedRun]) -> Table:
    table = Table()
    table.add_column(PLAN_COLUMN)
    for run in runs:
        table.add_column(run.plan, justify="right")
    for name, cells in _rows(runs):
        table.add_row(name, *cells)
    return table


def _rows(runs: Sequence[ComparedRun]) -> list[tuple[str, list[str]]]:
    """Rows of the table: a name, and one cell per run."""
    # of bytes and seconds also those of each kind of message and of each piece of an epoch
    figures: list[tuple[str, Callable[[ComparedRun], str]]] = [
        ("run", lambda run: Path(run.run).name),
        (
            f"test {METRIC_NAMES[runs[0].metric]} at best validation",
            lambda run: score_text(run.test_at_best_val),
        ),
        ("median epoch", lambda run: f"{run.median_epoch_seconds:.3f} s"),
        ("speed-up", lambda run: f"{run.speed_up:.2f} x"),
        ("sent per epoch", lambda run: readable_bytes(run.bytes)),
        *((f"  {kind}", partial(_sent, kind)) for kind in _kinds_sent(runs)),
        ("times less sent", lambda run: "-" if run.times_less is None else f"{run.times_less:.2f} x"),
        ("where it goes, mean of ranks", lambda run: ""),
        *((f"  {piece.replace('_', '-')}", partial(_spent, piece)) for piece in PIECES),
        ("peak memory of a rank", lambda run: readable_bytes(run.peak_memory_bytes)),
    ]
    return [(name, [cell(run) for run in runs]) for name, cell in figures]


def _kinds_sent(runs: Sequence[ComparedRun]) -> list[str]:
    """Kinds of messages of which some run sent any."""
    return sorted({kind for run in runs for kind, count in run.bytes_by_kind.items() if count})


def _sent(kind: str, run: ComparedRun) -> str:
    return readable_bytes(run.bytes_by_kind.get(kind, 0))


def _spent(piece: str, run: ComparedRun) -> str:
    return f"{getattr(run.breakdown, piece):.3f} s"
