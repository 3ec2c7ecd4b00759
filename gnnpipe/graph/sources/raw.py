"""RawGraph: what the files of a data set hold, read but not checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.sparse as sp
from torch import Tensor

from gnnpipe.graph.csr import Csr
from gnnpipe.graph.ids import NodeIds
from gnnpipe.graph.splits import Masks

KnownTask = Literal["classes", "regression"]
"""Classes, 0/1 columns included; or values to be predicted."""


@dataclass(frozen=True)
class RawGraph:
    """The content of a data set's files, before `Graph` or the writer of a graph folder checks it.

    Each array may be a NumPy array that is mapped from disk and larger than the memory: go through it in
    blocks, and never copy it whole. A mapped array is what its file holds: it was not changed in memory
    since (mode ``c``), as its pages may be dropped and read again.
    """

    edge_index: Tensor | np.ndarray | Csr
    """Whole numbers ``[2, num_edges]``: sources and targets, as numbers of nodes from 0 on. Or an adjacency
    that is ready, as `Graph.adjacency`: that of a graph folder is checked and mapped from disk, must not be
    written to, and must not be sorted or converted anew. Without weights and parallel edges its values are
    one 1 that is expanded (stride 0), which takes no memory."""
    features: Tensor | np.ndarray | sp.csr_matrix | None
    """``[num_nodes, num_features]``; None where the files have none."""
    labels: Tensor | np.ndarray | None
    """``[num_nodes]`` or ``[num_nodes, num_labels]``; -1 or NaN where a node has none; None where the files
    have none at all."""
    masks: Masks | None
    """``[num_nodes]``, or ``[num_nodes, num_splits]`` where the data set ships several splits; or None."""
    notes: tuple[str, ...] = ()
    """Lines for the user: each names something that was left out or changed."""
    weight: Tensor | np.ndarray | None = None
    """``[num_edges]``: weight of each edge; None where the files have none, and each edge counts 1. Of an
    adjacency that is ready, its own values; None where these count parallel edges."""
    num_nodes: int | None = None
    """Number of nodes, where it is known otherwise than by the features."""
    ids: NodeIds | None = None
    """Ids of the nodes in the files; None where they are 0, 1, 2 and so on."""
    class_names: tuple[str, ...] = ()
    """Name of each class in the files; empty where classes are numbers."""
    name: str = ""
    """Name of the graph in printed lines; empty where the files don't say."""
    task: KnownTask | None = None
    """Whether labels are classes (0/1 columns included), or values to be predicted; None where only their
    values tell."""
    num_classes: int | None = None
    """Number of classes, where there may be more than the labels show."""
    edge_attr: Tensor | np.ndarray | None = None
    """``[num_edges]`` or ``[num_edges, edge_dim]``: features of each edge, or of each entry of an adjacency
    that is ready; None where the files have none."""
    edge_type: Tensor | np.ndarray | None = None
    """Whole numbers ``[num_edges]``: the type of each edge; None where the files have none."""
    edge_type_names: tuple[str, ...] = ()
    """Name of each type of edges in the files; empty where types are numbers."""


def one_column_note(edge_attr: Tensor | np.ndarray | None, *, weighted: bool) -> tuple[str, ...]:
    """A note where features of edges look like weights, which the source does not have."""
    if weighted or edge_attr is None or edge_attr.shape[1:] not in ((), (1,)):
        return ()
    return (
        "edges: edge_attr (one column) is taken as a feature; weights of edges are to be named edge_weight",
    )
