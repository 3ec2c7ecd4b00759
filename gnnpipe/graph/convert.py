"""Conversion of a user's numbers: without loss, or with a note that says what is lost."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from gnnpipe.errors import DataError, shown
from gnnpipe.graph.csr import Csr

# Stands for "no label" among class numbers. Among floats NaN does, and in all columns of several labels.
UNLABELLED = -1
# Below this share of non-zeros sparse features are both smaller and faster (a CSR entry takes 8 bytes).
SPARSE_FEATURES_BELOW = 0.1
# Formats with values that float32 holds exactly.
_EXACT = (torch.float32, torch.float16, torch.bfloat16, torch.bool, torch.uint8, torch.int8, torch.int16)


def as_tensor(values: Any, what: str) -> Tensor:
    """An array or a tensor of real numbers, as a tensor on the CPU; raises DataError for anything else."""
    if isinstance(values, np.ndarray):
        if values.dtype.kind not in "biuf":
            raise DataError(f"{what}: it holds {_kind(values)}; real numbers are needed")
        return torch.from_numpy(
            np.ascontiguousarray(values.astype(values.dtype.newbyteorder("="), copy=False))
        )
    if not isinstance(values, Tensor) or values.is_complex():
        raise DataError(f"{what}: it holds {_kind(values)}; real numbers are needed")
    return values.detach().cpu()


def as_integers(values: Any, what: str) -> Tensor:
    """Whole numbers as int64.

    Raises:
        DataError: a value is no whole number, or a float so large that it may have been rounded.
    """
    values = as_tensor(values, what)
    if values.dtype == torch.bool:
        raise DataError(f"{what}: true and false are no numbers of nodes; whole numbers are needed")
    if values.is_floating_point() and values.numel():
        # up to here the format tells neighbouring whole numbers apart: 2^24 for float32, 2^53 for float64
        most = 2 / torch.finfo(values.dtype).eps
        bad = ~((values == values.trunc()) & (values.abs() <= most))
        if bad.any():
            raise DataError(
                f"{what}: {_number(values[bad][0])} is no whole number that {_name(values.dtype)} holds "
                "exactly; whole numbers are needed"
            )
    return values.to(torch.int64)


def as_ids(values: Any, what: str, num_nodes: int) -> Tensor:
    """Node ids as int64; raises DataError where one is no whole number, or names no node."""
    ids = as_integers(values, what)
    if ids.numel() and (int(ids.min()) < 0 or int(ids.max()) >= num_nodes):
        bad = ids.max() if int(ids.max()) >= num_nodes else ids.min()
        raise DataError(
            f"{what}: node id {int(bad)} is out of range for {num_nodes} nodes (0 to {num_nodes - 1}); "
            "renumber the nodes or add the missing feature rows"
        )
    return ids


def as_mask(values: Any, what: str, num_nodes: int) -> Tensor:
    """bool ``[num_nodes]`` from booleans or numbers that are 0 and 1; raises DataError for others."""
    mask = as_tensor(values, what)
    if mask.shape != (num_nodes,):
        raise DataError(
            f"{what}: expected bool [{num_nodes}], got {_name(mask.dtype)} {list(mask.shape)}; a mask says "
            "of each node whether it belongs to the split"
        )
    if mask.dtype == torch.bool:
        return mask.contiguous()
    bad = ~((mask == 0) | (mask == 1))
    if bad.any():
        node = int(bad.nonzero()[0])
        raise DataError(
            f"{what}: {_number(mask[node])} of node {node} is neither 0 nor 1; a mask says of each node "
            "whether it belongs to the split"
        )
    return mask == 1


def as_labels(values: Any) -> Tensor:
    """Labels in the form that `Graph` keeps.

    Returns:
        One label a node: int64 ``[num_nodes]`` class numbers, -1 for nodes without a label. Several labels a
        node: float32 ``[num_nodes, num_labels]`` of 0 and 1, NaN in the rows of nodes without labels.

    Raises:
        DataError: a label is no class number, or neither 0 nor 1 where a node may have several.
    """
    labels = as_tensor(values, "labels")
    # a single column holds class numbers, not one label of several
    labels = labels.squeeze(-1) if labels.dim() == 2 and labels.shape[1] == 1 else labels
    if labels.dim() == 2:
        return _several_labels(labels)
    if labels.dim() != 1:
        raise DataError(
            f"labels: expected shape [num_nodes] or [num_nodes, num_labels], got {list(labels.shape)}"
        )
    if labels.unique().tolist() == [-1, 1]:
        raise DataError(
            "labels: all are -1 or 1, but -1 means that a node has no label; number the two classes 0 and 1"
        )
    if labels.is_floating_point():
        bad = ~((labels == labels.trunc()) & (labels.abs() < 2**53)) & ~labels.isnan()
        if bad.any():
            node = int(bad.nonzero()[0])
            raise DataError(
                f"labels: {_number(labels[node])} of node {node} is no class number; number the classes 0, "
                "1, 2 and so on (values to be predicted as they are, regression, are not supported)"
            )
        labels = labels.nan_to_num(nan=UNLABELLED)
    return labels.to(torch.int64)


def labelled(labels: Tensor) -> Tensor:
    """bool ``[num_nodes]``: whether each node has a label; ``labels`` as `as_labels` returns them."""
    return ~labels.isnan().any(dim=1) if labels.dim() == 2 else labels != UNLABELLED


def masks_with_labels(
    masks: tuple[Any, Any, Any], labels: Tensor
) -> tuple[tuple[Tensor, Tensor, Tensor], list[str]]:
    """The masks without the nodes that have no label, and a note for each mask that shrank.

    Raises:
        DataError: an argument is no mask, or no node of a mask has a label.
    """
    has_label, notes = labelled(labels), []
    kept = []
    for split, given in zip(("train", "val", "test"), masks, strict=True):
        mask = as_mask(given, f"{split}_mask", len(labels))
        left, total = int((mask & has_label).sum()), int(mask.sum())
        if total and not left:
            raise DataError(
                f"{split}_mask: none of its {total:,} nodes has a label; mark nodes that have one"
            )
        if left < total:
            notes.append(f"{split}_mask: {total - left:,} of {total:,} nodes have no label and are left out")
        kept.append(mask & has_label)
    return (kept[0], kept[1], kept[2]), notes


def label_notes(labels: Tensor, num_classes: int) -> list[str]:
    """Notes about labels that may be meant in another way than they are taken."""
    known = labels[labelled(labels)]
    if labels.dim() == 2:
        if labels.shape[1] < 2 or not len(known) or bool((known.sum(dim=1) != 1).any()):
            return []
        return [
            f"labels: each node has one of {labels.shape[1]}, but columns are taken as labels that a node "
            "may have several of; give class numbers to train one class a node"
        ]
    inside = known[(known >= 0) & (known < num_classes)]
    absent = (torch.bincount(inside, minlength=num_classes) == 0).nonzero().flatten()
    if not len(absent):
        return []
    return [f"labels: {len(absent):,} of {num_classes:,} classes have no node, first class {int(absent[0])}"]


def as_features(values: Any) -> tuple[Tensor | Csr, tuple[str, ...]]:
    """float32 features, sparse where most entries are zero, and notes about the conversion.

    Raises:
        DataError: an entry is not finite, or too large for float32.
    """
    # torch's sparse layouts and SciPy's all become SciPy's CSR first
    if isinstance(values, Tensor) and values.layout != torch.strided:
        values = values.detach().cpu().to_sparse_coo().coalesce()
        values = sp.coo_matrix((values.values().numpy(), values.indices().numpy()), tuple(values.shape))
    if sp.issparse(values):
        matrix = sp.csr_matrix(values)
        entries, notes = _as_float32(as_tensor(matrix.data, "features"))
        features: Tensor | Csr = Csr.from_scipy(
            sp.csr_matrix((entries.numpy(), matrix.indices, matrix.indptr), matrix.shape)
        )
    else:
        features, notes = _as_float32(as_tensor(values, "features"))
        if features.dim() != 2:
            raise DataError(f"features: expected shape [num_nodes, num_features], got {list(features.shape)}")
        if torch.count_nonzero(features).item() < SPARSE_FEATURES_BELOW * features.numel():
            features = Csr.from_scipy(sp.csr_matrix(features.numpy()))
        else:
            features = features.contiguous()
    check_finite(features)
    return features, notes


def check_finite(features: Tensor | Csr) -> None:
    """Raise DataError where an entry is NaN or infinite, naming the first one."""
    value = features.value if isinstance(features, Csr) else features
    bad = ~torch.isfinite(value)
    count = int(bad.sum())
    if not count:
        return
    index = bad.nonzero()[0]  # [entry] of sparse features, [node, column] of dense ones
    if isinstance(features, Csr):
        node = int(torch.searchsorted(features.rowptr, index.to(features.rowptr.dtype), right=True)) - 1
        column, first = int(features.col[index]), float(value[index])
    else:
        node, column = index.tolist()
        first = float(value[node, column])
    raise DataError(
        f"features: {count} of {value.numel()} entries are NaN or infinite as float32, first {first} of node "
        f"{node}, column {column}; replace them before training"
    )


def _as_float32(values: Tensor) -> tuple[Tensor, tuple[str, ...]]:
    rounded = values.to(torch.float32)
    if values.dtype in _EXACT:
        return rounded, ()
    num_changed = int((rounded.to(values.dtype) != values).logical_and(~values.isnan()).sum())
    if not num_changed:
        return rounded, ()
    return rounded, (
        f"features: {num_changed / values.numel():.1%} of the entries are rounded from {_name(values.dtype)} "
        "to float32",
    )


def _several_labels(labels: Tensor) -> Tensor:
    """float32 ``[num_nodes, num_labels]``; a row that is all NaN, or all -1, stands for no labels."""
    known = (labels == 0) | (labels == 1)
    no_label = labels.isnan() if labels.is_floating_point() else labels == UNLABELLED
    absent = no_label.all(dim=1) | (labels == UNLABELLED).all(dim=1)
    bad = ~known & ~absent.unsqueeze(1)
    if bad.any():
        node, column = bad.nonzero()[0].tolist()
        value = _number(labels[node, column])
        raise DataError(
            f"labels: {value} lies outside 0 to 1 (node {node}, column {column}); where a node may have "
            "several labels each is 0 or 1, or all of a node's are NaN, for none"
        )
    converted = labels.to(torch.float32)
    return converted.masked_fill(absent.unsqueeze(1), torch.nan) if bool(absent.any()) else converted


def _kind(values: Any) -> str:
    dtype = getattr(values, "dtype", type(values).__name__)
    return f"values of type {shown(str(dtype).removeprefix('torch.'))}"


def _number(value: Tensor) -> str:
    """The shortest text that names the value in its format: 4.206 for a float32, not 4.205999851."""
    return str(value.float().item() if value.dtype == torch.bfloat16 else value.numpy()[()])


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
