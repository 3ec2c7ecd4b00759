"""The data sets by name. Imports nothing heavy, so that a misspelt name is reported at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gnnpipe.errors import DataError, did_you_mean, shown

SYNTHETIC = "synthetic"
GRAPH_FILE = "graph.yaml"
"""File that makes a folder a graph folder."""
IN_MEMORY = "in-memory"
"""Name of a graph that a Python program gives; no data set can be loaded by it."""
Layout = Literal["pyg", "npz", "saint", "attributed", "ogb"]


@dataclass(frozen=True)
class Source:
    """How a data set is loaded."""

    name: str
    class_name: str
    """Class of ``torch_geometric.datasets``; ``ogbn`` for data sets of OGB."""
    arguments: tuple[str | bool | None, ...]
    """Arguments of the class after ``root``."""
    reader: Layout
    """pyg: the class reads its files. The others are layouts of raw files, which gnnpipe reads itself."""


@dataclass(frozen=True)
class _Family:
    """Data sets of one class, which is given their names."""

    class_name: str
    names: str
    reader: Layout = "pyg"
    prefix: str = ""
    """Stands before the names where others have the same, as CitationFull's Cora is not Planetoid's."""

    def sources(self) -> list[Source]:
        """Its data sets."""
        return [
            Source(f"{self.prefix}{name}", self.class_name, (name,), self.reader)
            for name in self.names.split()
        ]


_FAMILIES = (
    _Family("Planetoid", "Cora CiteSeer PubMed"),
    _Family("Coauthor", "CS Physics", "npz"),
    _Family("Amazon", "Computers Photo", "npz"),
    _Family("WikipediaNetwork", "chameleon squirrel"),
    _Family("HeterophilousGraphDataset", "Roman-empire Amazon-ratings Minesweeper Tolokers Questions"),
    _Family("CityNetwork", "paris shanghai la london"),
    _Family("LINKXDataset", "penn94 reed98 amherst41 cornell5 johnshopkins55 genius"),
    _Family("CitationFull", "Cora Cora_ML CiteSeer DBLP PubMed", "npz", "CitationFull-"),
    _Family(
        "AttributedGraphDataset",
        "Wiki Cora CiteSeer PubMed BlogCatalog PPI Flickr Facebook Twitter TWeibo MAG",
        "attributed",
        "Attributed-",
    ),
    _Family("Twitch", "DE EN ES FR PT RU", "pyg", "Twitch-"),
)
# A class for one data set each, with its further arguments.
_SINGLE: dict[str, tuple[Layout, tuple[bool | None, ...]]] = {
    "Actor": ("pyg", ()),
    "WikiCS": ("pyg", (None, None, True)),  # no transforms; undirected, which the class warns of if not given
    "FacebookPagePage": ("pyg", ()),
    "GitHub": ("pyg", ()),
    "DeezerEurope": ("pyg", ()),
    "LastFMAsia": ("pyg", ()),
    "Flickr": ("saint", ()),
    "Reddit2": ("saint", ()),
    "Yelp": ("saint", ()),
    "AmazonProducts": ("saint", ()),
    "Reddit": ("pyg", ()),
}
_OGB = _Family("ogbn", "ogbn-arxiv ogbn-products ogbn-proteins ogbn-mag ogbn-papers100M", "ogb")


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
    of_class = [source.name for source in _sources() if source.class_name.lower() == name.lower()]
    if of_class:
        raise DataError(f"dataset: '{name}' stands for several; choose one of {', '.join(of_class)}")
    hint = _hint(name)
    choose = " Choose" if hint else "; choose"
    raise DataError(f"dataset: '{shown(name)}' is not known{hint}{choose} one of {_listed()}")


def dataset_names() -> list[str]:
    """Names that ``--dataset`` takes."""
    return [SYNTHETIC, *(source.name for source in _sources())]


def is_synthetic(name: str) -> bool:
    """Whether a name is that of the built-in graph."""
    return name.lower() == SYNTHETIC


def _sources() -> list[Source]:
    single = [Source(name, name, arguments, reader) for name, (reader, arguments) in _SINGLE.items()]
    families = [source for family in _FAMILIES for source in family.sources()]
    return families + single + _OGB.sources()


def _hint(name: str) -> str:
    """Did you mean: the nearest name; a name without its family's prefix counts as near."""
    for source in _sources():
        if source.name.lower().endswith(f"-{name.lower()}"):
            return f"; did you mean '{source.name}'?"
    return did_you_mean(name, dataset_names())


def _listed() -> str:
    """The names by families, as there are too many for one list: ``CitationFull-{Cora, DBLP}``."""
    families = []
    for family in _FAMILIES:
        names = ", ".join(family.names.split())
        families.append(f"{family.prefix}{{{names}}}" if family.prefix else names)
    ogb = ", ".join(_OGB.names.split())
    return "; ".join([SYNTHETIC, *families, ", ".join(_SINGLE), ogb])
