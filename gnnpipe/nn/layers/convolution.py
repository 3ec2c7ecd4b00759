"""What layers share whose linear map may come before or after the aggregation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

import torch.nn.functional as F
from torch import Tensor

from gnnpipe.nn.layer import Layer, zeros
from gnnpipe.nn.running import InputRows, Saved, SavedInput, WrittenOut, grad_of


class Convolution(Layer):
    """It comes before where that makes the aggregated rows narrower, or where the input rows are sparse.

    Args:
        in_features: columns of the input rows.
        out_features: columns of the output rows.
        sparse_input: whether the input rows are sparse features.
        relu: whether a ReLU ends the layer (not the last one).
    """

    def __init__(self, in_features: int, out_features: int, *, sparse_input: bool, relu: bool) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.sparse_input = sparse_input
        self.transform_first = sparse_input or out_features < in_features
        self.width = out_features if self.transform_first else in_features
        self.bias = zeros(out_features)
        self.relu = relu

    def activated(self, out: Tensor) -> Tensor:
        """``act(out)``."""
        return F.relu(out) if self.relu else out


C = TypeVar("C", bound=Convolution)


@dataclass
class SavedProduct(SavedInput):
    """What was multiplied, as the table holds the product."""

    gradient: Tensor = field(init=False)
    """Of the output rows."""


class TransformFirst(WrittenOut[C, SavedProduct]):
    """For a convolution that aggregates products of its dropped input rows."""

    saved = SavedProduct

    @property
    def dropped_columns(self) -> int:
        """Dropped rows that are kept; sparse ones are counted with the features."""
        return 0 if self.layer.sparse_input else self.layer.in_features


@dataclass
class SavedAggregate(Saved):
    """The aggregate, and the table's rows that were dropped."""

    dropped: Tensor = field(init=False)
    z: Tensor = field(init=False)
    gradient: Tensor = field(init=False)
    """Of the output rows."""


class AggregateFirst(WrittenOut[C, SavedAggregate]):
    """For a convolution that aggregates its dropped input rows."""

    saved = SavedAggregate
    only_drops = True

    def __init__(self, layer: C, rows: InputRows) -> None:
        super().__init__(layer)
        self._rows = rows

    def forward_message(self, saved: SavedAggregate, h: Tensor, x: Tensor) -> None:
        saved.drop.into(h, x)
        saved.dropped = x

    @property
    def returns_gradient(self) -> bool:
        """Features as they are want none."""
        return self._rows != "features"


def add_bias_gradient(layer: Convolution, gradient: Tensor) -> None:
    """Add up the gradient of the bias; that of the rows is the same before the activation as behind."""
    grad_of(layer.bias).add_(gradient.sum(dim=0))
