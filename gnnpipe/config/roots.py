"""Which data folder a config file or a run may name.

A config from somebody else may come with a data folder, and so with files that a loader is to trust. A folder
that came along with the config is refused unless the user names it too. Any other is read, and named.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from gnnpipe.config.catalog import IN_MEMORY, find_source
from gnnpipe.config.run import GraphConfig
from gnnpipe.errors import ConfigError, shown

OF_A_RUN = ("records.jsonl", "plan.json", "summary.json", "checkpoints")


def place_key(config: GraphConfig) -> Literal["graph", "root"]:
    """The field that says where a config's data are read from."""
    return "root" if config.graph is None else "graph"


def check_root(config: GraphConfig, sources: Sequence[tuple[Path, str | None]]) -> list[str]:
    """Lines that tell the user where data are read from, if a file and not the user named the folder.

    Args:
        config: names the data, whoever gave it.
        sources: folders that settings came from, each with the folder that its file names: the value of
            `place_key`.

    Raises:
        ConfigError: the data folder lies in one of ``sources``.
    """
    key = place_key(config)
    given = getattr(config, key)
    if key == "root" and (config.is_synthetic or config.dataset == IN_MEMORY):
        return []
    place = given or str(Path("data") / find_source(config.dataset).class_name)
    lines = []
    for folder, said in sources:
        asked = given is not None and said == given
        if (asked or is_run(folder)) and is_inside(place, folder) and not is_own_config(folder):
            raise ConfigError(
                f"{key}: '{shown(place)}' lies in '{folder}', whose files may be somebody else's; give "
                f"--{key} {shown(place)} if you trust them"
            )
        if asked:
            lines.append(f"data are read from '{shown(os.path.realpath(place))}', as '{folder}' says")
    return lines


def is_inside(place: str, folder: Path) -> bool:
    """Whether a path lies in a folder: as it is written, or after links are followed."""
    inner = {Path(os.path.abspath(place)), Path(os.path.realpath(place))}  # noqa: PTH100 (keeps links)
    outer = {Path(os.path.abspath(folder)), Path(os.path.realpath(folder))}  # noqa: PTH100
    return any(one == other or other in one.parents for one in inner for other in outer)


def is_run(folder: Path) -> bool:
    """Whether a folder holds a run."""
    return any((folder / name).exists() for name in OF_A_RUN)


def is_own_config(folder: Path) -> bool:
    """Whether settings came from the folder that the user works in, or one above it, and not from a run."""
    here, there = Path.cwd().resolve(), folder.resolve()
    return not is_run(folder) and (there == here or there in here.parents)
