"""Extras around a convolution: residual, norm and activation, ``out = act(norm(conv(x) + skip(x)))``.

The order is that of the tuned baselines of 2024 (arXiv 2406.08993), with ``x = dropout(h)``: all of a layer
reads the dropped rows. Each step is left out where it is none.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from gnnpipe.config.run import Norm, Residual
from gnnpipe.nn.features import FeatureRows, project
from gnnpipe.nn.layer import Given, Layer, glorot
from gnnpipe.nn.layers.norm import AnyNorm, Moments, norm_backward, norm_forward, norm_of, num_moments
from gnnpipe.nn.running import Kept, Saved, WrittenOut


@dataclass(frozen=True)
class Extras:
    """The kinds of norm and of residual of a convolution."""

    norm: Norm = "none"
    residual: Residual = "none"


PLAIN = Extras()


class ExtrasLayer(Layer):
    """A convolution with extras; its author calls `add_extras` once the sizes are set, and `finished` at the
    end of `update`."""

    norm: AnyNorm | None
    identity: bool
    """Whether the dropped input rows are added; only where they are as wide as the output."""
    weight_skip: Given
    """Weight of the linear residual, ``[in_features, out_features]``; None for another."""

    def add_extras(self, extras: Extras, generator: torch.Generator | None = None) -> None:
        """Build the norm and the residual. An identity is left out where the widths differ."""
        self.norm = norm_of(extras.norm, self.out_features)
        self.identity = extras.residual == "identity" and self.in_features == self.out_features
        self.register_parameter(
            "weight_skip",
            glorot(self.in_features, self.out_features, generator) if extras.residual == "linear" else None,
        )

    @property
    def skips(self) -> bool:
        """Whether there is a residual."""
        return self.identity or self.weight_skip is not None

    def skipped(self, rows: FeatureRows) -> Tensor | None:
        """``skip(x)``; None for none."""
        if self.weight_skip is not None:
            return project(rows, self.weight_skip)
        return rows if self.identity and isinstance(rows, Tensor) else None

    def finished(self, out: Tensor, skip: Tensor | None) -> Tensor:
        """``act(norm(out + skip))``."""
        out = out if skip is None else out + skip
        out = out if self.norm is None else self.norm(out)
        return F.relu(out) if self.relu else out


@dataclass
class SavedExtras(Saved):
    """Saved activations of the norm, where there is one."""

    before: Tensor = field(init=False)
    """Rows in front of the norm."""
    moments: Moments = field(init=False)
    skip_gradient: Tensor = field(init=False)
    """Gradient of the rows in front of the norm, where there is a residual."""


L = TypeVar("L", bound=ExtrasLayer)
S = TypeVar("S", bound=SavedExtras)


class ExtrasRunner(WrittenOut[L, S]):
    """The steps behind a convolution, written out.

    With g the gradient of the output rows, 0 where the ReLU was:

        y = conv + x W_skip      out = act(norm(y))
        G = norm's derivative of g      W_skip: x^T G      x: G W_skip^T, beside the convolution's
    """

    def room(self, out: Tensor) -> Tensor:
        """The tensor to write the convolution's rows to: ``out``, or rows in front of the norm."""
        return out if self.layer.norm is None else torch.empty_like(out)

    def finish(self, saved: S, before: Tensor, x: FeatureRows, out: Tensor) -> None:
        """Add the residual, normalise and activate.

        Args:
            saved: saved activations.
            before: what `room` gave, with the convolution's rows.
            x: the dropped input rows.
            out: tensor to write the output rows to.
        """
        layer = self.layer
        if layer.identity and isinstance(x, Tensor):
            before.add_(x)
        elif layer.weight_skip is not None:
            add_product(before, x, layer.weight_skip)
        if layer.norm is not None:
            normed, saved.moments = norm_forward(layer.norm, before)
            saved.before = before
            if layer.relu:
                torch.clamp_min(normed, 0.0, out=out)
            else:
                out.copy_(normed)
        elif layer.relu:
            out.relu_()

    def unfinish(self, saved: S, gradient: Tensor, x: FeatureRows) -> Tensor:
        """The gradient of the convolution's rows; products of the residual's weight are owed."""
        layer = self.layer
        if layer.norm is not None:
            gradient = norm_backward(layer.norm, gradient, saved.before, saved.moments)
            del saved.before, saved.moments
        if layer.weight_skip is not None:
            left = x.float() if isinstance(x, Tensor) else x
            saved.owe(layer.weight_skip, left, gradient)
        if layer.skips:
            saved.skip_gradient = gradient
        return gradient

    def add_skip_gradient(self, saved: S, x_gradient: Tensor) -> None:
        """Add the residual's share to the gradient of the dropped input rows."""
        if self.layer.identity:
            x_gradient.add_(saved.skip_gradient)
        elif self.layer.weight_skip is not None:
            x_gradient.addmm_(saved.skip_gradient, self.layer.weight_skip.t())

    def with_extras(self, kept: Kept) -> Kept:
        """Sizes with those of the norm: its input rows, its moments, and the gradient that it makes."""
        columns, layer = self.layer.out_features, self.layer
        if layer.norm is not None:
            more = columns + num_moments(layer.norm)
            return replace(kept, saved=kept.saved + more, gradient="no", held=kept.held + columns)
        return replace(kept, gradient="chunk") if layer.skips else kept


def add_product(out: Tensor, rows: FeatureRows, weight: Tensor) -> None:
    """``out += rows @ weight``, in place; rows of a table may be bf16."""
    if isinstance(rows, Tensor):
        out.addmm_(rows.float(), weight)
    else:
        out.add_(project(rows, weight))
