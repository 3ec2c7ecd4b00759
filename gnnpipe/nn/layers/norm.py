"""LayerNorm (arXiv 1607.06450) and its derivative, without autograd."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gnnpipe.nn.running import grad_of

Moments = tuple[Tensor, Tensor]
"""Mean and reciprocal standard deviation of each row."""


def norm_forward(norm: nn.LayerNorm, h: Tensor) -> tuple[Tensor, Moments]:
    """Normalise rows ``[n, columns]``; return them and the moments, for the way back."""
    normed, mean, scale = torch.native_layer_norm(h, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
    return normed, (mean, scale)


def norm_backward(norm: nn.LayerNorm, gradient: Tensor, h: Tensor, moments: Moments) -> Tensor:
    """Gradient of ``h``, given that of the normalised rows; gradients of the norm's weights are added.

    With n the rows in normal form, g the gradient of n and means over columns:
    ``(g - mean(g) - n mean(g n)) / std``.
    """
    of_rows, *of_weights = torch.ops.aten.native_layer_norm_backward(
        gradient, h, norm.normalized_shape, *moments, norm.weight, norm.bias, [True, True, True]
    )
    for weight, of_weight in zip((norm.weight, norm.bias), of_weights, strict=True):
        grad_of(weight).add_(of_weight)
    return of_rows
