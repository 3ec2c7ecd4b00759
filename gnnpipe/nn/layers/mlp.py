"""Perceptrons of two layers, as message-passing layers have them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gnnpipe.config.run import Norm
from gnnpipe.nn.layer import glorot, zeros
from gnnpipe.nn.layers.norm import norm_of


class Mlp(nn.Module):
    """``ReLU(norm(x W + b)) W_out + b_out``.

    Args:
        in_features: columns of the input.
        inner: columns of the hidden rows.
        out_features: columns of the output.
        generator: draws the weights.
        norm: kind of norm in front of the ReLU.
    """

    def __init__(
        self,
        in_features: int,
        inner: int,
        out_features: int,
        generator: torch.Generator | None,
        norm: Norm = "none",
    ) -> None:
        super().__init__()
        self.weight, self.bias = glorot(in_features, inner, generator), zeros(inner)
        self.norm = norm_of(norm, inner)
        self.weight_out, self.bias_out = glorot(inner, out_features, generator), zeros(out_features)

    def forward(self, rows: Tensor) -> Tensor:
        """Apply it."""
        return self.finish(torch.addmm(self.bias, rows, self.weight))

    def finish(self, product: Tensor) -> Tensor:
        """Apply all but the first product and its bias."""
        normed = product if self.norm is None else self.norm(product)
        return torch.addmm(self.bias_out, F.relu(normed), self.weight_out)
