"""The edges into consecutive rows of a table, as layers that are not linear in their input read them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from gnnpipe.graph.csr import Csr


@dataclass(frozen=True)
class BlockEdges:
    """Edges from the rows that a block refers to, to the rows of the block; sorted by target.

    # block of table rows 4 5; edges 7 -> 4, 2 -> 5, 7 -> 5
    # referenced     2 7
    # edge_index     [[1 0 1],     positions in `referenced`
    #                 [0 1 1]]     rows of the block
    """

    referenced: Tensor
    """int64 ``[num_referenced]``: rows of the table that are read, ascending, each once."""
    edge_index: Tensor
    """int64 ``[2, num_edges]``: source, as a position in ``referenced``; target, as a row of the block."""
    rowptr: Tensor
    """int64 ``[num_targets + 1]``: row i of the block owns edges ``rowptr[i]:rowptr[i + 1]``."""
    weight: Tensor
    """float32 ``[num_edges]``: values of the model's adjacency: weights of edges, or 1."""
    attr: Tensor | None
    """float32 ``[num_edges, edge_dim]``; None if edges have no features."""
    type: Tensor | None
    """int64 ``[num_edges]``; None if edges have no types."""
    start: int
    """Row of the table that row 0 of the block is."""

    @property
    def num_targets(self) -> int:
        """Rows of the block."""
        return self.rowptr.numel() - 1

    @cached_property
    def joint(self) -> Joint:
        """The same edges with each row of the block numbered once, whether it is read or not."""
        own = self.referenced - self.start
        is_own = (own >= 0) & (own < self.num_targets)
        others = (~is_own).nonzero().view(-1)
        position = own.clone()
        position[others] = torch.arange(others.numel(), device=own.device) + self.num_targets
        source, target = self.edge_index
        return Joint(others, torch.stack([position[source], target]))


@dataclass(frozen=True)
class Joint:
    """The edges into a block as a graph of its own: rows of the block first, then other rows it refers to.

    # block of table rows 4 5; edges 7 -> 4, 4 -> 5, 7 -> 5
    # referenced     4 7          others  1       the rows of this graph are 4 5 7
    # edge_index     [[2 0 2],
    #                 [0 1 1]]
    """

    others: Tensor
    """int64 ``[num_others]``: positions in ``referenced`` of rows that are not of the block."""
    edge_index: Tensor
    """int64 ``[2, num_edges]``: source and target as rows of this graph, in the block's order."""


@dataclass(frozen=True)
class Edges:
    """The edges into consecutive rows of a table; one object serves all layers of a stage."""

    matrix: Csr
    """``[num_rows, num_table_rows]``: rows of A, or of A^T on the way back."""
    start: int
    """Row of the table that the first of these rows is."""
    attr: Tensor | None = None
    """float32 ``[num_entries, edge_dim]``, in the order of the entries; None if edges have no features."""
    type: Tensor | None = None
    """int64 ``[num_entries]``; None if edges have no types."""

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return self.matrix.num_rows

    def rows(self, start: int, stop: int) -> Edges:
        """The edges into rows ``[start, stop)`` of these; nothing is copied but row pointers."""
        first, last = int(self.matrix.rowptr[start]), int(self.matrix.rowptr[stop])
        return Edges(
            self.matrix.rows(start, stop),
            self.start + start,
            None if self.attr is None else self.attr[first:last],
            None if self.type is None else self.type[first:last],
        )

    def own(self, table: Tensor) -> Tensor:
        """These rows of a table."""
        return table[self.start : self.start + self.num_rows]

    @cached_property
    def target(self) -> Tensor:
        """int64 ``[num_entries]``: the row of each entry, counted from the first of these rows."""
        sizes = self.matrix.rowptr.to(torch.int64).diff()
        return torch.repeat_interleave(torch.arange(self.num_rows, device=sizes.device), sizes)

    @cached_property
    def block(self) -> BlockEdges:
        """The same edges with sources numbered among the rows that are read; made once."""
        referenced, source = torch.unique(self.matrix.col.to(torch.int64), return_inverse=True)
        return BlockEdges(
            referenced,
            torch.stack([source, self.target]),
            self.matrix.rowptr.to(torch.int64),
            self.matrix.value,
            self.attr,
            self.type,
            self.start,
        )
