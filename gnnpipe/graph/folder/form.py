"""The form of a graph folder: its files, their types, and the content of graph.yaml."""

from __future__ import annotations

from dataclasses import dataclass

from gnnpipe.config.catalog import GRAPH_FILE
from gnnpipe.files.npy import StoredArray
from gnnpipe.graph.folder.report import GraphReport
from gnnpipe.graph.sources.raw import KnownTask

FORMAT = 2
"""Number of the form that is written. A reader knows its own and those before it."""
ARRAYS: dict[str, tuple[tuple[str, ...], tuple[int, ...]]] = {
    "rowptr": (("<i8",), (1,)),
    "col": (("<i4", "<i8"), (1,)),
    "weight": (("<f4",), (1,)),
    "count": (("<f4",), (1,)),
    "edge_attr": (("<f4",), (2,)),
    "edge_type": (("<i8",), (1,)),
    "edge_type_names": (("|u1",), (1,)),
    "edge_type_names_start": (("<i8",), (1,)),
    "features": (("<f4", "<f2"), (2,)),
    "feature_rowptr": (("<i8",), (1,)),
    "feature_col": (("<i4", "<i8"), (1,)),
    "feature_value": (("<f4",), (1,)),
    "labels": (("<i8", "<f4"), (1, 2)),
    "train_mask": (("|b1",), (1, 2)),
    "val_mask": (("|b1",), (1, 2)),
    "test_mask": (("|b1",), (1, 2)),
    "ids": (("<i8", "|u1"), (1,)),
    "ids_start": (("<i8",), (1,)),
    "class_names": (("|u1",), (1,)),
    "class_names_start": (("<i8",), (1,)),
}
"""Arrays that a folder may hold, each in ``NAME.npy``: allowed types and numbers of dimensions."""
FILES = {GRAPH_FILE, *(f"{name}.npy" for name in ARRAYS)}


@dataclass(frozen=True)
class GraphFile:
    """The content of graph.yaml."""

    format: int
    """`FORMAT` of the writer."""
    written_by: str
    """Program and version that wrote the folder."""
    name: str
    """Name of the graph in printed lines."""
    source: str
    """Name of the file, folder or program that the graph came from."""
    num_nodes: int
    """Number of nodes."""
    num_classes: int | None
    """Number of classes, or of columns of the labels; None without labels."""
    task: KnownTask | None
    """Whether labels are classes (0/1 columns included) or values; None without labels."""
    arrays: dict[str, StoredArray]
    """Files of numbers, by their names without ``.npy``."""
    report: GraphReport
    """Statistics, as ``gnnpipe import`` printed them."""
    notes: tuple[str, ...] = ()
    """Lines for the user: each names something that was left out or changed."""
