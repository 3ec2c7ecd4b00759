"""Graph: a graph with features, labels and masks, checked as it is made."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from gnnpipe.errors import DataError
from gnnpipe.graph.convert import (
    as_features,
    as_ids,
    as_labels,
    as_tensor,
    check_finite,
    label_notes,
    masks_with_labels,
)
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.ids import NodeIds

# Normalising makes sparse features dense up to this size.
MOST_FILLED_BYTES = 2**30
NO_NODES = "graph: it has no nodes; at least one is needed"

Task = Literal["multiclass", "binary", "multilabel"]


@dataclass(frozen=True)
class Graph:
    """One graph with features, labels and masks; checked as it is made.

    Raises:
        DataError: if shapes disagree, an edge names a node that does not exist, a feature is not finite, a
            label lies outside the classes, or masks overlap or are empty.
    """

    name: str
    """Name of the graph in printed lines and folders."""
    adjacency: Csr
    """``[num_nodes, num_nodes]``: entry (i, j) counts the edges from j to i, so row i lists the nodes that
    node i aggregates from."""
    features: Tensor | Csr
    """float32 ``[num_nodes, num_features]``, dense or sparse."""
    labels: Tensor
    """int64 ``[num_nodes]`` class numbers, or float32 ``[num_nodes, num_classes]`` of 0 and 1. Nodes without
    a label are in no mask and have -1 or NaN."""
    num_classes: int
    """Number of classes (or of labels that a node may have)."""
    train_mask: Tensor
    """bool ``[num_nodes]``."""
    val_mask: Tensor
    """bool ``[num_nodes]``."""
    test_mask: Tensor
    """bool ``[num_nodes]``."""
    notes: tuple[str, ...] = ()
    """Lines for the user: each names something that was left out or changed while loading."""
    weighted: bool = False
    """Whether entries of the adjacency are weights of edges. Parallel edges are then entries of their own, in
    the order given; without weights an entry counts them."""
    ids: NodeIds | None = None
    """Ids of the nodes in the files they came from; None where they are 0, 1, 2 and so on."""
    class_names: tuple[str, ...] = ()
    """Name of each class; empty where classes are just numbers."""

    def __post_init__(self) -> None:
        """Check everything that a user's data may get wrong; raises DataError."""
        _check_adjacency(self.adjacency)
        _check_features(self.features, self.num_nodes)
        _check_masks(self.masks, self.num_nodes)
        _check_labels(self)

    @property
    def num_nodes(self) -> int:
        """Number of nodes."""
        return self.adjacency.num_rows

    @property
    def num_edges(self) -> int:
        """Number of directed edges; parallel edges count once."""
        return self.adjacency.num_entries

    @property
    def num_features(self) -> int:
        """Columns of the feature matrix."""
        return self.features.num_cols if isinstance(self.features, Csr) else self.features.shape[1]

    @property
    def masks(self) -> dict[str, Tensor]:
        """The three masks by the name of their split."""
        return {"train": self.train_mask, "val": self.val_mask, "test": self.test_mask}

    @property
    def task(self) -> Task:
        """Kind of classification, from the shape of the labels and the number of classes."""
        if self.labels.dim() == 2:
            return "multilabel"
        return "binary" if self.num_classes == 2 else "multiclass"

    @classmethod
    def from_edge_index(
        cls,
        edge_index: Tensor,
        features: Tensor | sp.spmatrix,
        labels: Tensor,
        masks: tuple[Tensor, Tensor, Tensor],
        *,
        num_classes: int | None = None,
        name: str = "graph",
        undirected: bool = False,
        notes: tuple[str, ...] = (),
    ) -> Graph:
        """Build from the tensors of PyG's ``Data``.

        Args:
            edge_index: int64 ``[2, num_edges]``, row 0 the sources and row 1 the targets.
            features: ``[num_nodes, num_features]``, dense or a sparse matrix (SciPy's or torch's). A dense
                matrix with few non-zeros is stored sparse.
            labels: ``[num_nodes]`` class numbers or ``[num_nodes, num_classes]`` of 0 and 1. -1 or NaN stands
                for no label; nodes without one are taken out of the masks.
            masks: training, validation and test masks, ``[num_nodes]`` of bool, or of 0 and 1.
            num_classes: number of classes; by default the largest label plus one.
            name: name of the graph in printed lines.
            undirected: add the reverse of every edge.
            notes: lines for the user about the arguments themselves.

        Raises:
            DataError: an argument can't be converted without loss, or the class refuses the result.
        """
        rows, feature_notes = as_features(features)
        num_nodes = rows.num_rows if isinstance(rows, Csr) else rows.shape[0]
        if num_nodes == 0:
            raise DataError(NO_NODES)
        adjacency, edge_notes = _adjacency(edge_index, num_nodes, undirected)
        labels = as_labels(labels)
        _check_rows(labels, num_nodes)
        kept, mask_notes = masks_with_labels(masks, labels)
        classes = num_classes or _count_classes(labels)
        notes = (*notes, *edge_notes, *feature_notes, *label_notes(labels, classes), *mask_notes)
        return cls(name, adjacency, rows, labels, classes, *kept, notes=notes)

    def with_normalized_features(self) -> Graph:
        """The same graph with features as torch_geometric's NormalizeFeatures makes them.

        The smallest entry of the whole matrix is subtracted from all, then each row is divided by its sum,
        where that is above 1.

        Raises:
            DataError: subtracting would make sparse features dense and larger than `MOST_FILLED_BYTES`, or
                the sum of a row is too large for float32.
        """
        if not isinstance(self.features, Csr):
            return replace(self, features=_normalized(self.features))
        matrix = self.features.to_scipy()
        least = float(matrix.min()) if min(matrix.shape) else 0.0  # counts the zeros that are not stored
        if least != 0:
            size = 4 * self.num_nodes * self.num_features
            if size > MOST_FILLED_BYTES:
                raise DataError(
                    f"normalize-features: the smallest entry is {least:g}, and to shift all by it makes "
                    f"sparse features dense ({size / 2**30:.1f} GiB); leave it out, or shift them first"
                )
            return replace(self, features=_normalized(torch.from_numpy(matrix.toarray())))
        # nothing to subtract: the zeros that are not stored stay zero, and scaling keeps the matrix sparse
        total = np.asarray(matrix.sum(axis=1)).ravel()
        _check_sums(torch.from_numpy(total))
        return replace(self, features=Csr.from_scipy(sp.diags(1 / np.maximum(total, 1)) @ matrix))


def _normalized(features: Tensor) -> Tensor:
    if not features.numel():
        return features
    shifted = features - features.min()
    total = shifted.sum(dim=1, keepdim=True)
    _check_sums(total)
    return shifted / total.clamp(min=1.0)


def _check_sums(total: Tensor) -> None:
    bad = ~torch.isfinite(total).flatten()
    if bad.any():
        raise DataError(
            f"normalize-features: the entries of node {int(bad.nonzero()[0])} are too large to be added up "
            "in float32; scale the features down first"
        )


def _adjacency(edge_index: Tensor, num_nodes: int, undirected: bool) -> tuple[Csr, tuple[str, ...]]:
    """The adjacency (row: target, column: source, entry: number of parallel edges) and notes about it."""
    edge_index = as_tensor(edge_index, "edge_index")
    if edge_index.dim() != 2 or edge_index.shape[0] != 2:
        raise DataError(f"edge_index: expected shape [2, num_edges], got {list(edge_index.shape)}")
    source, target = as_ids(edge_index, "edge_index", num_nodes).numpy()
    # conversion from coordinates sums duplicates, so that an entry counts parallel edges
    ones = np.ones(len(source), dtype=np.float32)
    matrix = sp.coo_matrix((ones, (target, source)), shape=(num_nodes, num_nodes)).tocsr()
    repeated = len(source) - matrix.nnz
    if undirected:
        matrix = (matrix + matrix.T).tocsr()
        matrix.data[:] = 1.0
    weigh = "once, as --undirected is given" if undirected else "as often as it occurs"
    note = f"edges: {repeated:,} of {len(source):,} repeat others; each counts {weigh}"
    return Csr.from_scipy(matrix), (note,) if repeated else ()


def _check_rows(labels: Tensor, num_nodes: int) -> None:
    if labels.shape[0] != num_nodes:
        raise DataError(f"labels: {labels.shape[0]} rows for {num_nodes} nodes; give one for each node")


def _count_classes(labels: Tensor) -> int:
    """Columns of several labels, or the largest class number plus one; raises DataError for absurd ones."""
    if labels.dim() == 2:
        return labels.shape[1]
    largest = int(labels.max()) if labels.numel() else -1
    if largest >= labels.shape[0]:  # more classes than nodes: these are ids, or years, not classes
        raise DataError(
            f"labels: {largest} can't be a class of a graph with {labels.shape[0]} nodes; "
            "number the classes 0, 1, 2 and so on, or give num_classes"
        )
    return largest + 1


def _check_adjacency(adjacency: Csr) -> None:
    if adjacency.num_rows == 0:
        raise DataError(NO_NODES)
    if adjacency.num_rows != adjacency.num_cols:
        raise DataError(
            f"adjacency: expected a square matrix, got {adjacency.num_rows} x {adjacency.num_cols}"
        )
    value = adjacency.value
    if value.numel() and not bool((torch.isfinite(value) & (value >= 0)).all()):
        raise DataError("adjacency: an entry is negative or not finite; entries count edges")
    col = adjacency.col
    if col.numel() and (int(col.min()) < 0 or int(col.max()) >= adjacency.num_cols):
        raise DataError(
            f"adjacency: node id {int(col.max())} is out of range for {adjacency.num_cols} nodes; "
            "renumber the edges"
        )


def _check_features(features: Tensor | Csr, num_nodes: int) -> None:
    if (features.num_cols if isinstance(features, Csr) else features.shape[1]) == 0:
        raise DataError("features: there are no columns; give one at least")
    rows = features.num_rows if isinstance(features, Csr) else features.shape[0]
    if rows != num_nodes:
        raise DataError(f"features: {rows} rows for {num_nodes} nodes; give one row for each node")
    check_finite(features)


def _check_masks(masks: dict[str, Tensor], num_nodes: int) -> None:
    for name, mask in masks.items():
        if mask.dtype != torch.bool or mask.shape != (num_nodes,):
            raise DataError(
                f"{name}_mask: expected bool [{num_nodes}], got {str(mask.dtype)[6:]} {list(mask.shape)}"
            )
        if not mask.any():
            raise DataError(f"{name}_mask: it is empty; mark at least one node")
    for first, second in (("train", "val"), ("train", "test"), ("val", "test")):
        num_shared = int((masks[first] & masks[second]).sum())
        if num_shared:
            raise DataError(
                f"{first}_mask and {second}_mask overlap in {num_shared} nodes; "
                "a node belongs to one split at most"
            )


def _check_labels(data: Graph) -> None:
    labels, num_nodes = data.labels, data.num_nodes
    _check_rows(labels, num_nodes)
    used = labels[data.train_mask | data.val_mask | data.test_mask]
    low, high = (0, 1) if labels.dim() == 2 else (0, data.num_classes - 1)
    if labels.dim() == 2 and labels.shape[1] != data.num_classes:
        raise DataError(f"labels: {labels.shape[1]} columns for num_classes {data.num_classes}")
    outside = (used < low) | (used > high) | ~torch.isfinite(used)
    if outside.any():
        raise DataError(
            f"labels: {used[outside][0].item()} lies outside {low} to {high} "
            f"({int(outside.sum())} such labels in the masks, num_classes is {data.num_classes}); "
            "mend the label or raise num_classes"
        )
