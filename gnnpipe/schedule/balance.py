"""Sharing layers out among stages by cost, not by number."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise


def balanced_ranges(costs: Sequence[float], num_stages: int) -> tuple[tuple[int, int], ...]:
    """Cut consecutive layers into stages such that the most expensive stage is as cheap as possible.

    Many cuts reach that bound. Of those, each stage in turn takes the layers whose cost is nearest to its
    fair share: the cost of the layers left over the number of stages left.

        # costs 5 1 1 1, 2 stages    bound 5: the first stage must be [5], the second is [1 1 1]
        # costs 1 1 1 1, 2 stages    bound 2: [1 1] [1 1]

    Args:
        costs: cost of each layer, above 0.
        num_stages: number of stages, at most one for each layer; no stage is empty.

    Returns:
        layers ``[first, last)`` of each stage.
    """
    sums = [0.0, *accumulate(costs)]
    most = _least_bound(costs, sums, num_stages)
    needed = _stages_needed(sums, most)
    bounds = [0]
    for left in range(num_stages, 1, -1):
        start = bounds[-1]
        # the furthest end within the bound; the same subtraction as in `_stages_needed`, to round alike
        reach = bisect_right(sums, most, lo=start, key=lambda total: total - sums[start]) - 1
        furthest = min(reach, len(costs) - left + 1)
        cuts = range(start + 1, furthest + 1)
        aim = sums[start] + (sums[-1] - sums[start]) / left
        # the stages left must be able to take the layers left, within the bound
        fitting = [cut for cut in cuts if needed[cut] < left]
        bounds.append(min(fitting, key=lambda cut: abs(sums[cut] - aim)))
    return tuple(pairwise([*bounds, len(costs)]))


def _least_bound(costs: Sequence[float], sums: list[float], num_stages: int) -> float:
    """The least cost (to rounding) that the most expensive stage can have, by bisection."""
    low, high = max(*costs, sums[-1] / num_stages), sums[-1]
    for _ in range(60):
        middle = (low + high) / 2
        if _stages_needed(sums, middle * (1 + 1e-12))[0] <= num_stages:
            high = middle
        else:
            low = middle
    return high * (1 + 1e-12)


def _stages_needed(sums: list[float], most: float) -> list[int]:
    """For each layer, the number of stages of cost ``most`` at most that it and all layers behind it need."""
    num_layers = len(sums) - 1
    needed = [0] * (num_layers + 1)
    reach = num_layers
    for first in range(num_layers - 1, -1, -1):
        while reach > first + 1 and sums[reach] - sums[first] > most:
            reach -= 1
        needed[first] = 1 + needed[reach]
    return needed
