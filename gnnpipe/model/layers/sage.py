"""GraphSAGE with the mean aggregator."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gnnpipe.model.features import FeatureRows, project
from gnnpipe.model.layers.base import Drop, Layer, glorot, zeros


class SageLayer(Layer):
    """``h' = act(x W_self + mean(x of neighbours) W_neighbour + b)``, ``x = dropout(h)`` (arXiv 1706.02216).

    Shapes: ``[n, in_features] -> [n, out_features]``. A node without neighbours gets a mean of 0. The
    product with W_neighbour comes before or after the aggregation, whichever makes its rows narrower.

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
        self.weight_self = glorot(in_features, out_features, generator)
        self.weight_neighbour = glorot(in_features, out_features, generator)
        self.bias = zeros(out_features)
        self.relu = relu

    def message(self, h: FeatureRows, drop: Drop) -> tuple[Tensor, Tensor]:
        """Rows for the neighbours, and the node's own term."""
        rows = drop(h)
        own = project(rows, self.weight_self)
        if self.transform_first:
            return project(rows, self.weight_neighbour), own
        assert isinstance(rows, Tensor)
        return rows, own

    def update(self, z: Tensor | None, carry: Tensor | None, h0: Tensor | None) -> Tensor:
        """Sum of the two terms, bias and activation."""
        assert z is not None
        assert carry is not None
        neighbours = z if self.transform_first else z @ self.weight_neighbour
        out = carry + neighbours + self.bias
        return F.relu(out) if self.relu else out

    def saved_columns(self) -> int:
        """Message, own term, aggregate and output."""
        assert self.width is not None
        return 2 * self.width + 2 * self.out_features
