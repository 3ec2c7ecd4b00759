"""Whether a folder can be made where a user wants one."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from gnnpipe.errors import ConfigError, shown
from gnnpipe.files.writing import is_leftover


def check_place(out: Path) -> None:
    """Raise ConfigError, which names ``out``, where no folder can be made or written to."""
    if out.exists() and not out.is_dir():
        raise ConfigError(f"out: '{shown(out)}' is a file; name a folder")
    nearest = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise ConfigError(
            f"out: '{shown(out)}' can't be made, as '{shown(nearest)}' is no folder that may be written to; "
            "choose another --out"
        )


def check_replaceable(out: Path, files: Collection[str], mark: str, what: str, *, overwrite: bool) -> None:
    """Raise ConfigError where a folder of a certain kind may not be made: only another one of its kind is
    ever replaced, and only if that is asked for.

    Args:
        out: the folder.
        files: names of the files that such a folder may hold.
        mark: the one that each holds.
        what: its kind in words, such as ``a graph``.
        overwrite: whether it is asked for.
    """
    if out.is_symlink():
        raise ConfigError(f"out: '{shown(out)}' is a link; name the folder that it leads to")
    check_place(out)
    names = {path.name for path in out.iterdir()} if out.exists() else set()
    foreign = sorted(name for name in names - set(files) if not is_leftover(name))
    if foreign or (names and mark not in names):
        absent = f"'{shown(foreign[0])}' is no file of one" if foreign else f"{mark} is absent"
        raise ConfigError(
            f"out: '{shown(out)}' is not just {what} ({absent}), so it is not replaced; choose another --out"
        )
    if names and not overwrite:
        raise ConfigError(
            f"out: '{shown(out)}' holds {what} already; choose another --out or add --overwrite"
        )
