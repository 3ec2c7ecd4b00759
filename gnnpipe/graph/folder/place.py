"""Where a graph folder may be written, and putting it there when it is complete."""

from __future__ import annotations

import shutil
from pathlib import Path

from gnnpipe.config.catalog import GRAPH_FILE
from gnnpipe.errors import ConfigError, shown
from gnnpipe.files.place import check_place
from gnnpipe.files.writing import is_leftover
from gnnpipe.graph.folder.form import FILES
from gnnpipe.system.words import readable_bytes


def check_may_write(out: Path, *, overwrite: bool) -> None:
    """Raise ConfigError where no graph folder may be made: only another graph is ever replaced, and only if
    that is asked for."""
    if out.is_symlink():
        raise ConfigError(f"out: '{shown(out)}' is a link; name the folder that it leads to")
    check_place(out)
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


def check_space(folder: Path, needed: int) -> None:
    """Raise ConfigError unless the disk of ``folder`` has room for ``needed`` bytes."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ConfigError(
            f"out: about {readable_bytes(needed)} are needed while the graph is written, and the disk of "
            f"'{shown(folder.parent)}' has {readable_bytes(free)} free; free some, or choose --out on another"
        )
