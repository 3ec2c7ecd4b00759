"""Roles of tables: each has a row for an edge, a node, or an entry of the feature matrix."""

from __future__ import annotations

from dataclasses import dataclass

from gnnpipe.graph.sources.tables.table import Table


@dataclass(frozen=True)
class EdgeTable:
    """A table with a row for each edge."""

    table: Table
    source: str
    """Column of the ids of sources."""
    target: str
    """Column of the ids of targets."""
    weight: str | None
    """Column of weights; None where each edge counts 1."""
    features: tuple[str, ...] = ()
    """Columns of the edges' features."""
    type: str | None = None
    """Column of the edges' types; None where they have none."""


@dataclass(frozen=True)
class NodeTable:
    """A table with a row for each node."""

    table: Table
    id: str
    """Column of the nodes' ids."""
    features: tuple[str, ...]
    """Columns of features."""
    labels: tuple[str, ...]
    """One column of labels, or several of 0 and 1; none where the table has no labels."""
    split: str | None
    """Column of the split; None where the table has none."""


@dataclass(frozen=True)
class EntryTable:
    """Features in long form: a row for each entry of the feature matrix that is not zero."""

    table: Table
    id: str
    """Column of the nodes' ids."""
    feature: str
    """Column of the features' ids."""
    value: str | None
    """Column of the entries; None where each is 1."""


@dataclass(frozen=True)
class Layout:
    """All tables of a graph."""

    edges: EdgeTable
    nodes: tuple[NodeTable, ...]
    entries: tuple[EntryTable, ...]
    notes: tuple[str, ...]
    """Lines for the user: each names a file or column that is not used."""
