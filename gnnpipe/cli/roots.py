"""The folder that data are read from, if a config file or a run names it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from gnnpipe.cli.config_file import as_flag, read_config, split_off
from gnnpipe.config import roots
from gnnpipe.config.resume import stored_settings
from gnnpipe.config.run import GraphConfig
from gnnpipe.files.reading import Content


def check_root(arguments: Sequence[str], config: GraphConfig, resume: str | None = None) -> None:
    """Print where data are read from, unless the command line says so itself.

    Args:
        arguments: of the command line.
        config: names the data, whoever gave it.
        resume: folder of the run that goes on.

    Raises:
        ConfigError: the folder came with a config or a run, and the command line does not name it.
    """
    key = roots.place_key(config)
    if any(argument.partition("=")[0] == f"--{key}" for argument in arguments):
        return
    sources = [(Path(resume), _said(stored_settings(Path(resume)), key))] if resume else []
    sources += [(Path(path).parent, _said(read_config(path), key)) for path in split_off(arguments)[0]]
    for line in roots.check_root(config, sources):
        if os.environ.get("RANK", "0") == "0":
            sys.stderr.write(f"{line}\n")


def _said(settings: Content, key: str) -> str:
    """The folder that settings give, written as the flag takes it."""
    return as_flag(f"--{key}", settings.get(key)).removeprefix(f"--{key}=")
