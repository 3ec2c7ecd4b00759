"""The split into training, validation and test nodes: one that ships with a data set, or a seeded one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gnnpipe.errors import DataError
from gnnpipe.graph.choices import Choices
from gnnpipe.graph.convert import as_tensor
from gnnpipe.graph.labels import Labels, labelled, masks_with_labels

Masks = tuple[Tensor, Tensor, Tensor]
# Fewest labelled nodes for a seeded split: with fewer, one of the three masks may be empty.
LEAST_FOR_SPLIT = 5
_SPLITS = ("train", "val", "test")
MASKS = ("train_mask", "val_mask", "test_mask")
"""Names of the three masks in files and objects."""
SPLIT_WORDS = {
    "train": 0, "training": 0, "tr": 0, "val": 1, "valid": 1, "validation": 1, "dev": 1, "va": 1, "test": 2,
    "testing": 2, "te": 2, "none": -1, "unlabeled": -1,
}  # fmt: skip
"""Words for the split of a node, in small letters: the number of its mask, -1 for none."""


def chosen_masks(
    shipped: Masks | None, labels: Labels, choices: Choices, name: str
) -> tuple[Masks, Tensor | None, list[str]]:
    """Masks of labelled nodes; the test nodes whose labels are hidden, if the masks were shipped; and notes
    about nodes that are left out.

    Args:
        shipped: masks ``[num_nodes]``, or ``[num_nodes, num_splits]`` with a column for each split; None in
            place of the test mask where there is none. None to make a seeded split of the labelled nodes.
        labels: of the nodes.
        choices: which split.
        name: of the graph, for messages.

    Raises:
        DataError: there are fewer splits, or too few nodes have labels for a seeded one; also as
            `masks_with_labels`.
    """
    if shipped is None:
        masks, notes = _made(labels, choices, name)
        return masks, None, notes
    _check_three(shipped)
    none = torch.zeros(len(labels.values), dtype=torch.bool)
    given = [
        none if mask is None and key == "test" else mask for key, mask in zip(_SPLITS, shipped, strict=True)
    ]
    columns = [as_tensor(mask, f"{key}_mask") for key, mask in zip(_SPLITS, given, strict=True)]
    num_splits = min((mask.shape[1] for mask in columns if mask.dim() == 2), default=1)
    if not 0 <= choices.split < num_splits:
        raise DataError(
            f"split: {choices.split} does not exist; {name} ships {num_splits} (use 0 to {num_splits - 1})"
        )
    train, val, test = (
        (mask[:, choices.split] if mask.dim() == 2 else mask).contiguous() for mask in columns
    )
    masks, hidden, notes = masks_with_labels((train, val, test), labels.values)
    return masks, hidden if hidden.any() else None, notes


def _check_three(masks: Any) -> None:
    is_list = isinstance(masks, tuple | list)
    if not is_list or len(masks) != len(_SPLITS):
        found = len(masks) if is_list else f"an object of type {type(masks).__name__}"
        raise DataError(f"masks: {found} can't be used; give three: for training, validation and testing")


def _made(labels: Labels, choices: Choices, name: str) -> tuple[Masks, list[str]]:
    has_label = labelled(labels.values)
    if int(has_label.sum()) < LEAST_FOR_SPLIT:
        raise DataError(
            f"labels: {int(has_label.sum())} nodes have one, and {name} ships no split; {LEAST_FOR_SPLIT} "
            "are needed to make one"
        )
    if choices.make_split == "per-class" and labels.kind == "classes":
        return per_class_split(labels.values, seed=choices.split), []
    notes = ["make-split: per-class needs one class a node, so the split is random"]
    masks = random_split(len(has_label), seed=choices.split, among=has_label)
    return masks, notes if choices.make_split == "per-class" else []


def random_split(
    num_nodes: int, seed: int, fractions: tuple[float, float] = (0.6, 0.2), among: Tensor | None = None
) -> Masks:
    """Training, validation and test masks with 60, 20 and 20 % of the nodes.

    Args:
        num_nodes: number of nodes; with fewer than 5 a mask may be empty.
        seed: the split depends on it alone.
        fractions: shares of training and validation; testing gets the rest.
        among: bool ``[num_nodes]``: nodes to choose from; by default all.
    """
    order = torch.randperm(num_nodes, generator=torch.Generator().manual_seed(seed))
    order = order if among is None else order[among[order]]
    train, val = (round(len(order) * fraction) for fraction in fractions)
    return (
        _mask(order[:train], num_nodes),
        _mask(order[train : train + val], num_nodes),
        _mask(order[train + val :], num_nodes),
    )


def per_class_split(
    labels: Tensor, seed: int, train_per_class: int = 20, num_val: int = 500, num_test: int = 1000
) -> Masks:
    """Planetoid's split: 20 training nodes of each class, then 500 and 1000 of the others.

    (arXiv 1603.08861.) Where fewer than 1500 nodes are left, validation gets a third of them and testing the
    rest. Nodes without a label (-1) are in no mask.
    """
    # all three masks are taken from one random order of the labelled nodes
    order = torch.randperm(labels.shape[0], generator=torch.Generator().manual_seed(seed))
    order = order[labelled(labels)[order]]
    classes = labels[order]
    train = torch.cat([order[classes == c][:train_per_class] for c in classes.unique()])
    taken = _mask(train, labels.shape[0])
    rest = order[~taken[order]]
    if len(rest) < num_val + num_test:
        num_val = len(rest) // 3
        num_test = len(rest) - num_val
    return (
        taken,
        _mask(rest[:num_val], labels.shape[0]),
        _mask(rest[num_val : num_val + num_test], labels.shape[0]),
    )


def _mask(index: Tensor, num_nodes: int) -> Tensor:
    mask = torch.zeros(num_nodes, dtype=torch.bool)
    mask[index] = True
    return mask
