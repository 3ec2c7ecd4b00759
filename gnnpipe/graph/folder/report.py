"""GraphReport: statistics of a graph, counted while it was written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gnnpipe.graph.labels import LabelKind

QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.99, 1.0)


@dataclass(frozen=True)
class EdgeFacts:
    """Statistics of the edges."""

    num_given: int
    """Edges of the source."""
    num_edges: int
    """Entries of the adjacency that was written."""
    num_loops: int
    """Edges of the source from a node to itself."""
    loops: Literal["keep", "drop"]
    """Whether they were kept or dropped."""
    num_repeated: int
    """Edges that repeat others, added reverses included."""
    duplicates: Literal["keep", "sum", "drop"]
    """Whether they were kept, summed or dropped."""
    reversed: bool
    """Whether the reverse of every edge was added."""
    directed: bool
    """Whether there is an edge without its reverse."""
    num_isolated: int
    """Nodes without any edge; a self loop is none."""
    in_degree: tuple[int, ...]
    """Numbers of entries in a row, at each of `QUANTILES`."""
    histogram: tuple[int, ...]
    """Numbers of nodes with 0, 1, 2 to 3, 4 to 7, 8 to 15 and so on entries in their rows."""
    homophily: float | None
    """Share of edges between nodes of one class, among those with both classes known; None without any."""
    weights: tuple[float, float] | None
    """Smallest and largest weight; None for a graph without weights."""
    edge_dim: int = 0
    """Columns of the edges' features; 0 for none."""
    num_types: int = 0
    """Number of types of edges; 0 for none."""


@dataclass(frozen=True)
class ClassSize:
    """A class and its size."""

    name: str
    """Its name in the source, or its number."""
    num_nodes: int
    """Nodes of that class."""


@dataclass(frozen=True)
class LabelFacts:
    """Statistics of the labels."""

    kind: LabelKind
    """One class a node; 0/1 columns; or values."""
    num_classes: int
    """Number of classes, or of columns."""
    classes: tuple[ClassSize, ...]
    """The largest classes or columns, largest first."""
    num_unlabelled: int
    """Nodes without a label."""
    values: tuple[float, float] | None
    """Smallest and largest value of regression."""


@dataclass(frozen=True)
class FeatureFacts:
    """Statistics of the features."""

    num_features: int
    """Number of columns."""
    dtype: str
    """Type of the numbers."""
    sparse: bool
    """Whether they are stored sparse."""
    density: float
    """Share of the entries that are not zero."""
    constant: tuple[int, ...]
    """The first columns that hold one value only."""
    num_constant: int
    """Number of such columns."""
    not_finite: tuple[int, ...]
    """The first columns with NaN or infinite entries."""
    num_not_finite: int
    """Number of such columns."""


@dataclass(frozen=True)
class SplitFacts:
    """Statistics of the splits that come with the graph."""

    num_splits: int
    """Number of splits."""
    train: int
    """Training nodes of the first split."""
    val: int
    """Validation nodes of the first split."""
    test: int
    """Test nodes of the first split."""


@dataclass(frozen=True)
class GraphReport:
    """Statistics of a graph folder."""

    num_nodes: int
    """Number of nodes."""
    edges: EdgeFacts
    """Edges."""
    labels: LabelFacts | None
    """Labels; None without any."""
    features: FeatureFacts | None
    """Features; None without any."""
    splits: SplitFacts | None
    """Splits; None where none are stored."""
    ids: Literal["numbers", "text"] | None
    """Ids of the nodes in the source; None where they are 0, 1, 2 and so on."""
    bytes_on_disk: int
    """Size of all arrays."""
    seconds: float
    """Time that writing took, without reading the source."""
