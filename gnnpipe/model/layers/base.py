"""What every layer is: a message, an aggregation that the engine does, and an update."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gnnpipe.model.features import FeatureRows

Drop = Callable[[FeatureRows], FeatureRows]


class Layer(nn.Module):
    """A layer with a linear aggregation: ``x, carry = message(h)``, ``z = A @ x``, ``update(z, carry, h0)``.

    The engine keeps ``x`` of all nodes in a table, multiplies with the adjacency in both directions, and
    differentiates `message` and `update`, chunk by chunk, with autograd. Both work row by row.
    """

    width: int | None = None
    """Columns of ``x``, the rows that are aggregated; None for a layer that aggregates nothing."""
    out_features: int
    """Columns of the output."""

    def message(self, h: FeatureRows, drop: Drop) -> tuple[Tensor | None, Tensor | None]:
        """Rows to aggregate, ``[n, width]``, and rows that `update` needs besides.

        Args:
            h: input rows ``[n, in_features]``.
            drop: dropout of this layer for these nodes; the identity in evaluation.
        """
        raise NotImplementedError

    def update(self, z: Tensor | None, carry: Tensor | None, h0: Tensor | None) -> Tensor:
        """Output rows ``[n, out_features]``.

        Args:
            z: aggregated rows ``[n, width]``, or None if the layer aggregates nothing.
            carry: what `message` handed over.
            h0: the initial rows ``[n, hidden]`` of models that have them.
        """
        raise NotImplementedError

    def saved_columns(self) -> int:
        """Floats a row that are kept from forward to backward; for the memory estimate."""
        raise NotImplementedError

    def returns_gradient(self, number: int) -> bool:
        """Whether the aggregated rows want a gradient, as everything does but features.

        Args:
            number: the layer's position in the stack.
        """
        return self.width is not None


class Convolution(Layer):
    """What layers share whose linear map may come before or after the aggregation.

    It comes before where that makes the aggregated rows narrower, or where the input rows are sparse.

    Args:
        in_features: columns of the input rows.
        out_features: columns of the output rows.
        sparse_input: whether the input rows are sparse features.
        relu: whether a ReLU ends the layer (not the last one).
    """

    def __init__(self, in_features: int, out_features: int, *, sparse_input: bool, relu: bool) -> None:
        super().__init__()
        self.out_features = out_features
        self.transform_first = sparse_input or out_features < in_features
        self.width = out_features if self.transform_first else in_features
        self.bias = zeros(out_features)
        self.relu = relu

    def returns_gradient(self, number: int) -> bool:
        """See `Layer.returns_gradient`."""
        return number > 0 or self.transform_first

    def activated(self, out: Tensor) -> Tensor:
        """``act(out)``."""
        return F.relu(out) if self.relu else out


def glorot(in_features: int, out_features: int, generator: torch.Generator) -> nn.Parameter:
    """A weight ``[in_features, out_features]`` drawn uniformly as Glorot and Bengio (2010) say."""
    bound = (6.0 / (in_features + out_features)) ** 0.5
    weight = torch.empty(in_features, out_features).uniform_(-bound, bound, generator=generator)
    return nn.Parameter(weight)


def zeros(num_features: int) -> nn.Parameter:
    """A bias ``[num_features]``."""
    return nn.Parameter(torch.zeros(num_features))
