"""GraphSAGE with the maximum of the neighbours."""

from __future__ import annotations

import torch
from torch import Tensor

from gnnpipe.nn.blocks.block import BlockLayer
from gnnpipe.nn.blocks.edges import BlockEdges
from gnnpipe.nn.layer import glorot, zeros
from gnnpipe.nn.layers.wrappers.extras import PLAIN, Extras, ExtrasLayer


class SageMaxLayer(ExtrasLayer, BlockLayer):
    """``h' = act(norm(x W_self + max(x of neighbours) W_neighbour + b))``, ``x = dropout(h)``.

    arXiv 1706.02216, without its pooling MLP. The maximum is taken column by column; where several neighbours
    have it, they share its gradient. A node without neighbours gets a maximum of 0. Weights of edges are not
    read. Shapes: ``[n, in_features] -> [n, out_features]``.

    Args:
        in_features: columns of the input rows.
        out_features: columns of the output rows.
        generator: draws the weights.
        extras: norm and residual; it has a linear one of its own.
    """

    relu = True

    def __init__(
        self,
        in_features: int,
        out_features: int,
        generator: torch.Generator | None = None,
        extras: Extras = PLAIN,
    ) -> None:
        super().__init__()
        self.in_features = self.width = in_features
        self.out_features = out_features
        self.weight_self = glorot(in_features, out_features, generator)
        self.weight_neighbour = glorot(in_features, out_features, generator)
        self.bias = zeros(out_features)
        self.add_extras(extras, generator)

    def combine(self, referenced: Tensor, own: Tensor, edges: BlockEdges) -> Tensor:
        """Take the maxima, multiply, and finish."""
        source, target = edges.edge_index
        index = target.unsqueeze(1).expand(-1, self.width)
        none = own.new_zeros(own.shape)
        highest = none.scatter_reduce(0, index, referenced[source], "amax", include_self=False)
        out = torch.addmm(self.bias, own, self.weight_self) + highest @ self.weight_neighbour
        return self.finished(out, self.skipped(own))
