"""One run as ``gnnpipe show`` and a notebook show it: table, JSON and picture."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

from rich.console import Console

from gnnpipe.errors import ConfigError, GnnpipeError
from gnnpipe.records.folder import RunFolder
from gnnpipe.records.taking import CONFUSION_PICTURE, PICTURE, SUMMARY, check_is_run
from gnnpipe.report.console import METRIC_NAMES, PatientConsole, print_summary, score_text
from gnnpipe.report.damage import as_written
from gnnpipe.report.notebook import as_html, present
from gnnpipe.report.pictures import draw_confusion, draw_report


def show(path: str, *, as_json: bool) -> int:
    """Print a run's table (or its summary as JSON) and draw its picture; return the exit code.

    Raises:
        ConfigError: the folder is no run, or, with ``as_json``, the run has no summary yet.
        DataError: a file of the run is damaged.
    """
    folder = RunFolder(Path(path))
    check_is_run(folder.path, "run")
    with as_written([folder.path]):
        return _show(folder, as_json=as_json)


def _show(folder: RunFolder, *, as_json: bool) -> int:
    if as_json:
        if not (folder.path / SUMMARY).exists():
            raise ConfigError(f"run: '{folder.path}' has no {SUMMARY} yet; {folder.saved()}")
        sys.stdout.write(json.dumps(folder.read(SUMMARY), indent=2) + "\n")
        return 0
    pictures = [folder.path / name for name in (PICTURE, CONFUSION_PICTURE)]
    present(partial(_write, folder, drawing=True), PatientConsole(highlight=False), pictures)
    return 0


def _write(folder: RunFolder, console: Console, *, drawing: bool) -> None:
    """Print the tables of a run and, after ``drawing`` its pictures, a line for each."""
    finished = (folder.path / SUMMARY).exists()
    if finished:
        print_summary(folder, console)
    else:
        console.print(f"not finished; {folder.saved()}", markup=False, soft_wrap=True)
    if not drawing:
        return
    for line in (draw_report(folder), draw_confusion(folder) if finished else None):
        if line is not None:
            console.print(line, markup=False, soft_wrap=True)


def one_line(path: Path) -> str:
    """A run in one line: how far it is and its score, or only its folder where that can't be read."""
    folder = RunFolder(path)
    try:
        with as_written([path]):
            if not (path / SUMMARY).exists():
                return f"Run('{path}', not finished, {len(folder.lines())} epochs)"
            summary = folder.summary()
    except GnnpipeError:
        return f"Run('{path}')"
    return (
        f"Run('{path}', finished, {summary.epochs} epochs, test {METRIC_NAMES[summary.metric]} "
        f"{score_text(summary.best.test)})"
    )


def html_of(path: Path) -> str:
    """The tables of a run for a notebook, or its line where the folder can't be read."""
    try:
        with as_written([path]):
            return as_html(partial(_write, RunFolder(path), drawing=False))
    except GnnpipeError:
        return as_html(lambda console: console.print(one_line(path), markup=False))
