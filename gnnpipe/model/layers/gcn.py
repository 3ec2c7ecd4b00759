"""The graph convolution of Kipf and Welling."""

from __future__ import annotations

import torch
from torch import Tensor

from gnnpipe.model.features import FeatureRows, project
from gnnpipe.model.layers.base import Convolution, Drop, glorot


class GcnLayer(Convolution):
    """``h' = act(A dropout(h) W + b)`` with ``A = D^-1/2 (A + I) D^-1/2`` (arXiv 1609.02907).

    Shapes: ``[n, in_features] -> [n, out_features]``.

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
        self.weight = glorot(in_features, out_features, generator)

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
        return self.activated(out)

    def saved_columns(self) -> int:
        """Message, aggregate and output."""
        assert self.width is not None
        return 2 * self.width + self.out_features
