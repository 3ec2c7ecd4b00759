"""Whether a folder can be made where a user wants one."""

from __future__ import annotations

import os
from pathlib import Path

from gnnpipe.errors import ConfigError, shown


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
