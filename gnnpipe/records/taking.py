"""Taking a folder for a run: whether that is allowed, and removing the old run."""

from __future__ import annotations

import itertools
import os
import socket
import uuid
from datetime import datetime
from pathlib import Path

from gnnpipe.checkpoint.names import CHECKPOINTS, MODEL
from gnnpipe.errors import ConfigError, shown
from gnnpipe.files.place import check_place
from gnnpipe.files.writing import PART, is_leftover, remove, write_file
from gnnpipe.records.lock import LOCK, OWNER

CONFIG, PLAN, RECORDS, SUMMARY = "config.yaml", "plan.json", "records.jsonl", "summary.json"
PICTURE, COMPARISON = "report.png", "comparison.png"
CLASSES, CONFUSION, CONFUSION_PICTURE = "classes.csv", "confusion.csv", "confusion.png"
LOGS = "logs"
"""Folder of what callbacks write."""
MAKING = ".making"
"""Marks a folder that is being emptied and filled anew."""
HOLDING = {LOCK, OWNER, MAKING}
"""Files that say who has a folder; they are no content of a run."""
AT_THE_END = (SUMMARY, CLASSES, CONFUSION, PICTURE, COMPARISON, CONFUSION_PICTURE)
"""Files that are made when all epochs are done, or later."""
RUN_FILES = {CONFIG, PLAN, RECORDS, MODEL, CHECKPOINTS, LOGS, *AT_THE_END, *HOLDING}
RESULTS = {CHECKPOINTS, MODEL, SUMMARY}


def launch_id() -> str:
    """Name of the launch that this process belongs to, unique to it. On one host all restarts by one torchrun
    get the same name."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return uuid.uuid4().hex
    return f"{os.environ['TORCHELASTIC_RUN_ID']} on {socket.gethostname()} by {_agent()}"


def _agent() -> str:
    """Name of the torchrun process that starts ours.

    The run's id alone does not do: it is ``none`` unless a user gives one. Usually each launch has a folder
    for the errors of its ranks, with a name that is never used again. Where there is none, the number and the
    start time of the torchrun process stand for it.
    """
    report = os.environ.get("TORCHELASTIC_ERROR_FILE", "")
    parts = Path(report).parts
    if len(parts) > 4 and parts[-3].startswith("attempt_"):
        return parts[-4]
    parent = os.getppid()
    try:
        # the name in parentheses may hold blanks; the start is field 22
        began = Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        began = "?"
    return f"{parent}-{began}"


def new_name(dataset: str, model: str) -> Path:
    """A new runs/DATE-DATASET-MODEL, numbered where several runs start in one second."""
    name = f"{datetime.now():%Y%m%d-%H%M%S}-{dataset.lower()}-{model}"
    names = (Path("runs") / (name if n == 1 else f"{name}-{n}") for n in itertools.count(1))
    return next(path for path in names if not path.exists())


def check_is_run(path: Path, key: str) -> None:
    """Raise ConfigError, which names ``key``, unless a folder is a run's."""
    if (path / CONFIG).exists():
        return
    inside = sorted(path.glob(f"*/{CONFIG}"))  # several seeds, or plans that were compared
    way_out = (
        f"name one in it, '{inside[0].parent}'" if inside else "name a folder that train made, as in runs/"
    )
    raise ConfigError(f"{key}: '{path}' is no run ({CONFIG} is absent); {way_out}")


def check_may_take(path: Path, *, overwrite: bool) -> None:
    """Refuse a folder that is not ours to replace, or a place where nothing can be written.

    A folder whose making was cut short holds nothing of worth and is taken like an empty one.

    Raises:
        ConfigError: see `RunFolder.for_config`.
        OSError: the system does not let us look.
    """
    check_place(path)
    names = {entry.name for entry in path.iterdir()} if path.exists() else set()
    content = {name for name in names if name not in HOLDING and not is_leftover(name)}
    making = MAKING in names
    if content and not overwrite and not (making and _is_only_begun(path, content)):
        raise ConfigError(f"out: '{path}' exists already; choose another --out or add --overwrite")
    _check_is_just_a_run(path, content, making=making)


def _is_only_begun(path: Path, content: set[str]) -> bool:
    """Whether a folder in the making has no record and no result yet."""
    records = (path / RECORDS).stat().st_size if RECORDS in content else 0
    return not records and not content & RESULTS


def _check_is_just_a_run(path: Path, content: set[str], *, making: bool) -> None:
    """Refuse to replace a folder with anything in it but one run: a user may have put other files there."""
    foreign = sorted(name for name in content if not _is_of_a_run(path / name))
    is_run = making or {CONFIG, RECORDS} <= content
    if foreign or (content and not is_run):
        what = f"'{shown(foreign[0])}' is not a run's" if foreign else f"{CONFIG} or {RECORDS} is absent"
        raise ConfigError(f"out: '{path}' is not just a run ({what}), so it is not replaced; choose another")


def _is_of_a_run(path: Path) -> bool:
    """Whether an entry has the name of one of a run's files, and is a folder only if a run has one there."""
    name = path.name.removesuffix(PART)
    is_folder = path.is_dir() and not path.is_symlink()
    return name in RUN_FILES and is_folder <= (name in (CHECKPOINTS, LOGS))


def clear(folder: Path) -> None:
    """Mark a folder as one that is being made, and remove the old run, but not the lock that keeps it ours.

    The records go first: what is left when this is cut short does not pass for a run.
    """
    write_file(folder / MAKING, "")
    remove(folder / RECORDS)
    for old in folder.iterdir():
        if old.name not in HOLDING:
            remove(old)


def made(folder: Path) -> None:
    """Remove the mark of `clear`: all files that a run begins with are there."""
    remove(folder / MAKING)
