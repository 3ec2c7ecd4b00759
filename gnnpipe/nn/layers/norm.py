"""LayerNorm (arXiv 1607.06450) and BatchNorm, and their derivatives, without autograd."""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor, nn

from gnnpipe.config.run import Norm
from gnnpipe.nn.batch_norm import BatchNorm, Statistics
from gnnpipe.nn.running import grad_of

# looked up once: each step of the name is a function
LAYER_NORM_BACKWARD = torch.ops.aten.native_layer_norm_backward.default

AnyNorm: TypeAlias = nn.LayerNorm | BatchNorm
Moments = tuple[Tensor, Tensor] | Statistics
"""Mean and reciprocal standard deviation of each row, or of each column."""


def norm_of(kind: Norm, columns: int) -> AnyNorm | None:
    """A new norm of a kind; None for none."""
    if kind == "none":
        return None
    return nn.LayerNorm(columns) if kind == "layer" else BatchNorm(columns)


def num_moments(norm: AnyNorm | None) -> int:
    """Numbers a row among the moments."""
    return 2 * isinstance(norm, nn.LayerNorm)


def norm_forward(norm: AnyNorm, h: Tensor) -> tuple[Tensor, Moments]:
    """Normalise rows ``[n, columns]``; return them and the moments, for the way back."""
    if isinstance(norm, BatchNorm):
        return norm.normalize(h)
    normed, mean, scale = torch.native_layer_norm(h, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
    return normed, (mean, scale)


def norm_backward(norm: AnyNorm, gradient: Tensor, h: Tensor, moments: Moments) -> Tensor:
    """Gradient of ``h``, given that of the normalised rows; gradients of the norm's weights are added.

    With n the rows in normal form, g the gradient of n and means over columns, or for batch norm over rows:
    ``(g - mean(g) - n mean(g n)) / std``.
    """
    if isinstance(norm, BatchNorm):
        assert isinstance(moments, Statistics)
        return norm.normalize_back(gradient, h, moments)
    assert isinstance(moments, tuple)
    of_rows, of_weight, of_bias = LAYER_NORM_BACKWARD(
        gradient, h, norm.normalized_shape, *moments, norm.weight, norm.bias, [True, True, True]
    )
    grad_of(norm.weight).add_(of_weight)
    grad_of(norm.bias).add_(of_bias)
    return of_rows
