"""How a layer runs in training: forward and backward, on any consecutive rows of a chunk.

    autograd       `gnnpipe.nn.autograd`: differentiates the layer as its author wrote it
    written out    beside each layer of `gnnpipe.nn.layers`: saves most of the small operations and more than
                   half of the memory; tests hold it to what autograd finds
    recomputed     either of them, if it is also a `Recomputes`

`gnnpipe.nn.runners` chooses.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from gnnpipe.nn.dropout import Dropout
from gnnpipe.nn.features import FeatureRows, SparseRows
from gnnpipe.nn.layer import Given, Layer

InputRows = Literal["features", "relu", "any"]
"""Where a layer's input rows come from: features want no gradient, and a ReLU lets none through where its
output is 0."""


def grad_of(weight: nn.Parameter) -> Tensor:
    """Where the gradient of a weight adds up, from 0."""
    if weight.grad is None:
        weight.grad = torch.zeros_like(weight)
    return weight.grad


@dataclass(frozen=True)
class WeightProduct:
    """A gradient of a weight that nobody waits for: ``gradient += scale * left^T @ right``.

    It is computed when the gradient of the input rows has left for the stage before, which does wait.
    """

    gradient: Tensor
    left: FeatureRows
    right: Tensor
    scale: float

    def add(self) -> None:
        """Compute it."""
        if isinstance(self.left, SparseRows):
            self.gradient.add_(self.left.transpose_times(self.right), alpha=self.scale)
        else:
            left = self.left.to(self.right.dtype)  # a table's rows, perhaps of fewer bits
            self.gradient.addmm_(left.t(), self.right, alpha=self.scale)


@dataclass
class Saved:
    """What a runner keeps of some rows from forward to backward. Each runner adds fields of its own, which
    its methods set and delete."""

    drop: Dropout
    products: list[WeightProduct]
    """Where gradients of weights are left to be computed."""

    def owe(self, weight: nn.Parameter, left: FeatureRows, right: Tensor, scale: float = 1.0) -> None:
        """Leave ``scale * left^T @ right`` to be added to a weight's gradient."""
        self.products.append(WeightProduct(grad_of(weight), left, right, scale))


@dataclass
class SavedInput(Saved):
    """For runners that multiply the dropped input rows with weights."""

    dropped: FeatureRows = field(init=False)

    def back(self, gradient: Tensor) -> None:
        """Differentiate dropout and the ReLU in front of it, in place. Sparse rows are features, whose
        gradient nobody wants."""
        if isinstance(self.dropped, Tensor):
            self.drop.back(gradient, self.dropped, gradient)


@dataclass(frozen=True)
class Kept:
    """What a runner keeps of a chunk, in floats a row; for the memory estimate."""

    saved: int
    """From forward to backward, beside the table."""
    dropped: int = 0
    """Of those, the input rows after dropout; sparse ones are counted with the features."""
    forgotten: int = 0
    """Of those, what a `Recomputes` lets go of."""
    carried: int = 0
    """What `Layer.message` makes for `Layer.update`, in evaluation."""
    gradient: Literal["no", "products", "chunk"] = "chunk"
    """How long the gradient of the output rows is kept: only while the layer is differentiated itself, until
    products of weights are computed, or until the chunk has left the stage."""
    owed: int = 0
    """What products hold beside that gradient and what was saved."""
    owed_of_tables: int = 0
    """The same where tables have fewer bits: their rows as floats."""
    held: int = 0
    """What is kept besides on the way back until the chunk has left the stage."""


L = TypeVar("L", bound=Layer)
S = TypeVar("S", bound=Saved)


class Runner(ABC, Generic[L, S]):
    """Runs a layer in training.

    A layer that ends in a ReLU and has written its derivative out does not keep its output to see what the
    ReLU let through: the layer behind reads that off the rows it drops, see `Dropout.back`.
    """

    saved: type[S]
    """What it keeps of some rows."""
    only_drops = False
    """Whether `forward_message` writes dropped rows and nothing else, which `Dropout.into` does in any
    format."""

    def __init__(self, layer: L) -> None:
        self.layer = layer

    def begin_epoch(self) -> None:
        """The weights are this epoch's, and their gradients are about to add up."""
        for weight in self.layer.parameters():
            grad_of(weight)

    @abstractmethod
    def forward_message(self, saved: S, h: Given, x: Given) -> None:
        """`Layer.message` of input rows ``[n, in_features]``.

        Args:
            saved: of these rows; dropout may still know its random bytes.
            h: the input rows.
            x: where the rows to aggregate go, ``[n, width]``: their place in the layer's table, where they
                stand until the next epoch. Written as float32; a table of another type is written behind the
                runner's back, unless it `only_drops`. None for a layer that aggregates nothing.
        """

    @abstractmethod
    def forward_update(self, saved: S, z: Given, h0: Given, out: Tensor) -> None:
        """`Layer.update`, into ``out``; ``z`` may be overwritten, ``h0`` not."""

    @abstractmethod
    def backward_update(self, saved: S, gradient: Tensor, z_gradient: Given, h0_gradient: Given) -> None:
        """Differentiate `Layer.update`; gradients of weights add up.

        Args:
            saved: as `forward_update` left it.
            gradient: of the output rows; 0 where a ReLU made them 0, but for initial rows. It may be
                overwritten.
            z_gradient: where that of the aggregated rows goes; None if nobody wants it.
            h0_gradient: that of the initial rows is added here; None if the model has none.
        """

    @abstractmethod
    def backward_message(self, saved: S, x_gradient: Given, h_gradient: Given) -> None:
        """Differentiate `Layer.message`; gradients of weights add up.

        Args:
            saved: as `backward_update` left it.
            x_gradient: of the aggregated rows; None where none was wanted. It may be overwritten.
            h_gradient: where that of the input rows goes; None for features. If they come out of a ReLU, it
                is 0 where they are.
        """

    @property
    def returns_gradient(self) -> bool:
        """Whether the aggregated rows want a gradient, as everything does but features."""
        return self.layer.width is not None

    @property
    @abstractmethod
    def kept(self) -> Kept:
        """Sizes of what is kept."""


AnyRunner: TypeAlias = Runner[Any, Any]


class WrittenOut(Runner[L, S]):
    """A derivative that is written out."""

    @classmethod
    @abstractmethod
    def of(cls, layer: Layer, rows: InputRows) -> AnyRunner | None:
        """For a layer and what its input rows are, if this is their derivative; not for a subclass of the
        layer, which may define something else."""


class Recomputes(ABC, Generic[S]):
    """A runner that can let go of what it makes again without aggregating."""

    @abstractmethod
    def forget(self, saved: S) -> None:
        """After `Runner.forward_update`: let go of it."""

    @abstractmethod
    def recall(self, saved: S, h: Given, out: Tensor | None) -> None:
        """Before `Runner.backward_update`: make it again.

        Args:
            saved: as `forget` left it.
            h: the input rows.
            out: where the output rows go once more, bit for bit the same; None if nobody needs them.
        """
