"""Where a graph folder may be written, and putting it there when it is complete."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from gnnpipe.config.catalog import GRAPH_FILE
from gnnpipe.errors import ConfigError, shown
from gnnpipe.files.writing import is_leftover
from gnnpipe.graph.folder.form import FILES
from gnnpipe.system.words import readable_bytes


def check_may_write(out: Path, *, overwrite: bool) -> None:
    """Raise ConfigError where no graph folder may be made: only another graph is ever replaced, and only if
    that is asked for."""
    _check_place(out)
    names = {path.name for path in out.iterdir()} if out.exists() else set()
    foreign = sorted(name for name in names - FILES if not is_leftover(name))
    if foreign or (names and GRAPH_FILE not in names):
        what = f"'{shown(foreign[0])}' is no file of one" if foreign else f"{GRAPH_FILE} is absent"
        raise ConfigError(
            f"out: '{shown(out)}' is not just a graph ({what}), so it is not replaced; choose another --out"
        )
    if names and not overwrite:
        raise ConfigError(
            f"out: '{shown(out)}' holds a graph already; choose another --out or add --overwrite"
        )


def _check_place(out: Path) -> None:
    """Raise ConfigError where no folder can be made or replaced."""
    if out.is_symlink():
        raise ConfigError(f"out: '{shown(out)}' is a link; name the folder that it leads to")
    if out.exists() and not out.is_dir():
        raise ConfigError(f"out: '{shown(out)}' is a file; name a folder")
    nearest = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise ConfigError(
            f"out: '{shown(out)}' can't be made, as '{shown(nearest)}' is no folder that may be written to; "
            "choose another --out"
        )


def check_space(folder: Path, needed: int) -> None:
    """Raise ConfigError unless the disk of ``folder`` has room for ``needed`` bytes."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ConfigError(
            f"out: about {readable_bytes(needed)} are needed while the graph is written, and the disk of "
            f"'{shown(folder.parent)}' has {readable_bytes(free)} free; free some, or choose --out on another"
        )
