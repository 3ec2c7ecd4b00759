"""GraphSAGE with the mean aggregator."""

from __future__ import annotations

import torch
from torch import Tensor

from gnnpipe.model.features import FeatureRows, project
from gnnpipe.model.layers.base import Convolution, Drop, glorot


class SageLayer(Convolution):
    """``h' = act(x W_self + mean(x of neighbours) W_neighbour + b)``, ``x = dropout(h)`` (arXiv 1706.02216).

    Shapes: ``[n, in_features] -> [n, out_features]``. A node without neighbours gets a mean of 0.

    Args: as `Convolution`; ``generator`` draws the weights.
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
        super().__init__(in_features, out_features, sparse_input=sparse_input, relu=relu)
        self.weight_self = glorot(in_features, out_features, generator)
        self.weight_neighbour = glorot(in_features, out_features, generator)

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
        return self.activated(out)

    def saved_columns(self) -> int:
        """Message, own term, aggregate and output."""
        assert self.width is not None
        return 2 * self.width + 2 * self.out_features
