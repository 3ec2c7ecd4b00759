"""Shared by layers whose linear map may come before or after the aggregation: ``A (x W) = (A x) W``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, TypeVar

import torch
from torch import Tensor

from gnnpipe.nn.layer import glorot, zeros
from gnnpipe.nn.layers.wrappers.extras import PLAIN, Extras, ExtrasLayer, ExtrasRunner, SavedExtras
from gnnpipe.nn.running import InputRows, SavedInput, grad_of


class Convolution(ExtrasLayer):
    """A convolution that multiplies with its weight first if that makes the aggregated rows narrower, or if
    the input rows are sparse, and aggregates first otherwise.

    Args:
        in_features: columns of the input rows.
        out_features: columns of the output rows.
        generator: draws the weights; by default PyTorch's own.
        sparse_input: whether the input rows are sparse features.
        relu: whether a ReLU ends the layer, as it does all but the model's last.
        extras: norm and residual.
    """

    drawn: ClassVar[tuple[str, ...]]
    """Names of its weights ``[in_features, out_features]``, in the order in which they are drawn."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        generator: torch.Generator | None = None,
        *,
        sparse_input: bool = False,
        relu: bool = True,
        extras: Extras = PLAIN,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.sparse_input = sparse_input
        self.transform_first = sparse_input or out_features < in_features
        self.width = out_features if self.transform_first else in_features
        self.bias = zeros(out_features)
        self.relu = relu
        for name in self.drawn:
            self.register_parameter(name, glorot(in_features, out_features, generator))
        self.add_extras(extras, generator)


C = TypeVar("C", bound=Convolution)
P = TypeVar("P", bound="SavedProduct")
A = TypeVar("A", bound="SavedAggregate")


@dataclass
class SavedProduct(SavedInput, SavedExtras):
    """The rows that were multiplied; the table holds the product."""

    gradient: Tensor = field(init=False)
    """Gradient of the convolution's rows."""


class TransformFirst(ExtrasRunner[C, P]):
    """Runner of a convolution that multiplies its dropped input rows, then aggregates."""

    @property
    def dropped_columns(self) -> int:
        """Floats a row in the dropped rows that are kept; sparse ones are counted with the features."""
        return 0 if self.layer.sparse_input else self.layer.in_features


@dataclass
class SavedAggregate(SavedExtras):
    """The dropped input rows, which stand in the table, and the aggregate."""

    dropped: Tensor = field(init=False)
    z: Tensor = field(init=False)
    gradient: Tensor = field(init=False)
    """Gradient of the convolution's rows."""


class AggregateFirst(ExtrasRunner[C, A]):
    """Runner of a convolution that aggregates its dropped input rows, then multiplies."""

    only_drops = True

    def __init__(self, layer: C, rows: InputRows) -> None:
        super().__init__(layer)
        self._rows = rows

    def forward_message(self, saved: A, h: Tensor, x: Tensor) -> None:
        saved.drop.into(h, x)
        saved.dropped = x

    @property
    def returns_gradient(self) -> bool:
        """Nobody wants the gradient of features, which are aggregated as they are."""
        return self._rows != "features"


def add_bias_gradient(layer: Convolution, gradient: Tensor) -> None:
    """Add to the gradient of the bias: the sum over rows of the gradient of the convolution's rows.

    Without a norm that is the gradient of the output rows, which is 0 where the ReLU was, see `Runner`.
    """
    grad_of(layer.bias).add_(gradient.sum(dim=0))
