"""Sharing layers out among stages by what they cost, not by their number."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

# Seconds on two cores of a current server; only their ratios matter here. Measured in full-graph epochs
# (GCNII, 100,000 nodes, 2 M edges, width 128): a pull, a product, and all that goes entry by entry.
_PER_GATHERED_NUMBER = 1.7e-10
_PER_MULTIPLICATION = 1.6e-11
_PER_ENTRY = 2e-9
# Hashing and gathering of an entry of sparse features that is dropped or not.
_PER_SPARSE_ENTRY = 5e-8


@dataclass(frozen=True)
class LayerShape:
    """What a layer's cost depends on."""

    in_features: int
    out_features: int
    width: int
    """Columns of the aggregated rows; 0 where nothing is aggregated."""
    num_weights: int
    reads_features: bool = False
    """Whether the input rows are features, which want no gradient."""


@dataclass(frozen=True)
class GraphSize:
    """What a layer's cost depends on besides."""

    num_nodes: int
    num_edges: int
    """Entries of the normalised adjacency."""
    sparse_entries: int | None = None
    """Non-zeros of the features, if they are sparse."""


def layer_cost(layer: LayerShape, graph: GraphSize) -> float:
    """Forward and backward of a layer for the whole graph, in seconds of a reference machine."""
    gathered = 2 * graph.num_edges * layer.width
    if layer.reads_features and graph.sparse_entries is not None:
        gathered += 2 * graph.sparse_entries * layer.out_features
        product, entries = 0.0, float(graph.num_nodes * layer.out_features)
        dropped = graph.sparse_entries * _PER_SPARSE_ENTRY
    else:
        products = 2 if layer.reads_features else 3
        product = float(products * graph.num_nodes * layer.num_weights)
        entries = float(graph.num_nodes * (layer.in_features + layer.out_features))
        dropped = 0.0
    return gathered * _PER_GATHERED_NUMBER + product * _PER_MULTIPLICATION + entries * _PER_ENTRY + dropped


def balanced_ranges(costs: Sequence[float], num_stages: int) -> tuple[tuple[int, int], ...]:
    """Cut a row of layers into stages such that the dearest stage is as cheap as can be.

    Of the many cuts that reach that, one whose stages are near the mean of what is left.

    Args:
        costs: of each layer, above 0.
        num_stages: at most the number of layers; no stage is empty.

    Returns:
        layers ``[first, last)`` of each stage.
    """
    sums = [0.0, *accumulate(costs)]
    most = _least_bound(costs, sums, num_stages)
    needed = _stages_needed(sums, most)
    bounds = [0]
    for left in range(num_stages, 1, -1):
        start = bounds[-1]
        # the same subtraction as in `_stages_needed`, so that both round alike
        reach = bisect_right(sums, most, lo=start, key=lambda total: total - sums[start]) - 1
        furthest = min(reach, len(costs) - left + 1)
        cuts = range(start + 1, furthest + 1)
        aim = sums[start] + (sums[-1] - sums[start]) / left
        fitting = [cut for cut in cuts if needed[cut] < left]
        bounds.append(min(fitting, key=lambda cut: abs(sums[cut] - aim)))
    return tuple(pairwise([*bounds, len(costs)]))


def _least_bound(costs: Sequence[float], sums: list[float], num_stages: int) -> float:
    """The least cost (to rounding) that the dearest of so many stages can have."""
    low, high = max(*costs, sums[-1] / num_stages), sums[-1]
    for _ in range(60):
        middle = (low + high) / 2
        if _stages_needed(sums, middle * (1 + 1e-12))[0] <= num_stages:
            high = middle
        else:
            low = middle
    return high * (1 + 1e-12)


def _stages_needed(sums: list[float], most: float) -> list[int]:
    """For each layer, the stages of cost ``most`` that it and all behind it need."""
    num_layers = len(sums) - 1
    needed = [0] * (num_layers + 1)
    reach = num_layers
    for first in range(num_layers - 1, -1, -1):
        while reach > first + 1 and sums[reach] - sums[first] > most:
            reach -= 1
        needed[first] = 1 + needed[reach]
    return needed
