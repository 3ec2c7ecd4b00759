"""Splits that are made: how many nodes of which kind, and none twice."""

from __future__ import annotations

import pytest
import torch

from gnnpipe.graph.splits import per_class_split, random_split


@pytest.mark.parametrize("num_nodes", [5, 7, 10, 101, 1000])
def test_random_puts_every_node_into_one_of_60_20_20_percent(num_nodes: int) -> None:
    masks = torch.stack(random_split(num_nodes, seed=3))
    assert torch.equal(masks.sum(dim=0), torch.ones(num_nodes, dtype=torch.int64))
    train, val = round(0.6 * num_nodes), round(0.2 * num_nodes)
    assert masks.sum(dim=1).tolist() == [train, val, num_nodes - train - val]


def test_another_seed_is_another_split() -> None:
    one, two = random_split(100, seed=0), random_split(100, seed=1)
    assert all(torch.equal(*pair) for pair in zip(one, random_split(100, seed=0), strict=True))
    assert not any(torch.equal(*pair) for pair in zip(one, two, strict=True))


@pytest.mark.parametrize(("num_nodes", "val", "test"), [(3000, 500, 1000), (120, 20, 40)])
def test_per_class_takes_20_of_each_and_then_the_others(num_nodes: int, val: int, test: int) -> None:
    """Of few nodes a third of what is left is for validation."""
    labels = torch.arange(num_nodes) % 3
    masks = torch.stack(per_class_split(labels, seed=0))
    assert int(masks.sum(dim=0).max()) == 1
    assert labels[masks[0]].bincount().tolist() == [20, 20, 20]
    assert masks[1:].sum(dim=1).tolist() == [val, test]
