"""Whether a run may have a folder, and emptying it of the run before."""

from __future__ import annotations

import os
import socket
import uuid
from pathlib import Path

from gnnpipe.checkpoint.names import CHECKPOINTS, MODEL
from gnnpipe.errors import ConfigError, shown
from gnnpipe.files.writing import PART, is_leftover, remove, write_file
from gnnpipe.records.lock import LOCK, OWNER

CONFIG, PLAN, RECORDS, SUMMARY = "config.yaml", "plan.json", "records.jsonl", "summary.json"
PICTURE, COMPARISON = "report.png", "comparison.png"
MAKING = ".making"  # there while a folder is emptied and made
RUN_FILES = {CONFIG, PLAN, RECORDS, SUMMARY, MODEL, PICTURE, COMPARISON, CHECKPOINTS, MAKING, LOCK, OWNER}
RESULTS = {CHECKPOINTS, MODEL, SUMMARY}


def launch_id() -> str:
    """A name for what started this process: the same after each restart by torchrun, on one host, and never
    given to another launch."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return uuid.uuid4().hex
    return f"{os.environ['TORCHELASTIC_RUN_ID']} on {socket.gethostname()} by {_agent()}"


def _agent() -> str:
    """The process of torchrun that starts ours. The run's id is ``none`` unless a user gives one, but each
    launch has a folder of its own for what its ranks report; where it has none, its process is told by its
    number and its start."""
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


def check_is_run(path: Path, key: str) -> None:
    """Raise ConfigError, which names ``key``, unless a folder is a run's."""
    if not (path / CONFIG).exists():
        raise ConfigError(
            f"{key}: '{path}' is no run ({CONFIG} is absent); name a folder that train made, as in runs/"
        )


def check_may_take(path: Path, *, overwrite: bool) -> None:
    """Refuse what is not ours to replace, and places where nothing can be written.

    What was killed while it made its folder has left nothing of worth there, and does not stand in the way.

    Raises:
        ConfigError: see `RunFolder.for_config`.
        OSError: the system does not let us look.
    """
    if path.exists() and not path.is_dir():
        raise ConfigError(f"out: '{path}' is a file; name a folder")
    parent = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise ConfigError(
            f"out: '{path}' can't be made, as '{parent}' is no folder that may be written to; "
            "choose another --out"
        )
    names = {item.name for item in path.iterdir()} if path.exists() else set()
    found = {name for name in names if name not in (LOCK, OWNER, MAKING) and not is_leftover(name)}
    records = (path / RECORDS).stat().st_size if RECORDS in found else 0
    only_begun = MAKING in names and not records and not found & RESULTS
    if found and not overwrite and not only_begun:
        raise ConfigError(f"out: '{path}' exists already; choose another --out or add --overwrite")
    foreign = sorted(name for name in found if not _is_of_a_run(path / name))
    is_run = MAKING in names or {CONFIG, RECORDS} <= found
    if foreign or (found and not is_run):
        what = f"'{shown(foreign[0])}' is not a run's" if foreign else f"{CONFIG} or {RECORDS} is absent"
        raise ConfigError(f"out: '{path}' is not just a run ({what}), so it is not replaced; choose another")


def _is_of_a_run(path: Path) -> bool:
    """By its name; a folder only where a run has one."""
    name = path.name.removesuffix(PART)
    is_folder = path.is_dir() and not path.is_symlink()
    return name in RUN_FILES and is_folder <= (name == CHECKPOINTS)


def clear(folder: Path) -> None:
    """Mark a folder as one that is being made, and remove the old run, but for the lock that keeps it ours.

    The records go first: whatever is left when this is cut short is no run.
    """
    write_file(folder / MAKING, "")
    remove(folder / RECORDS)
    for old in folder.iterdir():
        if old.name not in (LOCK, OWNER, MAKING):
            remove(old)


def made(folder: Path) -> None:
    """All that a run begins with is there."""
    remove(folder / MAKING)
