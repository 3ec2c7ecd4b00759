"""A layer as its author writes it: a message, an aggregation that the engine does, and an update."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias, overload

import torch
from torch import Tensor, nn

from gnnpipe import ops
from gnnpipe.graph.prepare.normalize import Normalization
from gnnpipe.nn.blocks.edges import Edges
from gnnpipe.nn.features import SparseRows

Given: TypeAlias = Any
"""A ``Tensor``, or None where a layer or a model has no such rows. Each class knows which of the two it gets,
and says so in the signatures of its own methods, as layers do for ``nn.Module.forward``."""


class Drop(Protocol):
    """Dropout of a layer for certain nodes; the identity in evaluation."""

    @overload
    def __call__(self, rows: Tensor, /) -> Tensor: ...

    @overload
    def __call__(self, rows: SparseRows, /) -> SparseRows: ...


class Layer(nn.Module):
    """A layer: ``x, carry = message(h)``, ``z = A @ x``, ``update(z, carry, h0)``.

    `message` and `update`, with the sizes below, are all that the author of a layer writes whose aggregation
    is linear. Others override `aggregate`: see `gnnpipe.nn.blocks.block` for the general way. Both work row
    by row and are pure functions of their arguments and the weights. Inference runs them as they are;
    training runs them through a `Runner`, see `gnnpipe.nn.running`.

        class Gin(Layer):
            def __init__(self, in_features: int, out_features: int) -> None:
                super().__init__()
                self.in_features = self.width = in_features
                self.out_features = out_features
                self.first = nn.Linear(in_features, out_features)
                self.second = nn.Linear(out_features, out_features)

            def message(self, h: Tensor, drop: Drop) -> tuple[Tensor, Tensor]:
                rows = drop(h)
                return rows, rows

            def update(self, z: Tensor, carry: Tensor, h0: object) -> Tensor:
                return self.second(F.relu(self.first(carry + z)))
    """

    in_features: int
    """Columns of the input."""
    out_features: int
    """Columns of the output."""
    width: int | None = None
    """Columns of ``x``, the rows that are aggregated; None for a layer that aggregates nothing."""
    is_linear: bool = True
    """Whether the aggregated rows are ``A @ x``; `aggregate` is overridden otherwise."""
    cost_kind: str = "dense"
    """Kind of layer by which its cost is predicted; ``gnnpipe profile`` measures those of the models."""
    normalization: Normalization | None = None
    """Normalisation of the adjacency that it multiplies with, or whose entries it reads as weights; None if
    any will do. All layers of a model share one."""
    reads_edges: bool = False
    """Whether it reads features or types of edges, if there are any."""
    sparse_input: bool = False
    """Whether the input rows may be `SparseRows`."""
    fp32_tables: bool = False
    """Whether its tables stay fp32 under ``--tables bf16``."""
    drop_rate: float | None = None
    """Probability that an entry of the input rows is dropped; None for the run's."""
    relu: bool = False
    """Whether the output rows come straight out of a ReLU. Saying so is optional; it allows the layer behind
    to use a written-out derivative."""

    def message(self, h: Given, drop: Drop) -> tuple[Given, Given]:
        """Compute the rows that neighbours aggregate.

        Args:
            h: input rows ``[n, in_features]``; features may be `SparseRows`.
            drop: dropout of this layer for these nodes.

        Returns:
            rows to aggregate, ``[n, width]``, and rows to hand over to `update`; either may be None.
        """
        raise NotImplementedError

    def aggregate(self, edges: Edges, table: Tensor, carry: Given) -> Tensor:
        """Compute the aggregated rows in evaluation; by default the linear aggregation ``A @ x``.

        Args:
            edges: edges into some consecutive rows.
            table: rows ``x`` that they read, ``[num_table_rows, width]``.
            carry: rows that `message` handed over for these rows.
        """
        return ops.of(table.device).pull(edges.matrix, table)

    def update(self, z: Given, carry: Given, h0: Given) -> Tensor:
        """Compute the output rows ``[n, out_features]``.

        Args:
            z: aggregated rows ``[n, width]``, or None if the layer aggregates nothing.
            carry: rows that `message` handed over.
            h0: the initial rows ``[n, hidden]`` of models that have them, or None.
        """
        raise NotImplementedError


def glorot(in_features: int, out_features: int, generator: torch.Generator | None = None) -> nn.Parameter:
    """A weight ``[in_features, out_features]`` drawn uniformly as Glorot and Bengio (2010) say, by default
    with PyTorch's own generator.

    It is stored column by column, and so is its gradient: products with few outputs, such as those that make
    logits, take half to an eighth of the time, others no longer.
    """
    bound = (6.0 / (in_features + out_features)) ** 0.5
    weight = torch.empty(in_features, out_features).uniform_(-bound, bound, generator=generator)
    return nn.Parameter(weight.t().contiguous().t())


def zeros(num_features: int) -> nn.Parameter:
    """A bias ``[num_features]``."""
    return nn.Parameter(torch.zeros(num_features))
