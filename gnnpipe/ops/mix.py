"""The mix with which a pull may end."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Mix:
    """Makes ``(1 - alpha) * z + alpha * rows`` of a product z, while that is at hand."""

    rows: Tensor
    """float32 ``[n, width]``."""
    alpha: float
    """Share of ``rows``."""
