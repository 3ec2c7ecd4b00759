"""ResGCN+: the pre-activation residual block of DeepGCNs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gnnpipe.model.features import FeatureRows
from gnnpipe.model.layers.base import Drop, Layer, glorot, zeros


class ResGcnLayer(Layer):
    """``h' = h + A dropout(ReLU(norm(h))) W + b`` (the "res+" block of arXiv 2006.07739).

    ``A = D^-1/2 (A + I) D^-1/2``; the norm is LayerNorm, which works row by row, so that a chunk's rows do
    not depend on the other chunks' as they would with batch norm. Shapes: ``[n, hidden] -> [n, hidden]``.

    Args:
        hidden: columns of input and output.
        generator: draws the weights.
    """

    def __init__(self, hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        self.width = self.out_features = hidden
        self.norm = nn.LayerNorm(hidden)
        self.weight = glorot(hidden, hidden, generator)
        self.bias = zeros(hidden)

    def message(self, h: FeatureRows, drop: Drop) -> tuple[Tensor, Tensor]:
        """Activated rows, and the skip."""
        assert isinstance(h, Tensor)
        rows = drop(F.relu(self.norm(h)))
        assert isinstance(rows, Tensor)
        return rows, h

    def update(self, z: Tensor | None, carry: Tensor | None, h0: Tensor | None) -> Tensor:
        """Convolution plus skip."""
        assert z is not None
        assert carry is not None
        return torch.addmm(carry, z, self.weight).add_(self.bias)

    def saved_columns(self) -> int:
        """Normalised rows, message, aggregate and output."""
        return 4 * self.out_features
