"""Layers are shared out by cost."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gnnpipe.planner.costs import GraphSize, LayerShape, layer_cost
from gnnpipe.schedule.balance import balanced_ranges


def dearest(costs: list[float], ranges: tuple[tuple[int, int], ...]) -> float:
    return max(sum(costs[first:last]) for first, last in ranges)


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=9), st.integers(1, 9))
@example([0.1, 0.3, 0.7, 0.3, 0.1, 0.7], 3)  # sums whose differences round one way or the other
def test_no_other_cut_is_better(costs: list[float], stages: int) -> None:
    stages = min(stages, len(costs))
    ranges = balanced_ranges(costs, stages)
    assert len(ranges) == stages
    assert ranges[0][0] == 0
    assert ranges[-1][1] == len(costs)
    assert all(first < last for first, last in ranges)
    assert all(one[1] == other[0] for one, other in pairwise(ranges))
    every = [
        tuple(zip((0, *cuts), (*cuts, len(costs)), strict=True))
        for cuts in combinations(range(1, len(costs)), stages - 1)
    ]
    assert dearest(costs, ranges) == pytest.approx(min(dearest(costs, cut) for cut in every))


@given(st.integers(1, 40), st.integers(0, 200))
def test_equal_layers_are_shared_out_evenly(stages: int, more: int) -> None:
    sizes = [last - first for first, last in balanced_ranges([2.0] * (stages + more), stages)]
    assert max(sizes) - min(sizes) <= 1


def test_a_dear_first_layer_gets_company_that_fits() -> None:
    assert balanced_ranges([5.0, 1, 1, 1, 1, 1, 1, 1], 2) in (((0, 1), (1, 8)), ((0, 2), (2, 8)))
    assert balanced_ranges([9.0, 1, 1, 1], 3) == ((0, 1), (1, 2), (2, 4))


def test_many_layers_take_no_time() -> None:
    ranges = balanced_ranges([1.0 + (layer % 7) for layer in range(100_000)], 1000)
    assert len(ranges) == 1000


def test_wide_features_cost_as_much_as_many_layers() -> None:
    """Coauthor Physics: 8,415 columns; dense they are worth dozens of hidden layers, sparse a few."""
    shape = LayerShape(8415, 100, 0, 8415 * 100, reads_features=True)
    hidden = LayerShape(100, 100, 100, 100 * 100)
    dense, sparse = GraphSize(34_493, 530_417), GraphSize(34_493, 530_417, 1_140_000)
    assert 20 < layer_cost(shape, dense) / layer_cost(hidden, dense) < 90
    assert 1 < layer_cost(shape, sparse) / layer_cost(hidden, sparse) < 6
