"""The data sets by name. Imports nothing heavy, so that a misspelt name shows at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gnnpipe.errors import DataError, not_known

SYNTHETIC = "synthetic"
IN_MEMORY = "in-memory"
"""What a graph is called that a program holds; no name to load it by."""
_SAINT = ("Flickr", "Reddit2", "Yelp", "AmazonProducts")
_FAMILIES = {
    "Planetoid": "Cora CiteSeer PubMed",
    "Coauthor": "CS Physics",
    "Amazon": "Computers Photo",
    "WikipediaNetwork": "chameleon squirrel",
    "HeterophilousGraphDataset": "Roman-empire Amazon-ratings Minesweeper Tolokers Questions",
}
_OGB = "ogbn-arxiv ogbn-products ogbn-papers100M"


@dataclass(frozen=True)
class Source:
    """Where a data set comes from."""

    name: str
    class_name: str
    """Class of ``torch_geometric.datasets``; ``ogbn`` for those of OGB."""
    arguments: tuple[str, ...]
    """What the class is given after its root."""
    reader: Literal["pyg", "npz", "saint", "ogb"]
    """pyg: let the class read its files. The others are layouts of raw files that we read ourselves."""


def find_source(name: str) -> Source:
    """Look a name up; letter case does not matter.

    Raises:
        DataError: it is not known.
    """
    for source in _sources():
        if source.name.lower() == name.lower():
            return source
    if name == IN_MEMORY:
        raise DataError(
            "dataset: in-memory is a graph that a program held; give it again, to gnnpipe.train or "
            "gnnpipe.resume"
        )
    raise DataError(f"dataset: {not_known(name, dataset_names(), 'choose')}")


def dataset_names() -> list[str]:
    """Names that ``--dataset`` takes."""
    return [SYNTHETIC, *(source.name for source in _sources())]


def is_synthetic(name: str) -> bool:
    """Whether the built-in graph is meant."""
    return name.lower() == SYNTHETIC


def _sources() -> list[Source]:
    sparse = ("Coauthor", "Amazon")
    families = [
        Source(name, class_name, (name,), "npz" if class_name in sparse else "pyg")
        for class_name, names in _FAMILIES.items()
        for name in names.split()
    ]
    single = [Source(name, name, (), "saint") for name in _SAINT] + [Source("Reddit", "Reddit", (), "pyg")]
    return families + single + [Source(name, "ogbn", (name,), "ogb") for name in _OGB.split()]
