"""Jumping knowledge: the rows of all convolutions, joined, as a second stream beside the hidden rows."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from gnnpipe.errors import ConfigError, shown
from gnnpipe.nn.blocks.edges import Edges
from gnnpipe.nn.layer import Drop, Given, Layer

Join = Literal["sum", "max", "cat"]


class Jump(Layer):
    """A convolution that joins its output rows with those of the convolutions in front (arXiv 1806.03536).

    Hidden rows h and joined rows j travel side by side; the last one passes j on alone:

        # first     h        -> [h' | j']      j' = h'
        # others    [h | j]  -> [h' | j']      j' = j + h', max(j, h') or [j | h']
        # last      [h | j]  -> j'

    Args:
        conv: the convolution.
        join: how rows are joined.
        index: number of convolutions in front that are joined.
        last: whether no convolution follows.

    Raises:
        ConfigError: rows can't be joined that way.
    """

    def __init__(self, conv: Layer, join: Join, index: int, *, last: bool) -> None:
        super().__init__()
        if join not in get_args(Join):
            raise ConfigError(
                f"Jump: rows can't be joined by '{shown(join)}'; use one of {', '.join(get_args(Join))}"
            )
        self.conv, self.join, self.last = conv, join, last
        self.joined = 0 if not index else conv.out_features * (index if join == "cat" else 1)
        """Columns of the joined rows that come in."""
        self.in_features = conv.in_features + self.joined
        self.out_joined = self.joined + conv.out_features if join == "cat" else conv.out_features
        self.out_features = self.out_joined + (0 if last else conv.out_features)
        self.width, self.relu = conv.width, conv.relu
        self.normalization, self.reads_edges = conv.normalization, conv.reads_edges
        self.sparse_input = conv.sparse_input and not self.joined
        self.cost_kind = conv.cost_kind
        self.is_linear, self.fp32_tables, self.drop_rate = conv.is_linear, conv.fp32_tables, conv.drop_rate

    def split(self, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        """Hidden rows and joined rows that come in; None in front of the first convolution."""
        if not self.joined:
            return rows, None
        return rows[:, : self.conv.in_features].contiguous(), rows[:, self.conv.in_features :]

    def message(self, h: Given, drop: Drop) -> tuple[Given, Given]:
        """The convolution's; the joined rows are handed over too."""
        hidden, joined = self.split(h)
        x, carry = self.conv.message(hidden, drop)
        return x, (carry, joined)

    def aggregate(self, edges: Edges, table: Tensor, carry: Given) -> Tensor:
        """The convolution's."""
        return self.conv.aggregate(edges, table, carry[0])

    def update(self, z: Given, carry: Given, h0: Given) -> Tensor:
        """The convolution's, and the join."""
        out = self.conv.update(z, carry[0], h0)
        return self.with_joined(out, self.joined_with(carry[1], out))

    def joined_with(self, joined: Tensor | None, out: Tensor) -> Tensor:
        """The joined rows with those of this convolution."""
        if joined is None:
            return out
        if self.join == "cat":
            return torch.cat([joined, out], dim=1)
        return joined + out if self.join == "sum" else torch.maximum(joined, out)

    def with_joined(self, out: Tensor, joined: Tensor) -> Tensor:
        """The rows that are passed on."""
        return joined if self.last else torch.cat([out, joined], dim=1)
