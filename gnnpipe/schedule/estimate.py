"""How good a gradient estimate is, from sums that add up over ranks. Imports no PyTorch."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class LayerSums:
    """A layer's inner products. With g the estimate and g* the exact gradient, each is a sum over entries, so
    that those of several ranks or layers add up."""

    name: str
    product: float
    """``<g, g*>``."""
    estimate: float
    """``<g, g>``."""
    exact: float
    """``<g*, g*>``."""
    table_error: float
    """Squared distance of the epoch's rows from the exact ones."""
    table: float
    """Sum of the squares of the exact rows; 0 where nothing is aggregated."""


@dataclass(frozen=True)
class Estimate:
    """A gradient estimate beside the exact gradient at the same weights and dropout masks."""

    cosine: float
    """Cosine of the angle between the two; 1 is exact."""
    relative_error: float
    """Norm of their difference over the exact gradient's; 0 is exact."""
    norm_ratio: float
    """Norm of the estimate over the exact gradient's."""
    table_error: float | None
    """Distance of the epoch's rows from the exact ones, over the norm of the exact ones; None where nothing
    is aggregated."""


def estimates(sums: Iterable[LayerSums]) -> dict[str, Estimate]:
    """The estimate of all layers together as ``all``, then of each layer, in the order of first mention."""
    by_name: dict[str, LayerSums] = {}
    for of_rank in sums:
        name = of_rank.name
        by_name[name] = _added(by_name[name], of_rank) if name in by_name else of_rank
    everything = LayerSums("all", 0, 0, 0, 0, 0)
    for of_layer in by_name.values():
        everything = _added(everything, of_layer)
    return {name: _estimate(total) for name, total in [("all", everything), *by_name.items()]}


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
    """Where the exact gradient vanishes, an estimate that vanishes too is right (cosine 1, error 0), and any
    other is wrong (cosine 0, error 1)."""
    # |g - g*|^2, which rounding may make negative
    error = max(sums.estimate - 2 * sums.product + sums.exact, 0.0)
    right = float(sums.estimate == 0)
    return Estimate(
        sums.product / math.sqrt(sums.estimate * sums.exact) if sums.estimate * sums.exact > 0 else right,
        math.sqrt(error / sums.exact) if sums.exact > 0 else 1 - right,
        math.sqrt(sums.estimate / sums.exact) if sums.exact > 0 else 1.0,
        math.sqrt(sums.table_error / sums.table) if sums.table > 0 else None,
    )
