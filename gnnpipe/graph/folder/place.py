"""Where a graph folder may be written, and putting it there when it is complete."""

from __future__ import annotations

import shutil
from pathlib import Path

from gnnpipe.config.catalog import GRAPH_FILE
from gnnpipe.errors import ConfigError, shown
from gnnpipe.files.place import check_replaceable
from gnnpipe.graph.folder.form import FILES
from gnnpipe.system.words import readable_bytes


def check_may_write(out: Path, *, overwrite: bool) -> None:
    """Raise ConfigError where no graph folder may be made: only another graph is ever replaced, and only if
    that is asked for."""
    check_replaceable(out, FILES, GRAPH_FILE, "a graph", overwrite=overwrite)


def check_space(folder: Path, needed: int) -> None:
    """Raise ConfigError unless the disk of ``folder`` has room for ``needed`` bytes."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ConfigError(
            f"out: about {readable_bytes(needed)} are needed while the graph is written, and the disk of "
            f"'{shown(folder.parent)}' has {readable_bytes(free)} free; free some, or choose --out on another"
        )
