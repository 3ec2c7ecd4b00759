"""One run as ``gnnpipe show`` and a notebook show it: table, JSON and picture."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from gnnpipe.errors import ConfigError, GnnpipeError
from gnnpipe.records.folder import RunFolder
from gnnpipe.records.taking import PICTURE, SUMMARY, check_is_run
from gnnpipe.report.classes import class_html
from gnnpipe.report.console import METRIC_NAMES, classes_of, print_summary, score_text, summary_of
from gnnpipe.report.damage import as_written
from gnnpipe.report.notebook import display, html_table, in_notebook, paragraph
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
    finished = (folder.path / SUMMARY).exists()
    if as_json:
        if not finished:
            raise ConfigError(f"run: '{folder.path}' has no {SUMMARY} yet; {folder.saved()}")
        sys.stdout.write(json.dumps(folder.read(SUMMARY), indent=2) + "\n")
    elif in_notebook():
        line, picture = draw_report(folder), folder.path / PICTURE
        display(_html(folder) if picture.exists() else _html(folder) + paragraph(line), picture)
    else:
        if finished:
            print_summary(folder)
        else:
            sys.stdout.write(f"not finished; {folder.saved()}\n")
        for drawn in (draw_report(folder), draw_confusion(folder) if finished else None):
            if drawn is not None:
                sys.stdout.write(f"{drawn}\n")
    return 0


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


def as_html(path: Path) -> str:
    """The table of a run for a notebook, or a line of text where the folder can't be read."""
    try:
        with as_written([path]):
            return _html(RunFolder(path))
    except GnnpipeError as error:
        return paragraph(str(error))


def _html(folder: RunFolder) -> str:
    if not (folder.path / SUMMARY).exists():
        return paragraph(f"{folder.path}: not finished; {folder.saved()}")
    rows, warnings = summary_of(folder)
    by_class = class_html(*classes_of(folder))
    return html_table(str(folder.path), rows) + by_class + "".join(map(paragraph, warnings))
