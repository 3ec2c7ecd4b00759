"""Layers of any kind: the rows of a block from the rows that they refer to, differentiated by autograd."""

from __future__ import annotations

from torch import Tensor

from gnnpipe.nn.blocks.edges import BlockEdges, Edges
from gnnpipe.nn.layer import Drop, Given, Layer


class BlockLayer(Layer):
    """A layer that need not be linear in its input: ``x = prepare(h)``, ``out = combine(x of referenced rows,
    x of own rows, edges)``.

    `combine` is all that an author has to write. It may be any differentiable function, whose output rows
    depend on the own row and on the edges into it alone. It runs without autograd on the way forward, and
    once more, with autograd, on the way back: nothing is saved in between. Gradients of the rows that were
    read are *pushed* to their owners, see `gnnpipe.engine.layers.push`.

        class EdgeMax(BlockLayer):
            def combine(self, referenced: Tensor, own: Tensor, edges: BlockEdges) -> Tensor:
                source, target = edges.edge_index
                rows = self.mlp(torch.cat([referenced[source], own[target]], dim=1))
                return own + rows.new_zeros(own.shape).index_reduce_(0, target, rows, "amax")
    """

    is_linear = False
    reads_edges = True
    cost_kind = "push"
    width: int
    """Columns of ``x``: of the input, unless `prepare` changes that."""
    draws: bool = False
    """Whether `combine` draws random numbers of PyTorch's generator. It then is seeded for each layer, epoch
    and tile, so that both runs draw the same; the numbers depend on how the graph is cut."""

    def prepare(self, h: Tensor, drop: Drop) -> Tensor:
        """The rows ``[n, width]`` that neighbours read, row by row; by default the dropped input rows.

        Where it is overridden, the input rows are saved for the way back.
        """
        return drop(h)

    def combine(self, referenced: Tensor, own: Tensor, edges: BlockEdges) -> Tensor:
        """Compute the output rows of a block.

        Args:
            referenced: prepared rows ``[num_referenced, width]`` that the edges come from.
            own: prepared rows of the block itself, ``[n, width]``.
            edges: the edges into the block; ``edge_index[0]`` are positions in ``referenced``.

        Returns:
            the output rows ``[n, out_features]``.
        """
        raise NotImplementedError

    def message(self, h: Given, drop: Drop) -> tuple[Tensor, None]:
        """`prepare`; nothing is handed over."""
        return self.prepare(h, drop), None

    def aggregate(self, edges: Edges, table: Tensor, carry: Given) -> Tensor:
        """`combine` on the rows of a table."""
        block = edges.block
        referenced = table.index_select(0, block.referenced).float()
        return self.combine(referenced, edges.own(table).float(), block)

    def update(self, z: Tensor, carry: Given, h0: Given) -> Tensor:
        """Nothing: `combine` has made the output rows."""
        return z
