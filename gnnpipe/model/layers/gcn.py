"""The graph convolution of Kipf and Welling."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gnnpipe.model.features import FeatureRows, project
from gnnpipe.model.layers.base import Drop, Layer, glorot, zeros


class GcnLayer(Layer):
    """``h' = act(A dropout(h) W + b)`` with ``A = D^-1/2 (A + I) D^-1/2`` (arXiv 1609.02907).

    Shapes: ``[n, in_features] -> [n, out_features]``. The product with W comes before or after the
    aggregation, whichever makes the aggregated rows narrower.

    Args:
        in_features: columns of the input rows.
        out_features: columns of the output rows.
        generator: draws the weights.
        sparse_input: whether the input rows are sparse features, which are multiplied first.
        relu: whether act is ReLU (not on the last layer).
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        generator: torch.Generator,
        *,
        sparse_input: bool = False,
        relu: bool = True,
    ) -> None:
        super().__init__()
        self.out_features = out_features
        self.transform_first = sparse_input or out_features < in_features
        self.width = out_features if self.transform_first else in_features
        self.weight = glorot(in_features, out_features, generator)
        self.bias = zeros(out_features)
        self.relu = relu

    def message(self, h: FeatureRows, drop: Drop) -> tuple[Tensor, None]:
        """Dropped rows, multiplied if that makes them narrower."""
        rows = drop(h)
        if self.transform_first:
            return project(rows, self.weight), None
        assert isinstance(rows, Tensor)
        return rows, None

    def update(self, z: Tensor | None, carry: Tensor | None, h0: Tensor | None) -> Tensor:
        """Product (if still to come), bias and activation."""
        assert z is not None
        out = z + self.bias if self.transform_first else torch.addmm(self.bias, z, self.weight)
        return F.relu(out) if self.relu else out

    def saved_columns(self) -> int:
        """Message, aggregate and output."""
        assert self.width is not None
        return 2 * self.width + self.out_features
