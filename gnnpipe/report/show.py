"""The output of ``gnnpipe show``: table, JSON and picture of one run."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from gnnpipe.errors import ConfigError
from gnnpipe.records.folder import RunFolder
from gnnpipe.records.taking import SUMMARY, check_is_run
from gnnpipe.report.console import print_summary
from gnnpipe.report.damage import as_written
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
        return 0
    if finished:
        print_summary(folder)
    else:
        sys.stdout.write(f"not finished; {folder.saved()}\n")
    for line in (draw_report(folder), draw_confusion(folder) if finished else None):
        if line is not None:
            sys.stdout.write(f"{line}\n")
    return 0
