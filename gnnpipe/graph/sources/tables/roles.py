"""What each table of a graph holds."""

from __future__ import annotations

from dataclasses import dataclass

from gnnpipe.graph.sources.tables.table import Table


@dataclass(frozen=True)
class EdgeTable:
    """A table with a row for each edge."""

    table: Table
    source: str
    target: str
    weight: str | None


@dataclass(frozen=True)
class NodeTable:
    """A table with a row for each node."""

    table: Table
    id: str
    features: tuple[str, ...]
    labels: tuple[str, ...]
    split: str | None


@dataclass(frozen=True)
class EntryTable:
    """Features in long form: a row for each entry of the feature matrix that is not zero."""

    table: Table
    id: str
    feature: str
    value: str | None
    """Column of the entries; None where each is 1."""


@dataclass(frozen=True)
class Layout:
    """All tables of a graph."""

    edges: EdgeTable
    nodes: tuple[NodeTable, ...]
    entries: tuple[EntryTable, ...]
    notes: tuple[str, ...]
