"""Where data are read from, if a config file or a run says so."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gnnpipe.cli.config_file import as_flag, read_config, split_off
from gnnpipe.config import roots
from gnnpipe.config.resume import stored_settings


def check_root(arguments: Sequence[str], dataset: str, root: str | None, resume: str | None = None) -> None:
    """Make sure that the user knows where data are read from.

    Args:
        arguments: of the command line.
        dataset: its name.
        root: of it, from wherever.
        resume: folder of the run that goes on.

    Raises:
        ConfigError: the folder came with a config or a run, and the command line does not name it.
    """
    if any(argument.partition("=")[0] == "--root" for argument in arguments):
        return
    sources = [(Path(resume), _root_in(stored_settings(Path(resume))))] if resume else []
    sources += [(Path(path).parent, _root_in(read_config(path))) for path in split_off(arguments)[0]]
    for line in roots.check_root(dataset, root, sources):
        if os.environ.get("RANK", "0") == "0":
            sys.stderr.write(f"{line}\n")


def _root_in(settings: dict[str, Any]) -> str:
    """As the flag that it stands for."""
    return as_flag("--root", settings.get("root")).removeprefix("--root=")
