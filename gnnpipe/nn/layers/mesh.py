"""Message passing by MLPs of edges and of nodes, as in learnt simulators on meshes."""

from __future__ import annotations

import torch
from torch import Tensor

from gnnpipe.config.run import Norm, Residual
from gnnpipe.nn.blocks.block import BlockLayer
from gnnpipe.nn.blocks.edges import BlockEdges
from gnnpipe.nn.layer import Given, glorot
from gnnpipe.nn.layers.mlp import Mlp
from gnnpipe.nn.layers.norm import norm_of


class MeshLayer(BlockLayer):
    """``h' = skip(x_i) + norm(MLP([x_i, sum_j e_ij]))`` with ``e_ij = norm(MLP([x_j, x_i, attr_ij]))``.

    The block of MeshGraphNets (arXiv 2010.03409) and GraphCast, with ``x = dropout(h)``. Each layer reads the
    features of edges as they are given: rows travel through the pipeline, and states of edges do not. Weights
    of edges multiply what is summed. Shapes: ``[n, hidden] -> [n, hidden]``.

    Args:
        hidden: columns of input and output.
        edge_dim: columns of the features of edges; 0 for none.
        generator: draws the weights.
        norm: kind of norm behind both MLPs.
        residual: kind of skip.
    """

    def __init__(
        self,
        hidden: int,
        edge_dim: int,
        generator: torch.Generator | None = None,
        norm: Norm = "layer",
        residual: Residual = "identity",
    ) -> None:
        super().__init__()
        self.width = self.in_features = self.out_features = self.hidden = hidden
        # The first product of the edge MLP is made row by row, by what its three inputs are multiplied with:
        # [x_j, x_i, attr] W = x_j W_source + x_i W_target + attr W_edge
        self.edge = Mlp(hidden, hidden, hidden, generator)
        self.weight_target = glorot(hidden, hidden, generator)
        edge = glorot(edge_dim, hidden, generator) if edge_dim else None
        self.register_parameter("weight_edge", edge)
        self.node = Mlp(2 * hidden, hidden, hidden, generator)
        self.edge_norm, self.node_norm = norm_of(norm, hidden), norm_of(norm, hidden)
        self.identity = residual == "identity"
        self.weight_edge: Given
        self.weight_skip: Given
        linear = glorot(hidden, hidden, generator) if residual == "linear" else None
        self.register_parameter("weight_skip", linear)

    def combine(self, referenced: Tensor, own: Tensor, edges: BlockEdges) -> Tensor:
        """Apply both MLPs and add the residual."""
        source, target = edges.edge_index
        product = (referenced @ self.edge.weight).index_select(0, source)
        product = product + (own @ self.weight_target + self.edge.bias).index_select(0, target)
        if self.weight_edge is not None and edges.attr is not None:
            product = torch.addmm(product, edges.attr, self.weight_edge)
        sent = self.edge.finish(product)
        sent = sent if self.edge_norm is None else self.edge_norm(sent)
        total = own.new_zeros(own.shape).index_add(0, target, sent * edges.weight.unsqueeze(1))
        out = self.node(torch.cat([own, total], dim=1))
        out = out if self.node_norm is None else self.node_norm(out)
        if self.weight_skip is not None:
            return torch.addmm(out, own, self.weight_skip)
        return own + out if self.identity else out
