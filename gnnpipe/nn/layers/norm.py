"""LayerNorm and its derivative, without autograd."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gnnpipe.nn.running import grad_of

Moments = tuple[Tensor, Tensor]
"""Mean and reciprocal standard deviation of each row."""


def norm_forward(norm: nn.LayerNorm, h: Tensor) -> tuple[Tensor, Moments]:
    """Normalised rows of ``[n, columns]``, and what the way back needs."""
    normed, mean, scale = torch.native_layer_norm(h, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
    return normed, (mean, scale)


def norm_backward(norm: nn.LayerNorm, gradient: Tensor, h: Tensor, moments: Moments) -> Tensor:
    """Gradient of ``h``; those of the norm's weights add up."""
    found = torch.ops.aten.native_layer_norm_backward(
        gradient, h, norm.normalized_shape, *moments, norm.weight, norm.bias, [True, True, True]
    )
    for weight, part in zip((norm.weight, norm.bias), found[1:], strict=True):
        grad_of(weight).add_(part)
    return found[0]
