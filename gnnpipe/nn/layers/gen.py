"""GENConv: softmax aggregation with a learnt temperature, in pre-activation blocks (DeeperGCN)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gnnpipe.config.run import Norm, Residual
from gnnpipe.nn.blocks.block import BlockLayer
from gnnpipe.nn.blocks.edges import BlockEdges
from gnnpipe.nn.layer import Drop, glorot, zeros
from gnnpipe.nn.layers.mlp import Mlp
from gnnpipe.nn.layers.resgcn import PreActivation

# Keeps messages above 0, as in the paper.
EPSILON = 1e-7
# Hidden rows of the MLP over those of the layer.
EXPANSION = 2


class _Gen(PreActivation):
    """Shared by both forms: temperature, scale of the messages, and the MLP behind them.

    Args:
        hidden: columns of input and output.
        generator: draws the weights.
        norm: kind of norm in front, and inside of the MLP.
        residual: kind of skip.
    """

    def __init__(
        self,
        hidden: int,
        generator: torch.Generator | None = None,
        norm: Norm = "layer",
        residual: Residual = "identity",
    ) -> None:
        super().__init__(hidden, generator, norm, residual)
        self.hidden = hidden
        self.temperature = nn.Parameter(torch.ones(1))
        self.scale = nn.Parameter(torch.ones(1))
        self.mlp = Mlp(hidden, EXPANSION * hidden, hidden, generator, norm)

    def combined(self, x: Tensor, aggregated: Tensor, skip: Tensor | None) -> Tensor:
        """``skip + MLP(x + scale |x| aggregated / |aggregated|)`` (message norm)."""
        length = x.norm(dim=1, keepdim=True) * self.scale
        out = self.mlp(x + F.normalize(aggregated, dim=1) * length)
        return out if skip is None else skip + out


class GenLayer(_Gen):
    """``h' = skip(h) + MLP(x + s |x| a / |a|)``, ``a = sum_j softmax_j(t m_j) m_j``, ``m = x + 1e-7``.

    arXiv 2006.07739, with ``x = dropout(ReLU(norm(h)))``; the softmax is column by column over the neighbours
    j, the temperature t and the scale s are learnt. A node without neighbours gets ``a = 0``. Weights of
    edges multiply the softmax's terms.

    The softmax's numerator and denominator are two linear aggregations, of ``exp(t m) m`` and ``exp(t m)``:
    the rows that are aggregated are twice as wide as the layer. They overflow where ``t m`` passes 88, which
    norms keep far away. Shapes: ``[n, hidden] -> [n, hidden]``.

    Args: as `_Gen`.
    """

    cost_kind = "gen"

    def __init__(
        self,
        hidden: int,
        generator: torch.Generator | None = None,
        norm: Norm = "layer",
        residual: Residual = "identity",
    ) -> None:
        super().__init__(hidden, generator, norm, residual)
        self.width = 2 * hidden

    def message(self, h: Tensor, drop: Drop) -> tuple[Tensor, Tensor]:
        """Make numerators and denominators; hand over the rows that they are made of, and the residual."""
        x, skip = drop(self.activated(h)), self.skipped(h)
        m = x + EPSILON
        share = torch.exp(m * self.temperature)
        return torch.cat([share * m, share], dim=1), x if skip is None else torch.cat([x, skip], dim=1)

    def update(self, z: Tensor, carry: Tensor, h0: object) -> Tensor:
        """Divide, apply the MLP and add the residual."""
        total, weight = z.split(self.hidden, dim=1)
        mean = total / torch.where(weight > 0, weight, 1.0)
        skip = carry[:, self.hidden :] if carry.shape[1] > self.hidden else None
        return self.combined(carry[:, : self.hidden], mean, skip)


class GenEdgeLayer(_Gen, BlockLayer):
    """`GenLayer` where edges have features: ``m = ReLU(x_j + e W_edge + b_edge) + 1e-7``.

    Args:
        hidden: columns of input and output.
        edge_dim: columns of the features of edges.
        generator: draws the weights.
        norm: kind of norm in front, and inside of the MLP.
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
        super().__init__(hidden, generator, norm, residual)
        self.weight_edge, self.bias_edge = glorot(edge_dim, hidden, generator), zeros(hidden)
        # the block has its own rows in the table, so the residual stands beside those that neighbours read
        self.width = hidden if residual == "none" else 2 * hidden

    def prepare(self, h: Tensor, drop: Drop) -> Tensor:
        """Normalise, activate and drop; the residual beside them."""
        x, skip = drop(self.activated(h)), self.skipped(h)
        return x if skip is None else torch.cat([x, skip], dim=1)

    def combine(self, referenced: Tensor, own: Tensor, edges: BlockEdges) -> Tensor:
        """Aggregate by softmax, apply the MLP and add the residual."""
        source, target = edges.edge_index
        sent = referenced[:, : self.hidden].index_select(0, source)
        if edges.attr is not None:
            sent = sent + torch.addmm(self.bias_edge, edges.attr, self.weight_edge)
        m = F.relu(sent) + EPSILON
        x, skip = own[:, : self.hidden], own[:, self.hidden :] if self.width > self.hidden else None
        return self.combined(x, self._softmax(m, target, edges, x), skip)

    def _softmax(self, m: Tensor, target: Tensor, edges: BlockEdges, x: Tensor) -> Tensor:
        score, none = m * self.temperature, x.new_zeros(x.shape)
        # the highest score of a row and column is taken off, so that nothing overflows; it cancels
        index = target.unsqueeze(1).expand(-1, self.hidden)
        highest = none.scatter_reduce(0, index, score.detach(), "amax", include_self=False)
        share = torch.exp(score - highest.index_select(0, target)) * edges.weight.unsqueeze(1)
        total = none.index_add(0, target, share * m)
        weight = none.index_add(0, target, share)
        return total / torch.where(weight > 0, weight, 1.0)


def gen_layer(
    hidden: int, edge_dim: int, generator: torch.Generator | None, norm: Norm, residual: Residual
) -> GenLayer | GenEdgeLayer:
    """GENConv of a width; without features of edges (``edge_dim`` 0) in its linear form."""
    if edge_dim:
        return GenEdgeLayer(hidden, edge_dim, generator, norm, residual)
    return GenLayer(hidden, generator, norm, residual)
