"""Runs that differ in their seed alone, in one folder: which seeds are asked for, and which are there.

OUT/seed-0, OUT/seed-1, ...   a run each
OUT/seeds.png                 their picture
"""

from __future__ import annotations

import re
from pathlib import Path

from gnnpipe.errors import ConfigError, shown
from gnnpipe.records.taking import CONFIG

SEEDS_PICTURE = "seeds.png"
MOST_SEEDS = 1000


def parse_seeds(text: str) -> tuple[int, ...]:
    """Seeds as a user writes them: ``0..9`` (0 to 9, ten of them), ``0,3,7``, or both, as in ``0..3,7``.

    Raises:
        ConfigError: another form, one seed twice, or too many.
    """
    seeds: list[int] = []
    for piece in text.split(","):
        found = re.fullmatch(r"\s*(\d{1,18})(?:\.\.(\d{1,18}))?\s*", piece)
        first = int(found[1]) if found else 0
        last = int(found[2] or first) if found else -1
        if last < first:
            raise ConfigError(
                f"seeds: '{shown(text)}' can't be used; write the first and the last as in 0..9, or each as "
                "in 0,3,7"
            )
        if len(seeds) + last - first >= MOST_SEEDS:
            raise ConfigError(f"seeds: '{shown(text)}' are more than {MOST_SEEDS}; use fewer")
        seeds += range(first, last + 1)
    if len(set(seeds)) < len(seeds):
        twice = next(seed for seed in seeds if seeds.count(seed) > 1)
        raise ConfigError(f"seeds: '{shown(text)}' names {twice} twice; name each once")
    return tuple(seeds)


def seed_folder(out: Path, seed: int) -> Path:
    """The folder of a seed's run."""
    return out / f"seed-{seed}"


def runs_by_seed(out: Path) -> dict[int, Path]:
    """Folders of the runs by seed, in order; empty if ``out`` is no such folder."""
    if not out.is_dir() or (out / CONFIG).exists():
        return {}
    names = {path: re.fullmatch(r"seed-(0|[1-9]\d{0,18})", path.name) for path in out.iterdir()}
    found = {int(name[1]): path for path, name in names.items() if name and (path / CONFIG).is_file()}
    return dict(sorted(found.items()))


def check_holds_seeds(out: Path) -> None:
    """Raise ConfigError if a folder that runs are to be put into is a run itself."""
    if (out / CONFIG).exists():
        raise ConfigError(f"out: '{out}' is a run itself; name a folder for the runs of all seeds")
