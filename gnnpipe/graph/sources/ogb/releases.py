"""The node data sets that OGB publishes, and where their folders are found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ARCHIVES = "https://snap.stanford.edu/ogb/data/nodeproppred"


@dataclass(frozen=True)
class Release:
    """Form in which OGB publishes a data set."""

    name: str
    archive: str
    """Name of its zip file, and of the folder inside."""
    split: str
    """Name of the folder with the official split; empty for any."""
    one_way: bool = False
    """Whether the CSV files list each undirected edge once only."""
    last_years: tuple[int, int] | None = None
    """Last year of the training and of the validation nodes, where the official split goes by years."""
    gigabytes: float = 0.0
    """Size of the zip file."""

    @property
    def url(self) -> str:
        """Address of the zip file."""
        return f"{ARCHIVES}/{self.archive}.zip"

    def folders(self, root: Path) -> list[Path]:
        """Places of its folder: OGB's own package renames the one in the zip file."""
        return [root / self.name.replace("-", "_"), root / self.archive, root / self.name, root]


_YEARS = (2017, 2018)
_RELEASES = [
    Release("ogbn-arxiv", "arxiv", "time", last_years=_YEARS, gigabytes=0.1),
    Release("ogbn-products", "products", "sales_ranking", one_way=True, gigabytes=1.4),
    Release("ogbn-proteins", "proteins", "species", one_way=True, gigabytes=0.3),
    Release("ogbn-mag", "mag", "time", last_years=_YEARS, gigabytes=0.5),
    Release("ogbn-papers100M", "papers100M-bin", "time", last_years=_YEARS, gigabytes=57.0),
]
RELEASES = {release.name: release for release in _RELEASES}
UNKNOWN = Release("", "", "")
"""A folder in OGB's layout under a name of its own."""


def release_of(folder: Path) -> Release:
    """The release that a folder's name stands for; `UNKNOWN` for other names."""
    name = (folder.parent if folder.name == "raw" else folder).resolve().name.replace("_", "-")
    return next((release for release in _RELEASES if name in (release.name, release.archive)), UNKNOWN)
