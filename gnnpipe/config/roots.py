"""Config files from somebody else: what they may ask for.

A file may say where the data lie, and a data set's folder is a way to bring files along. So a folder that
came with the config is read only if the user names it too, and any other one is named.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from gnnpipe.config.catalog import IN_MEMORY, find_source, is_synthetic
from gnnpipe.errors import ConfigError, shown

OF_A_RUN = ("records.jsonl", "plan.json", "summary.json", "checkpoints")


def check_root(dataset: str, root: str | None, sources: Sequence[tuple[Path, str | None]]) -> list[str]:
    """Where data are read from, as lines for a user who has not said so.

    Args:
        dataset: its name.
        root: of it, from wherever.
        sources: folders of the files that settings came from, and the root that each of them gives.

    Raises:
        ConfigError: the folder came with a config or a run.
    """
    if is_synthetic(dataset) or dataset == IN_MEMORY:
        return []
    place = root or str(Path("data") / find_source(dataset).class_name)
    lines = []
    for folder, said in sources:
        asked = root is not None and said == root
        if (asked or _is_run(folder)) and _is_inside(place, folder) and not _is_own_config(folder):
            raise ConfigError(
                f"root: '{shown(place)}' lies in '{folder}', whose files may be somebody else's; give "
                f"--root {shown(place)} if you trust them"
            )
        if asked:
            lines.append(f"data are read from '{shown(os.path.realpath(place))}', as '{folder}' says")
    return lines


def _is_inside(place: str, folder: Path) -> bool:
    """By the name it has, and by where its links lead."""
    inner = {Path(os.path.abspath(place)), Path(os.path.realpath(place))}  # noqa: PTH100 (keeps links)
    outer = {Path(os.path.abspath(folder)), Path(os.path.realpath(folder))}  # noqa: PTH100
    return any(one == other or other in one.parents for one in inner for other in outer)


def _is_run(folder: Path) -> bool:
    return any((folder / name).exists() for name in OF_A_RUN)


def _is_own_config(folder: Path) -> bool:
    """A file in the folder that the user works in, which is no run."""
    here, there = Path.cwd().resolve(), folder.resolve()
    return not _is_run(folder) and (there == here or there in here.parents)
