"""How a layer runs in training: forward and backward, on any consecutive rows of a chunk.

    autograd       `gnnpipe.nn.autograd`: differentiates the layer as its author wrote it
    written out    the derivative by hand, beside each layer of `gnnpipe.nn.layers`: saves most of the small
                   operations and more than half of the memory; tests compare it with autograd's
    recomputed     either of the two, if it is also a `Recomputes`: drops some saved activations and makes
                   them again; or a `Reverts`: makes even its input rows again, from its output

`gnnpipe.nn.runners` chooses. The four steps of a layer, between which the engine aggregates:

    # forward    h --forward_message--> x | table, z = A x | z --forward_update--> out
    # backward   gradient of out --backward_update--> of z | table, A^T | of x --backward_message--> of h

Where the aggregation is not linear, the runner does it, in one of two ways:

    Gathers    z = gather(table)     D = gathered_gradient(of z) | table of D | of x = gather_back(D)
    Pushes     out = combine(table)  of own rows, of rows read = push(of out) | table of sums | of x
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, NamedTuple, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from gnnpipe.nn.blocks.edges import Edges
from gnnpipe.nn.dropout import Dropout
from gnnpipe.nn.features import FeatureRows, SparseRows
from gnnpipe.nn.layer import Given, Layer
from gnnpipe.ops.mix import Mix

InputRows = Literal["features", "relu", "any"]
"""Origin of a layer's input rows. Nobody wants the gradient of features; a ReLU lets none through where its
output is 0; any other rows want theirs as it is."""


def grad_of(weight: nn.Parameter) -> Tensor:
    """The tensor in which the gradient of a weight adds up; zeros if nothing was added yet."""
    if weight.grad is None:
        weight.grad = torch.zeros_like(weight)
    return weight.grad


class WeightProduct(NamedTuple):
    """A product still to be added to the gradient of a weight: ``gradient += scale * left^T @ right``.

    It is computed once the gradient of the input rows has left for the stage before, which waits for that;
    nobody waits for the weight's. A named tuple is made in a fifth of a frozen dataclass's time, and a small
    chunk makes several in each layer.
    """

    gradient: Tensor
    """Gradient of the weight, ``[in, out]``."""
    left: FeatureRows
    """Rows that the weight was multiplied with, ``[n, in]``."""
    right: Tensor
    """Gradient of the product's rows, ``[n, out]``."""
    scale: float

    def add(self) -> None:
        """Compute the product and add it."""
        if isinstance(self.left, SparseRows):
            self.gradient.add_(self.left.transpose_times(self.right), alpha=self.scale)
        else:
            # rows of a table may be bf16
            left = self.left if self.left.dtype == self.right.dtype else self.left.to(self.right.dtype)
            self.gradient.addmm_(left.t(), self.right, alpha=self.scale)


def at_hand(module: nn.Module) -> None:
    """Put a module's weights and inner modules where Python finds attributes at once.

    PyTorch looks each of them up by a function, two dozen times for a chunk in a layer: as long as three
    operations on small chunks take to start. A weight that is assigned anew takes its place."""
    vars(module).update(module._parameters)
    vars(module).update(module._modules)


@dataclass
class Saved:
    """Saved activations of some rows in one layer, from forward to backward. Each runner adds fields of its
    own, which its methods set and delete."""

    drop: Dropout
    """Dropout of these rows."""
    products: list[WeightProduct]
    """List to which `owe` adds."""

    def owe(self, weight: nn.Parameter, left: FeatureRows, right: Tensor, scale: float = 1.0) -> None:
        """Note that ``scale * left^T @ right`` is still to be added to a weight's gradient."""
        self.products.append(WeightProduct(grad_of(weight), left, right, scale))


@dataclass
class SavedInput(Saved):
    """Saved activations of a runner that multiplies the dropped input rows with weights."""

    dropped: FeatureRows = field(init=False)
    """The dropped input rows."""

    def back(self, gradient: Tensor) -> None:
        """Differentiate dropout and the ReLU in front of it, in place. For sparse rows, which are features,
        there is nothing to do: nobody wants their gradient."""
        if isinstance(self.dropped, Tensor):
            self.drop.back(gradient, self.dropped, gradient)


@dataclass(frozen=True)
class Kept:
    """Sizes of the rows that a runner keeps of a chunk, in floats a row; for the memory estimate."""

    saved: int
    """Saved activations from forward to backward, without the rows of the table."""
    dropped: int = 0
    """Part of ``saved``: input rows after dropout; sparse ones are counted with the features."""
    forgotten: int = 0
    """Part of ``saved``: rows that a `Recomputes` drops and makes again."""
    carried: int = 0
    """Rows that `Layer.message` hands over to `Layer.update`, in evaluation."""
    gradient: Literal["no", "products", "chunk"] = "chunk"
    """How long the gradient of the output rows is kept: only while the layer itself is differentiated, until
    the products of weights are computed, or until the chunk has left the stage."""
    owed: int = 0
    """Rows that products of weights hold on top of that gradient and of ``saved``."""
    owed_of_tables: int = 0
    """The same if tables are bf16: their rows as floats."""
    held: int = 0
    """Other rows that are made on the way back and kept until the chunk has left the stage."""


L = TypeVar("L", bound=Layer)
S = TypeVar("S", bound=Saved)


class Runner(ABC, Generic[L, S]):
    """Runs a layer in training.

    A written-out layer that ends in a ReLU does not keep its output to see where the ReLU was 0. The layer
    behind keeps rows that show it anyway and masks the gradient, see `Dropout.back`:

        # layer n       out = ReLU(...)       no mask of its own <--- gradient is 0 where out is
        # layer n + 1   dropped = drop(out)   masks by dropped > 0 ---^

    Initial rows are the exception: layers that read them don't drop them, and mask nothing.
    """

    saved: type[S]
    """Class of its saved activations."""
    only_drops = False
    """Whether `forward_message` only drops its input rows, by `Dropout.into`: that writes to a table of any
    number format."""
    prepares = False
    """Whether `prepare` does anything."""

    def __init__(self, layer: L) -> None:
        self.layer = layer

    def make_room(self) -> None:
        """Make room for the gradients of weights, once an epoch."""
        for weight in self.layer.parameters():
            grad_of(weight)

    def prepare(self) -> None:
        """Compute what depends on the weights alone, which stay as they are for the whole epoch. Results go
        into the same memory every time, which a recorded CUDA graph reads."""

    def mix(self, h0: Given) -> Mix | None:
        """Rows that aggregated ones are mixed with before `forward_update`; None for no mix.

        Args:
            h0: initial rows ``[n, hidden]``; None if the model has none.
        """
        return None

    @abstractmethod
    def forward_message(self, saved: S, h: Given, x: Given) -> None:
        """Run `Layer.message`.

        Args:
            saved: new saved activations; the dropout may still hold its random bytes.
            h: input rows ``[n, in_features]``.
            x: ``[n, width]``, to write the rows to aggregate to: these rows of the layer's table, where they
                stand until the next epoch. float32, which the caller converts for other tables, unless the
                runner `only_drops`. None for a layer that aggregates nothing.
        """

    @abstractmethod
    def forward_update(self, saved: S, z: Given, h0: Given, out: Tensor) -> None:
        """Run `Layer.update` and write the output rows to ``out``; ``z`` may be overwritten, ``h0`` not.

        Rows that `mix` mixes in are part of ``z`` already.
        """

    @abstractmethod
    def backward_update(self, saved: S, gradient: Tensor, z_gradient: Given, h0_gradient: Given) -> None:
        """Differentiate `Layer.update`; gradients of weights add up.

        Args:
            saved: saved activations as `forward_update` left them.
            gradient: gradient of the output rows. Where the layer's ReLU was 0 it is 0 already, unless the
                output rows are the initial rows. It may be overwritten.
            z_gradient: tensor to write the gradient of the aggregated rows to; None if nobody wants it.
            h0_gradient: tensor to add the gradient of the initial rows to; None if the model has none.
        """

    @abstractmethod
    def backward_message(self, saved: S, x_gradient: Given, h_gradient: Given) -> None:
        """Differentiate `Layer.message`; gradients of weights add up.

        Args:
            saved: saved activations as `backward_update` left them.
            x_gradient: gradient of the rows to aggregate; None where none was wanted. It may be overwritten.
            h_gradient: tensor to write the gradient of the input rows to, None for features. If a ReLU made
                those, the gradient must be 0 where they are 0.
        """

    @property
    def returns_gradient(self) -> bool:
        """Whether the aggregated rows want a gradient: all do but features as they are."""
        return self.layer.width is not None

    @property
    @abstractmethod
    def kept(self) -> Kept:
        """Sizes of what is kept."""


AnyRunner: TypeAlias = Runner[Any, Any]


class WrittenOut(Runner[L, S]):
    """A runner whose derivative is written out by hand."""

    def make_room(self) -> None:
        super().make_room()
        for module in self.layer.modules():
            at_hand(module)

    @classmethod
    @abstractmethod
    def of(cls, layer: Layer, rows: InputRows) -> AnyRunner | None:
        """The runner of a layer, if this is its derivative for input rows of that origin; else None.

        A subclass of the layer gets None too, as it may compute something else.
        """


class Recomputes(ABC, Generic[S]):
    """A runner that can drop saved activations and make them again without aggregating again.

    # forward_message | aggregate | forward_update | forget | ... | recall | backward_update | ...
    """

    @abstractmethod
    def forget(self, saved: S) -> None:
        """Drop, after `Runner.forward_update`, the saved activations that `recall` makes again."""

    @abstractmethod
    def recall(self, saved: S, h: Given, out: Tensor | None) -> None:
        """Make them again, before `Runner.backward_update`.

        Args:
            saved: saved activations as `forget` left them.
            h: input rows ``[n, in_features]``.
            out: tensor to write the output rows to once more, the same bit for bit; None if nobody needs
                them.
        """


class Reverts(ABC, Generic[S]):
    """A runner whose input rows follow from its output rows, and whose message is the same function of both.

    # forward   h   --forward_message--> x | z = A x | --forward_update--> out; activations are not kept
    # back      out --forward_message--> x | z = A x | --revert----------> h, and saved activations
    """

    @abstractmethod
    def revert(self, saved: S, z: Tensor, h: Tensor) -> None:
        """Make the input rows from the output rows, with saved activations as `Runner.forward_update` does.

        Args:
            saved: saved activations as `Runner.forward_message` left them, which was given the output rows.
            z: aggregated rows ``[n, width]``; may be overwritten.
            h: tensor to write the input rows to, ``[n, in_features]``.
        """


class Gathers(ABC, Generic[S]):
    """A runner whose aggregation is not linear, and whose gradient is pulled from rows of the readers.

    With attention a source needs of each reader the gradient G of its aggregate, but also what its softmax
    has divided by, so that rows of the gradient table have more columns than G:

        # weighed by the rules about staleness | newest as they are
        #            G    <G, z>               |  logsumexp   a_dst
    """

    aggregated: int
    """Columns of the aggregated rows z."""
    gradient_width: int
    """Columns of the rows of the gradient table."""
    weighed: int
    """Number of its first columns that are linear in the gradient."""
    numbers_per_edge: float
    """Numbers held for each edge of a tile while it works; for the memory estimate."""

    @abstractmethod
    def gather(self, saved: S, edges: Edges, table: Tensor) -> Tensor:
        """Aggregate.

        Args:
            saved: saved activations; what the way back needs is added.
            edges: edges into the rows of a tile.
            table: rows ``x`` that they read, float32 or bf16 ``[num_table_rows, width]``.

        Returns:
            float32 ``[n, aggregated]``.
        """

    @abstractmethod
    def gathered_gradient(
        self, saved: S, edges: Edges, table: Tensor, z_gradient: Tensor, rows: Tensor
    ) -> None:
        """Write the rows of the gradient table; gradients of weights add up.

        Args:
            saved: saved activations as `gather` and `Runner.backward_update` left them.
            edges: as for `gather`.
            table: as for `gather`; rows of other chunks may be newer now.
            z_gradient: gradient of the aggregated rows, ``[n, aggregated]``. It may be overwritten.
            rows: float32 ``[n, gradient_width]``, to write to.
        """

    @abstractmethod
    def gather_back(self, saved: S, edges: Edges, gradients: Tensor, x: Tensor) -> Tensor:
        """The gradient of the tile's own rows ``x``, ``[n, width]``, from the rows of its readers.

        Args:
            saved: saved activations as `gathered_gradient` left them.
            edges: entries of A^T: row i lists the readers of row i.
            gradients: rows of the gradient table, ``[num_table_rows, gradient_width]``.
            x: the tile's own rows of the forward table, ``[n, width]``.
        """


class Pushes(ABC, Generic[S]):
    """A runner of any layer, which makes the gradients of all rows that a tile reads at once."""

    @abstractmethod
    def combine(self, saved: S, edges: Edges, table: Tensor, out: Tensor) -> None:
        """Write the output rows of a tile to ``out``, ``[n, out_features]``.

        Args:
            saved: saved activations.
            edges: edges into the tile's rows.
            table: rows ``x`` that they read, ``[num_table_rows, width]``.
            out: float32 ``[n, out_features]``, to write to.
        """

    @abstractmethod
    def push(
        self, saved: S, edges: Edges, table: Tensor, gradient: Tensor
    ) -> tuple[Tensor | None, Tensor | None]:
        """Compute the rows again and differentiate them; gradients of weights add up.

        Args:
            saved: saved activations as `combine` left them.
            edges: as for `combine`.
            table: as for `combine`; rows of other chunks may be newer now.
            gradient: gradient of the output rows, ``[n, out_features]``.

        Returns:
            the gradients of the tile's own rows ``x``, ``[n, width]``, and of the rows that it refers to,
            ``[num_referenced, width]`` in the order of ``edges.block.referenced``; None for no gradient.
        """
