"""Seeded splits into training, validation and test nodes, for data sets that ship none."""

from __future__ import annotations

import torch
from torch import Tensor

from gnnpipe.graph.convert import labelled

Masks = tuple[Tensor, Tensor, Tensor]


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
