"""GraphData: a graph that has been checked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from gnnpipe.base.errors import DataError
from gnnpipe.graph.csr import Csr

# Below this share of non-zeros sparse features are both smaller and faster (a CSR entry takes 8 bytes).
SPARSE_FEATURES_BELOW = 0.1

Task = Literal["multiclass", "binary", "multilabel"]


@dataclass(frozen=True)
class GraphData:
    """One graph with features, labels and masks; checked when it is made.

    Raises:
        DataError: if shapes disagree, an edge names a node that does not exist, a feature is not finite, a
            label lies outside the classes, or masks overlap or are empty.
    """

    name: str
    """What it is called in messages and folders."""
    adjacency: Csr
    """``[num_nodes, num_nodes]``: entry (i, j) counts the edges from j to i, so row i lists what i reads."""
    features: Tensor | Csr
    """float32 ``[num_nodes, num_features]``, dense or sparse."""
    labels: Tensor
    """int64 ``[num_nodes]`` class numbers, or float32 ``[num_nodes, num_classes]`` of 0 and 1."""
    num_classes: int
    """Number of classes (or of labels a node may have)."""
    train_mask: Tensor
    """bool ``[num_nodes]``."""
    val_mask: Tensor
    """bool ``[num_nodes]``."""
    test_mask: Tensor
    """bool ``[num_nodes]``."""

    def __post_init__(self) -> None:
        """Check everything that a user's data may get wrong."""
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
        """What the labels ask for."""
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
    ) -> GraphData:
        """Build from PyG's form.

        Args:
            edge_index: int64 ``[2, num_edges]``, row 0 the sources and row 1 the targets.
            features: ``[num_nodes, num_features]``, dense or a scipy sparse matrix. A dense matrix with
                few non-zeros is stored sparse.
            labels: ``[num_nodes]`` class numbers or ``[num_nodes, num_classes]`` of 0 and 1.
            masks: training, validation and test masks, bool ``[num_nodes]``.
            num_classes: by default the largest label plus one.
            name: what to call the graph in messages.
            undirected: add the reverse of every edge.
        """
        num_nodes = int(features.shape[0])
        labels = labels.squeeze(-1) if labels.dim() == 2 and labels.shape[1] == 1 else labels
        labels = labels.to(torch.float32 if labels.dim() == 2 else torch.int64)
        return cls(
            name,
            _adjacency(edge_index, num_nodes, undirected),
            _features(features),
            labels,
            num_classes or _count_classes(labels),
            *masks,
        )

    def with_normalized_features(self) -> GraphData:
        """The same graph with every feature row scaled to sum 1 (rows of zeros stay)."""
        if isinstance(self.features, Csr):
            matrix = self.features.to_scipy()
            total = np.asarray(matrix.sum(axis=1)).ravel()
            scale = np.divide(1.0, total, out=np.zeros_like(total), where=total != 0)
            return replace(self, features=Csr.from_scipy(sp.diags(scale) @ matrix))
        total_dense = self.features.sum(dim=1, keepdim=True)
        return replace(self, features=self.features / total_dense.masked_fill(total_dense == 0, 1.0))


def _adjacency(edge_index: Tensor, num_nodes: int, undirected: bool) -> Csr:
    """Rows by target, columns by source; parallel edges become a count."""
    if edge_index.dim() != 2 or edge_index.shape[0] != 2:
        raise DataError(f"edge_index: expected shape [2, num_edges], got {list(edge_index.shape)}")
    if edge_index.numel() and (int(edge_index.min()) < 0 or int(edge_index.max()) >= num_nodes):
        bad = edge_index.max() if int(edge_index.max()) >= num_nodes else edge_index.min()
        raise DataError(
            f"edge_index: node id {int(bad)} is out of range for {num_nodes} nodes (0 to {num_nodes - 1}); "
            "renumber the edges or add the missing feature rows"
        )
    source, target = edge_index.cpu().numpy()
    ones = np.ones(len(source), dtype=np.float32)
    matrix = sp.coo_matrix((ones, (target, source)), shape=(num_nodes, num_nodes)).tocsr()
    if undirected:
        matrix = (matrix + matrix.T).tocsr()
        matrix.data[:] = 1.0
    return Csr.from_scipy(matrix)


def _features(features: Tensor | sp.spmatrix) -> Tensor | Csr:
    """Store sparse what is mostly zero."""
    if not isinstance(features, Tensor):
        return Csr.from_scipy(sp.csr_matrix(features))
    features = features.to(torch.float32)
    if features.numel() and torch.count_nonzero(features).item() < SPARSE_FEATURES_BELOW * features.numel():
        return Csr.from_scipy(sp.csr_matrix(features.numpy()))
    return features.contiguous()


def _count_classes(labels: Tensor) -> int:
    """Labels number classes from 0, and a graph has at least a node a class."""
    if labels.dim() == 2:
        return labels.shape[1]
    largest = int(labels.max()) if labels.numel() else -1
    if largest >= labels.shape[0]:
        raise DataError(
            f"labels: {largest} can't be a class of a graph with {labels.shape[0]} nodes; "
            "number the classes 0, 1, 2 and so on, or give num_classes"
        )
    return largest + 1


def _check_adjacency(adjacency: Csr) -> None:
    if adjacency.num_rows == 0:
        raise DataError("graph: it has no nodes; at least one is needed")
    if adjacency.num_rows != adjacency.num_cols:
        raise DataError(
            f"adjacency: expected a square matrix, got {adjacency.num_rows} x {adjacency.num_cols}"
        )
    col = adjacency.col
    if col.numel() and (int(col.min()) < 0 or int(col.max()) >= adjacency.num_cols):
        raise DataError(
            f"adjacency: node id {int(col.max())} is out of range for {adjacency.num_cols} nodes; "
            "renumber the edges"
        )


def _check_features(features: Tensor | Csr, num_nodes: int) -> None:
    rows = features.num_rows if isinstance(features, Csr) else features.shape[0]
    if rows != num_nodes:
        raise DataError(f"features: {rows} rows for {num_nodes} nodes; give one row for each node")
    value = features.value if isinstance(features, Csr) else features
    bad = int((~torch.isfinite(value)).sum())
    if bad:
        raise DataError(
            f"features: {bad} of {value.numel()} entries are NaN or infinite; replace them before training"
        )


def _check_masks(masks: dict[str, Tensor], num_nodes: int) -> None:
    for name, mask in masks.items():
        if mask.dtype != torch.bool or mask.shape != (num_nodes,):
            raise DataError(
                f"{name}_mask: expected bool [{num_nodes}], got {str(mask.dtype)[6:]} {list(mask.shape)}"
            )
        if not mask.any():
            raise DataError(f"{name}_mask: it is empty; mark at least one node")
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        both = int((masks[one] & masks[other]).sum())
        if both:
            raise DataError(
                f"{one}_mask and {other}_mask overlap in {both} nodes; a node belongs to one split at most"
            )


def _check_labels(data: GraphData) -> None:
    labels, num_nodes = data.labels, data.num_nodes
    if labels.shape[0] != num_nodes:
        raise DataError(f"labels: {labels.shape[0]} rows for {num_nodes} nodes; give one for each node")
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
