"""Checks of a `Graph`; all raise DataError."""

from __future__ import annotations

import torch
from torch import Tensor

from gnnpipe.errors import DataError
from gnnpipe.graph.convert import check_finite
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.pieces import NO_NODES

# Entries of an adjacency that are checked at a time, as it may be mapped from disk.
_BLOCK = 2**24


def check_adjacency(adjacency: Csr, *, weighted: bool, apart: bool) -> None:
    """Refuse an adjacency that is not square, names no node, or has entries that are no numbers; or that
    count several edges where each has features or a type of its own (``apart``)."""
    if adjacency.num_rows == 0:
        raise DataError(NO_NODES)
    if adjacency.num_rows != adjacency.num_cols:
        raise DataError(
            f"adjacency: expected a square matrix, got {adjacency.num_rows} x {adjacency.num_cols}"
        )
    for start in range(0, adjacency.num_entries, _BLOCK):
        value, col = adjacency.value[start : start + _BLOCK], adjacency.col[start : start + _BLOCK]
        if not torch.isfinite(value).all():
            raise DataError("adjacency: an entry is not finite; weights of edges are numbers")
        if not weighted and int((value < 0).sum()):
            raise DataError("adjacency: an entry is negative, but entries count edges unless it is weighted")
        if apart and not weighted and int((value != 1).sum()):
            raise DataError(
                "adjacency: an entry counts several edges, but each edge has its own edge_attr or edge_type; "
                "give each an entry"
            )
        if int(col.min()) < 0 or int(col.max()) >= adjacency.num_cols:
            raise DataError(
                f"adjacency: node id {int(col.max())} is out of range for {adjacency.num_cols} nodes; "
                "renumber the edges"
            )


def check_features(features: Tensor | Csr, num_nodes: int) -> None:
    """Refuse features without columns, of another number of nodes, or with entries that are not finite."""
    if (features.num_cols if isinstance(features, Csr) else features.shape[1]) == 0:
        raise DataError("features: there are no columns; give one at least")
    rows = features.num_rows if isinstance(features, Csr) else features.shape[0]
    if rows != num_nodes:
        raise DataError(f"features: {rows} rows for {num_nodes} nodes; give one row for each node")
    check_finite(features)


def check_masks(masks: dict[str, Tensor], num_nodes: int, *, labelled: bool) -> None:
    """Refuse masks of another shape, empty ones except that of testing, and masks that share a node. All are
    empty where no node is ``labelled``."""
    for name, mask in masks.items():
        if mask.dtype != torch.bool or mask.shape != (num_nodes,):
            raise DataError(
                f"{name}_mask: expected bool [{num_nodes}], got {str(mask.dtype)[6:]} {list(mask.shape)}"
            )
        if not mask.any() and name != "test" and labelled:  # test labels may be hidden
            raise DataError(
                f"{name}_mask: it is empty; mark at least one node, or give no split (gnnpipe import --split "
                "none) for a seeded one"
            )
    for first, second in (("train", "val"), ("train", "test"), ("val", "test")):
        num_shared = int((masks[first] & masks[second]).sum())
        if num_shared:
            raise DataError(
                f"{first}_mask and {second}_mask overlap in {num_shared} nodes; "
                "a node belongs to one split at most"
            )


def check_outputs(
    labels: Tensor, num_classes: int, class_names: tuple[str, ...], *, regression: bool
) -> None:
    """Refuse labels or names of classes whose number is not ``num_classes``."""
    columns = labels.shape[1] if labels.dim() == 2 else 1
    if (regression or labels.dim() == 2) and columns != num_classes:
        raise DataError(f"labels: {columns} columns for num_classes {num_classes}")
    if class_names and len(class_names) != num_classes:
        raise DataError(f"class_names: {len(class_names)} names for {num_classes} classes")


def check_used_labels(used: Tensor, num_classes: int, *, regression: bool) -> None:
    """Refuse labels of nodes in a mask that are absent, infinite or no class."""
    if regression:
        if not torch.isfinite(used).all():
            raise DataError("labels: a value in the masks is not finite; leave its node out of the masks")
        return
    low, high = (0, 1) if used.dim() == 2 else (0, num_classes - 1)
    outside = (used < low) | (used > high) | ~torch.isfinite(used)
    if outside.any():
        raise DataError(
            f"labels: {used[outside][0].item()} lies outside {low} to {high} "
            f"({int(outside.sum())} such labels in the masks, num_classes is {num_classes}); "
            "mend the label or raise num_classes"
        )
