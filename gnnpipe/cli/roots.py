"""The folder that data are read from, if a config file or a run names it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from gnnpipe.cli.config_file import as_flag, read_config, split_off
from gnnpipe.config import roots
from gnnpipe.config.resume import stored_settings
from gnnpipe.files.reading import Content


def check_root(arguments: Sequence[str], dataset: str, root: str | None, resume: str | None = None) -> None:
    """Print where data are read from, unless the command line says so itself.

    Args:
        arguments: of the command line.
        dataset: name of the data set.
        root: folder of the data set, whoever named it.
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


def _root_in(settings: Content) -> str:
    """The root that settings give, written as ``--root`` takes it."""
    return as_flag("--root", settings.get("root")).removeprefix("--root=")
