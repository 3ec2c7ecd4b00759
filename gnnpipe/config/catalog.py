"""The data sets by name. Imports nothing heavy, so that a misspelt name is reported at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gnnpipe.errors import DataError, not_known

SYNTHETIC = "synthetic"
GRAPH_FILE = "graph.yaml"
"""File that makes a folder a graph folder."""
IN_MEMORY = "in-memory"
"""Name of a graph that a Python program gives; no data set can be loaded by it."""
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
    """How a data set is loaded."""

    name: str
    class_name: str
    """Class of ``torch_geometric.datasets``; ``ogbn`` for data sets of OGB."""
    arguments: tuple[str, ...]
    """Arguments of the class after ``root``."""
    reader: Literal["pyg", "npz", "saint", "ogb"]
    """pyg: the class reads its files. The others are layouts of raw files, which gnnpipe reads itself."""


def find_source(name: str) -> Source:
    """Look up a name, in any letter case.

    Raises:
        DataError: the name is not known.
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
    """Whether a name is that of the built-in graph."""
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
