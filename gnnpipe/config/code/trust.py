"""Which code a config file or a run may name, as `gnnpipe.config.roots` says it of data.

A run from somebody else may come with code. Code that came along is never run unless the user names it too;
nor is code by a relative path that a run names, which no run of ours writes. Any other is run, and named.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.machinery import PathFinder
from pathlib import Path

from gnnpipe.config.code.place import CodePlace, is_code, with_whole_path
from gnnpipe.config.roots import is_inside, is_own_config, is_run
from gnnpipe.errors import ConfigError, shown


def check_code(model: str, sources: Sequence[tuple[Path, str | None]]) -> list[str]:
    """Lines that tell the user which code is run, if a file and not the user named it.

    Args:
        model: the model, whoever gave it.
        sources: folders that settings came from, each with the model that its file names.

    Raises:
        ConfigError: the code lies in one of ``sources``, or a run names it by a relative path.
    """
    if not is_code(model):
        return []
    place, lines = CodePlace.parse(model), []
    for folder, said in sources:
        if not said or with_whole_path(said) != with_whole_path(model):
            continue
        relative = is_run(folder) and place.is_file and not Path(CodePlace.parse(said).module).is_absolute()
        came_along = any(is_inside(file, folder) for file in _files(place)) and not is_own_config(folder)
        if relative or came_along:
            how = "is named" if relative else "lies"
            raise ConfigError(
                f"model: the code of '{shown(model)}' {how} in '{folder}', whose files may be "
                f"somebody else's; give --model {shown(model)} if you trust it"
            )
        lines.append(f"the model's code is run: '{shown(with_whole_path(model))}', as '{folder}' says")
    return lines


def _files(place: CodePlace) -> list[str]:
    """Path of the code, found without importing anything."""
    if place.is_file:
        return [place.module]
    found = PathFinder.find_spec(place.module.partition(".")[0], [*sys.path, os.getcwd()])  # noqa: PTH109
    if found is None:
        return []
    return [*([found.origin] if found.origin else []), *(found.submodule_search_locations or [])]
