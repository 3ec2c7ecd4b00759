"""Settings of ``gnnpipe import``, as frozen dataclasses like `gnnpipe.config.run.RunConfig`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gnnpipe.config.run import LabelTask

Duplicates = Literal["keep", "sum", "drop"]
SelfLoops = Literal["keep", "drop"]
UnknownNodes = Literal["error", "add", "drop"]
Categories = Literal["one-hot", "codes"]


@dataclass(frozen=True)
class TablesConfig:
    """Tables (CSV, TSV, Parquet): which files, and what their columns mean.

    Columns are given by name, or by number from 0 where a file has no header. Others are guessed from usual
    names, and each guess is printed.
    """

    nodes: tuple[str, ...] = ()
    """Files with a row for each node (labels, features, splits), or features in long form (node, feature,
    value). Where the source is a folder, those in it whose columns say so need not be named."""
    header: Literal["auto", "yes", "no"] = "auto"
    """Whether the first line of CSV and TSV files names the columns. auto: unless all its cells are
    numbers."""
    source: str | None = None
    """Column of the edges' sources. Guessed: source, src, from, id_1, u and the like, if the target's name
    belongs to it; else the first of two columns."""
    target: str | None = None
    """Column of the edges' targets. Guessed: target, dst, to, id_2, v and the like; else the second of two
    columns."""
    weight: str | None = None
    """Column of the edges' weights. Guessed: weight, edge_weight, w. none: every edge counts 1."""
    edge_features: str | None = None
    """Columns of the edges' features, which are numbers: names separated by commas, with * for any text, as
    len,speed_*; !name takes one out. By default none."""
    edge_type: str | None = None
    """Column of the edges' types: whole numbers from 0 on, which stay as they are, or text, whose different
    values are numbered in alphabetical order. By default none."""
    id: str | None = None
    """Column of the node tables that names the node. Guessed: id, node, node_id, or the only column that all
    node tables share."""
    label: str | None = None
    """Column of the labels, of any type, or several separated by commas, for 0/1 labels of which a node may
    have several. Guessed: label, target, y, class. none: there are none. Text
    becomes classes in alphabetical order, numbers in numeric order; an empty cell (or NA, null, NaN) is no
    label."""
    split: str | None = None
    """Column that says train, val (valid, validation) or test; an empty cell is in none. Guessed: split,
    fold, role, set. none: there is none."""
    feature_columns: str | None = None
    """Columns of the features: names separated by commas, with * for any text, as f_* or age,income; !name
    takes one out. none: there are none. By default all columns that are nothing else, where no features are
    in long form."""
    categorical: str | None = None
    """Feature columns to encode as categories though they hold numbers, or numbers and text: names separated
    by commas, with * for any text. Columns of text always are."""
    categories: Categories = "one-hot"
    """Encoding of categories. one-hot: a column for each value, of which there may be 1,000; codes: one
    column of numbers 0, 1, 2 and so on, in alphabetical order."""
    unknown: UnknownNodes = "error"
    """What becomes of edges whose ends are in no node table. error: refuse them, naming the first; add: make
    nodes without features (zeros) or label; drop: leave the edges out."""
    task: LabelTask = "auto"
    """Whether labels are classes, or values to be predicted (regression). auto: values if a label is no
    whole number."""


@dataclass(frozen=True)
class ImportConfig(TablesConfig):
    """Settings of ``gnnpipe import``."""

    out: str | None = None
    """Folder to write. By default graphs/NAME."""
    name: str | None = None
    """Name of the graph in printed lines. By default the source's."""
    undirected: bool = False
    """Add the reverse of every edge."""
    duplicates: Duplicates = "keep"
    """Edges that occur several times. keep: each counts; sum: one edge, of the sum of their weights; drop:
    the first one alone."""
    self_loops: SelfLoops = "keep"
    """Edges from a node to itself."""
    features: str | None = None
    """Features made from the edges, for a graph that has none, or in place of those that it has: degree, or
    laplacian:16 (eigenvectors of the normalised Laplacian, here 16)."""
    overwrite: bool = False
    """Replace the folder if it holds a graph."""
