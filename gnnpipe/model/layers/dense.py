"""The layers that aggregate nothing: from features to hidden rows, and from hidden rows to classes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gnnpipe.model.features import FeatureRows, project
from gnnpipe.model.layers.base import Drop, Layer, glorot, zeros


class Dense(Layer):
    """``h' = act(dropout(norm(h)) W + b)``.

    Shapes: ``[n, in_features] -> [n, out_features]``.

    Args:
        in_features: columns of the input rows.
        out_features: columns of the output rows.
        generator: draws the weights.
        relu: whether act is ReLU; otherwise there is none.
        pre_norm: whether the rows go through LayerNorm and ReLU first (the end of a pre-activation network).
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        generator: torch.Generator,
        *,
        relu: bool = False,
        pre_norm: bool = False,
    ) -> None:
        super().__init__()
        self.out_features = out_features
        self.weight = glorot(in_features, out_features, generator)
        self.bias = zeros(out_features)
        self.norm = nn.LayerNorm(in_features) if pre_norm else None
        self.relu = relu

    def message(self, h: FeatureRows, drop: Drop) -> tuple[None, Tensor]:
        """No rows to aggregate; the product itself is carried over."""
        if self.norm is not None:
            assert isinstance(h, Tensor)
            h = F.relu(self.norm(h))
        return None, project(drop(h), self.weight)

    def update(self, z: Tensor | None, carry: Tensor | None, h0: Tensor | None) -> Tensor:
        """Bias and activation."""
        assert carry is not None
        out = carry + self.bias
        return F.relu(out) if self.relu else out

    def saved_columns(self) -> int:
        """The product and the output."""
        return 2 * self.out_features
