"""How good a gradient estimate is, from sums that add up over ranks. Imports nothing heavy."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class LayerSums:
    """A layer's inner products; those of several ranks, or layers, add up."""

    name: str
    product: float
    """Of the estimate with the exact gradient."""
    estimate: float
    """Of the estimate with itself."""
    exact: float
    """Of the exact gradient with itself."""
    table_error: float
    """Squared distance of the epoch's rows from the exact ones."""
    table: float
    """Square of the exact rows; 0 where nothing is aggregated."""


@dataclass(frozen=True)
class Estimate:
    """A gradient estimate beside the exact gradient at the same weights and dropout masks."""

    cosine: float
    """Of the angle between them; 1 is exact."""
    relative_error: float
    """Length of the difference over the exact length; 0 is exact."""
    norm_ratio: float
    """Estimate's length over the exact one's."""
    table_error: float | None
    """Distance of the epoch's rows from exact ones, over the length of these; None where nothing is
    aggregated."""


def estimates(sums: Iterable[LayerSums]) -> dict[str, Estimate]:
    """The estimate of each layer, in the order of first mention, and of all together as ``all``."""
    by_name: dict[str, LayerSums] = {}
    for item in sums:
        by_name[item.name] = _added(by_name[item.name], item) if item.name in by_name else item
    everything = LayerSums("all", 0, 0, 0, 0, 0)
    for item in by_name.values():
        everything = _added(everything, item)
    return {name: _estimate(item) for name, item in [("all", everything), *by_name.items()]}


def _added(one: LayerSums, other: LayerSums) -> LayerSums:
    return LayerSums(
        one.name,
        one.product + other.product,
        one.estimate + other.estimate,
        one.exact + other.exact,
        one.table_error + other.table_error,
        one.table + other.table,
    )


def _estimate(sums: LayerSums) -> Estimate:
    """Where the exact gradient vanishes, an estimate that does so too is right, and another one is not."""
    error = max(sums.estimate - 2 * sums.product + sums.exact, 0.0)
    right = float(sums.estimate == 0)
    return Estimate(
        sums.product / math.sqrt(sums.estimate * sums.exact) if sums.estimate * sums.exact > 0 else right,
        math.sqrt(error / sums.exact) if sums.exact > 0 else 1 - right,
        math.sqrt(sums.estimate / sums.exact) if sums.exact > 0 else 1.0,
        math.sqrt(sums.table_error / sums.table) if sums.table > 0 else None,
    )
