"""GCNII: graph convolution with initial residual and identity mapping."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from gnnpipe.model.features import FeatureRows
from gnnpipe.model.layers.base import Drop, Layer, glorot


class GcniiLayer(Layer):
    """``h' = ReLU(s ((1 - beta) I + beta W))`` with ``s = (1 - alpha) A dropout(h) + alpha h0``.

    arXiv 2007.02133, eq. 5; ``beta = log(theta / l + 1)`` for the l-th layer, counted from 1.
    Shapes: ``[n, hidden] -> [n, hidden]``.

    Args:
        hidden: columns of input, output and initial rows.
        number: l.
        alpha: share of the initial rows.
        theta: strength of the weights.
        generator: draws the weights.
    """

    def __init__(
        self, hidden: int, number: int, alpha: float, theta: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.width = self.out_features = hidden
        self.alpha = alpha
        self.beta = math.log(theta / number + 1.0)
        self.weight = glorot(hidden, hidden, generator)

    def message(self, h: FeatureRows, drop: Drop) -> tuple[Tensor, None]:
        """Dropped rows."""
        rows = drop(h)
        assert isinstance(rows, Tensor)
        return rows, None

    def update(self, z: Tensor | None, carry: Tensor | None, h0: Tensor | None) -> Tensor:
        """Initial residual, then identity mapping."""
        assert z is not None
        assert h0 is not None
        s = torch.lerp(z, h0, self.alpha)
        return F.relu(torch.addmm(s, s, self.weight, beta=1.0 - self.beta, alpha=self.beta))

    def saved_columns(self) -> int:
        """Message, aggregate, its mix with the initial rows, and output."""
        return 4 * self.out_features
