"""The folder that data are read from, and the code that is run, if a config file or a run names it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from gnnpipe.cli.config_file import as_flag, read_config, split_off
from gnnpipe.config import roots
from gnnpipe.config.code import trust
from gnnpipe.config.resume import stored_settings
from gnnpipe.config.run import GraphConfig, ModelConfig
from gnnpipe.files.reading import Content


def check_root(arguments: Sequence[str], config: GraphConfig, resume: str | None = None) -> None:
    """Print where data are read from and which code is run, unless the command line says so itself.

    Args:
        arguments: of the command line.
        config: names the data, and perhaps a model, whoever gave it.
        resume: folder of the run that goes on.

    Raises:
        ConfigError: the folder, or the code, came with a config or a run, and the command line does not name
            it.
    """
    if isinstance(config, ModelConfig):
        _check_code(arguments, config.model, resume)
    key = roots.place_key(config)
    if any(argument.partition("=")[0] == f"--{key}" for argument in arguments):
        return
    sources = [(Path(resume), _said(stored_settings(Path(resume)), key))] if resume else []
    sources += [(Path(path).parent, _said(read_config(path), key)) for path in split_off(arguments)[0]]
    _tell(roots.check_root(config, sources))


def _check_code(arguments: Sequence[str], model: str, resume: str | None = None) -> None:
    """Print which code is run, unless the command line names it itself.

    Args:
        arguments: of the command line.
        model: the model, whoever gave it.
        resume: folder of the run that goes on.

    Raises:
        ConfigError: the code came with a config or a run, and the command line does not name it.
    """
    if any(argument.partition("=")[0] == "--model" for argument in arguments):
        return
    sources = [(Path(resume), stored_settings(Path(resume)).get("model"))] if resume else []
    sources += [(Path(path).parent, read_config(path).get("model")) for path in split_off(arguments)[0]]
    _tell(trust.check_code(model, sources))


def _tell(lines: Sequence[str]) -> None:
    if os.environ.get("RANK", "0") == "0":
        for line in lines:
            sys.stderr.write(f"{line}\n")


def _said(settings: Content, key: str) -> str:
    """The folder that settings give, written as the flag takes it."""
    return as_flag(f"--{key}", settings.get(key)).removeprefix(f"--{key}=")
