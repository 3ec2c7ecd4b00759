"""Labels as a graph keeps them: classes, several labels a node, or values to be predicted (regression)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from gnnpipe.config.run import LabelTask
from gnnpipe.errors import DataError
from gnnpipe.graph.convert import as_mask, as_tensor, exact_float32, number_text, without_single_column

# Stands for "no label" among class numbers. Among floats NaN does, and in all columns of several labels.
UNLABELLED = -1

LabelKind = Literal["classes", "multilabel", "regression"]
"""One class a node; 0/1 columns; or values to be predicted."""


@dataclass(frozen=True)
class Labels:
    """Labels in one of three forms.

    Classes: int64 ``[num_nodes]``, -1 for nodes without a label. Several labels a node: float32
    ``[num_nodes, num_labels]`` of 0 and 1. Values: float32 ``[num_nodes]`` or ``[num_nodes, num_values]``.
    Nodes without labels or values have NaN in all columns.
    """

    values: Tensor
    kind: LabelKind
    notes: tuple[str, ...] = ()
    """Lines for the user: each names something that was guessed or changed."""
    names: tuple[str, ...] = ()
    """Names of classes that were given as text."""


def as_labels(given: Any, task: LabelTask = "auto") -> Labels:
    """Labels in the form that `Graph` keeps.

    Args:
        given: numbers ``[num_nodes]`` or ``[num_nodes, num_columns]``; a single column is as none. Or text
            ``[num_nodes]``, whose different values are the classes.
        task: whether they are classes or values; auto: values if one is no whole number.

    Raises:
        DataError: a label is no class number, or neither 0 nor 1 where a node may have several, or a value is
            infinite, or absent where the node has others.
    """
    texts = _texts(given)
    if texts is not None and task != "regression":
        numbers, names = named_classes(texts)
        return Labels(torch.from_numpy(numbers), "classes", names=names)
    labels = without_single_column(as_tensor(given, "labels"))
    if labels.dim() not in (1, 2):
        raise DataError(
            f"labels: expected shape [num_nodes] or [num_nodes, num_labels], got {list(labels.shape)}"
        )
    if task == "regression":
        return _values(labels, ())
    broken = _no_whole_numbers(labels)
    if task == "auto" and broken.any():
        node = int(broken.nonzero()[0, 0])
        first = number_text(labels[broken][0])
        return _values(
            labels,
            (
                f"labels: {first} of node {node} is no whole number, so labels are values to be predicted "
                "(regression); --task classes refuses them",
            ),
        )
    if labels.dim() == 2:
        return Labels(_several_labels(labels), "multilabel")
    return Labels(_classes(labels), "classes")


def named_classes(texts: Sequence[str | None]) -> tuple[np.ndarray, tuple[str, ...]]:
    """int64 numbers of classes that are text, in alphabetical order, -1 for None; and their names."""
    names = sorted({text for text in texts if text is not None})
    number = {name: index for index, name in enumerate(names)}
    found = [UNLABELLED if text is None else number[text] for text in texts]
    return np.array(found, dtype=np.int64), tuple(names)


def _texts(given: Any) -> list[str | None] | None:
    """Labels that are text, None or NaN for none; None if they are anything else."""
    given = given.to_numpy() if hasattr(given, "to_numpy") else given
    values = np.asarray(given) if isinstance(given, list | tuple) else given
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "UO" or values.ndim != 1:
        return None
    listed = [None if _is_absent(value) else value for value in values.tolist()]
    known = [value for value in listed if value is not None]
    return listed if known and all(isinstance(value, str) for value in known) else None


def _is_absent(value: Any) -> bool:
    """Whether it is None, NaN or NaT."""
    return value is None or bool(value != value)


def labelled(labels: Tensor) -> Tensor:
    """bool ``[num_nodes]``: whether each node has a label; ``labels`` as `Labels.values`."""
    if labels.dim() == 2:
        return ~labels.isnan().any(dim=1)
    return ~labels.isnan() if labels.is_floating_point() else labels != UNLABELLED


def masks_with_labels(
    masks: tuple[Any, Any, Any], labels: Tensor
) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor, list[str]]:
    """The masks without the nodes that have no label, the test nodes that have none, and a note for each mask
    that shrank.

    The test mask may lose all its nodes: their labels are hidden.

    Raises:
        DataError: an argument is no mask, or no node of the training or validation mask has a label.
    """
    has_label, notes = labelled(labels), []
    kept, hidden = [], torch.zeros(len(labels), dtype=torch.bool)
    for split, given in zip(("train", "val", "test"), masks, strict=True):
        mask = as_mask(given, f"{split}_mask", len(labels))
        left, total = int((mask & has_label).sum()), int(mask.sum())
        if total and not left and split != "test":
            raise DataError(
                f"{split}_mask: none of its {total:,} nodes has a label; mark nodes that have one"
            )
        if not left and split == "test":
            notes.append(_hidden(total))
        elif left < total:
            notes.append(f"{split}_mask: {total - left:,} of {total:,} nodes have no label and are left out")
        kept.append(mask & has_label)
        hidden = mask & ~has_label  # of the last one, the test mask
    return (kept[0], kept[1], kept[2]), hidden, notes


def check_rows(labels: Tensor, num_nodes: int) -> None:
    """Raise DataError unless there is a label, or none, for each node."""
    if labels.shape[0] != num_nodes:
        raise DataError(f"labels: {labels.shape[0]} rows for {num_nodes} nodes; give one for each node")


def class_notes(labels: Labels, num_classes: int) -> list[str]:
    """Notes about classes that may be meant in another way than they are taken."""
    if labels.kind == "regression":
        return []
    known = labels.values[labelled(labels.values)]
    if labels.kind == "multilabel":
        num_labels = known.shape[1]
        if num_labels < 2 or not len(known) or bool((known.sum(dim=1) != 1).any()):
            return []
        return [
            f"labels: each node has one of {num_labels}, but columns are taken as labels that a node "
            "may have several of; give class numbers to train one class a node"
        ]
    inside = known[(known >= 0) & (known < num_classes)]
    absent = (torch.bincount(inside, minlength=num_classes) == 0).nonzero().flatten()
    if not len(absent):
        return []
    return [f"labels: {len(absent):,} of {num_classes:,} classes have no node, first class {int(absent[0])}"]


def count_outputs(labels: Labels) -> int:
    """Columns of several labels or values, or the largest class number plus one; raises DataError for absurd
    class numbers."""
    values = labels.values
    if labels.kind != "classes":
        return values.shape[1] if values.dim() == 2 else 1
    largest = int(values.max()) if values.numel() else -1
    if largest >= len(values):  # more classes than nodes: these are ids, or years, not classes
        raise DataError(
            f"labels: {largest} can't be a class of a graph with {len(values)} nodes; number the classes 0, "
            "1, 2 and so on, or give num_classes; to predict the numbers as they are, give --task regression"
        )
    return largest + 1


def _hidden(total: int) -> str:
    if not total:
        return "test_mask: it is empty, so there is no test score"
    return f"test_mask: none of its {total:,} nodes has a label, so there is no test score (hidden labels)"


def _no_whole_numbers(labels: Tensor) -> Tensor:
    """bool, of the shape of ``labels``: which are finite numbers between two whole ones."""
    if not labels.is_floating_point():
        return torch.zeros_like(labels, dtype=torch.bool)
    return labels.isfinite() & (labels != labels.trunc())


def _classes(labels: Tensor) -> Tensor:
    """int64 class numbers, -1 for none."""
    one, minus = labels == 1, labels == UNLABELLED
    if one.any() and minus.any() and bool((one | minus).all()):
        raise DataError(
            "labels: all are -1 or 1, but -1 means that a node has no label; number the two classes 0 and 1"
        )
    if labels.is_floating_point():
        bad = ~((labels == labels.trunc()) & (labels.abs() < 2**53)) & ~labels.isnan()
        if bad.any():
            node = int(bad.nonzero()[0])
            raise DataError(
                f"labels: {number_text(labels[node])} of node {node} is no class number; number the classes "
                "0, 1, 2 and so on, or predict values as they are with --task regression"
            )
        labels = labels.nan_to_num(nan=UNLABELLED)
    return labels.to(torch.int64)


def _several_labels(labels: Tensor) -> Tensor:
    """float32 ``[num_nodes, num_labels]``; a row that is all NaN, or all -1, stands for no labels."""
    known = (labels == 0) | (labels == 1)
    no_label = labels.isnan() if labels.is_floating_point() else labels == UNLABELLED
    absent = no_label.all(dim=1) | (labels == UNLABELLED).all(dim=1)
    bad = ~known & ~absent.unsqueeze(1)
    if bad.any():
        node, column = bad.nonzero()[0].tolist()
        raise DataError(
            f"labels: {number_text(labels[node, column])} lies outside 0 to 1 (node {node}, column {column});"
            " where a node may have several labels each is 0 or 1, or all of a node's are NaN, for none; to "
            "predict the numbers as they are, give --task regression"
        )
    converted = labels.to(torch.float32)
    return converted.masked_fill(absent.unsqueeze(1), torch.nan) if bool(absent.any()) else converted


def _values(labels: Tensor, notes: tuple[str, ...]) -> Labels:
    """float32 values, NaN in all columns of a node for none."""
    converted, rounded = exact_float32(labels, "labels")
    rows = converted.view(len(labels), -1)
    infinite, absent = rows.isinf(), rows.isnan()
    if infinite.any():
        node, column = infinite.nonzero()[0].tolist()
        raise DataError(
            f"labels: the value of node {node}, column {column} is infinite as float32; replace it, or give "
            "NaN where there is none"
        )
    some = absent.any(dim=1) & ~absent.all(dim=1)
    if some.any():
        node = int(some.nonzero()[0])
        raise DataError(
            f"labels: {int(some.sum()):,} nodes have some of their {rows.shape[1]} values and not others, "
            f"first node {node}; give all, or NaN in all columns, or train one column at a time"
        )
    return Labels(converted, "regression", (*notes, *rounded))
