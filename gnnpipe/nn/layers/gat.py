"""The graph attention network of Velickovic et al."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gnnpipe.nn.edges import Edges
from gnnpipe.nn.features import FeatureRows, project
from gnnpipe.nn.layer import Drop, Layer, glorot
from gnnpipe.nn.layers.attention import (
    Attention,
    AttentionRunner,
    SavedAttention,
    Softmax,
    attention_weights,
    per_head,
    pieces,
    softmax_again,
)
from gnnpipe.nn.running import InputRows, Kept, grad_of
from gnnpipe.ops.heads import HeadEdges, padded


class GatLayer(Attention):
    """``z_i = sum_j alpha_ij W d_j``, ``d = dropout(h)`` (arXiv 1710.10903), for each head

        alpha_ij = softmax_j LeakyReLU(s_j + t_i + u_ij)
        s_j = <a_src, W d_j>    t_i = <a_dst, W d_i>    u_ij = <a_edge, W_edge features_ij>

    Shapes: ``[n, in_features] -> [n, heads * head_width]``, or ``[n, head_width]`` without ``concat``.

    Weights are those of torch_geometric's ``GATConv``: ``weight = lin.weight.t()`` and ``weight_edge =
    lin_edge.weight.t()``, which stand column by column here; ``att_*`` have no first dimension of 1.

    Args: as `Attention`.
    """

    cost_kind = "gat"

    def __init__(
        self,
        in_features: int,
        heads: int,
        head_width: int,
        generator: torch.Generator | None = None,
        *,
        edge_dim: int = 0,
        concat: bool = True,
        bias: bool = True,
        negative_slope: float = 0.2,
        sparse_input: bool = False,
        relu: bool = True,
    ) -> None:
        super().__init__(
            in_features, heads, head_width, generator, edge_dim=edge_dim, concat=concat, bias=bias,
            negative_slope=negative_slope, sparse_input=sparse_input, relu=relu,
        )  # fmt: skip
        # rows of the table: W d | s
        self.width: int = padded(self.columns + heads, heads, head_width)
        self.weight = glorot(in_features, self.columns, generator)
        self.att_src = attention_weights(heads, head_width, generator)
        self.att_dst = attention_weights(heads, head_width, generator)
        self.weight_edge: nn.Parameter | None = None
        self.att_edge: nn.Parameter | None = None
        if edge_dim:
            self.weight_edge = glorot(edge_dim, self.columns, generator)
            self.att_edge = attention_weights(heads, head_width, generator)

    def message(self, h: FeatureRows, drop: Drop) -> tuple[Tensor, Tensor]:
        """Drop, multiply, and make both ends' parts of the logits: rows ``[W d | s]``, and t."""
        rows = project(drop(h), self.weight)
        s = rows @ per_head(self.att_src)
        x = F.pad(torch.cat([rows, s], dim=1), (0, self.width - self.columns - self.heads))
        return x, rows @ per_head(self.att_dst)

    def aggregate(self, edges: Edges, table: Tensor, carry: Tensor) -> Tensor:
        """The weighted sums."""
        heads = HeadEdges.of(edges.matrix, self.heads)
        softmax = self.attend(heads, edges, table, carry)
        return self.weighted(heads, softmax, table)

    def attend(self, heads: HeadEdges, edges: Edges, table: Tensor, t: Tensor) -> Softmax:
        """The softmax of the edges into some rows."""
        logits = self.inputs(heads, edges, table, t)
        return Softmax.of(F.leaky_relu_(logits, self.negative_slope), heads)

    def weighted(self, heads: HeadEdges, softmax: Softmax, table: Tensor) -> Tensor:
        """The weighted sums of the sources' rows, ``[n, columns]``."""
        z = heads.pull(softmax.weights, table, self.head_width)
        return z.div_(softmax.total).reshape(-1, self.columns)

    def inputs(self, heads: HeadEdges, edges: Edges, table: Tensor, t: Tensor) -> Tensor:
        """Inputs of the LeakyReLU by entry: ``s_j + t_i + u_ij``."""
        s = table[:, self.columns : self.columns + self.heads].index_select(0, heads.referenced)
        return self.with_edges(heads.gather(s).add_(heads.spread(t)), heads, edges)

    def with_edges(self, inputs: Tensor, heads: HeadEdges, edges: Edges) -> Tensor:
        """Add ``u_ij`` to numbers by entry, in place, if the layer reads features of edges."""
        if self.weight_edge is None or self.att_edge is None:
            return inputs
        factors = self.weight_edge @ per_head(self.att_edge)
        u = factors.t() @ self.features_of(edges).t()
        return inputs.add_(u.view(-1).index_select(0, heads.order))


class GatRunner(AttentionRunner[GatLayer]):
    """Runs `GatLayer`. Rows of the gradient table are ``[G, c | logsumexp, t]``.

    With ``l'`` the LeakyReLU's derivative at ``s_j + t_i + u_ij`` and ``w_ij = alpha_ij l'_ij``, heads apart:

        x_j: sum_i alpha_ij G_i + s's gradient * a_src + t's gradient * a_dst
        s_j: <x_j, sum_i w_ij G_i> - sum_i w_ij c_i
        t_i: <G_i, sum_j w_ij x_j> - c_i sum_j w_ij

    so that no edge makes a product of rows: all are sums of rows with weights. Features of edges need them:

        u_ij: w_ij (<G_i, x_j> - c_i)
    """

    @classmethod
    def of(cls, layer: Layer, rows: InputRows) -> GatRunner | None:
        return cls(layer, rows) if type(layer) is GatLayer else None

    def padded_gradient(self) -> int:
        layer = self.layer
        return padded(layer.columns + 3 * layer.heads, layer.heads, layer.head_width)

    def forward_message(self, saved: SavedAttention, h: FeatureRows, x: Tensor) -> None:
        layer = self.layer
        saved.dropped = saved.drop(h)
        rows = project(saved.dropped, layer.weight, out=x[:, : layer.columns])
        s, t = (self._ends() @ rows.t()).split(layer.heads)  # four times as fast as rows @ ends
        saved.own = t.t().contiguous()
        tail = x[:, layer.columns :]
        tail[:, : layer.heads] = s.t()
        tail[:, layer.heads :] = 0.0

    def _ends(self) -> Tensor:
        """``[2 * heads, columns]``: the matrix that makes s and t of ``W d``."""
        return torch.cat([per_head(self.layer.att_src), per_head(self.layer.att_dst)], dim=1).t()

    def gather(self, saved: SavedAttention, edges: Edges, table: Tensor) -> Tensor:
        heads = HeadEdges.of(edges.matrix, self.layer.heads)
        softmax = self.layer.attend(heads, edges, table, saved.own)
        saved.logsumexp = softmax.logsumexp
        saved.z = self.layer.weighted(heads, softmax, table)
        return saved.z

    def gathered_gradient(
        self, saved: SavedAttention, edges: Edges, table: Tensor, z_gradient: Tensor, rows: Tensor
    ) -> None:
        layer = self.layer
        heads = HeadEdges.of(edges.matrix, layer.heads)
        inputs = layer.inputs(heads, edges, table, saved.own)
        weights = self._weights(inputs, heads.spread(saved.logsumexp))[1]
        by_head = layer.by_head(z_gradient)
        c = (by_head * layer.by_head(saved.z)).sum(dim=2)
        if layer.weight_edge is None:
            pulled = heads.pull(weights, table, layer.head_width)
            t_gradient = (by_head * pulled).sum(dim=2) - c * heads.sum(weights)
        else:
            products = self._products(edges, table, z_gradient)
            t_gradient = heads.sum(self._edge_gradients(heads, edges, products, c, weights))
        own = layer.by_head(edges.own(table)[:, : layer.columns])
        grad_of(layer.att_dst).add_((own * t_gradient.unsqueeze(2)).sum(dim=0))
        tail = torch.cat([c, saved.logsumexp, saved.own], dim=1)
        rows[:, : layer.columns] = z_gradient
        rows[:, layer.columns : layer.columns + tail.shape[1]] = tail
        rows[:, layer.columns + tail.shape[1] :] = 0.0
        saved.own_gradient = t_gradient
        del saved.z, saved.logsumexp, saved.own

    def _weights(self, inputs: Tensor, logsumexp: Tensor) -> tuple[Tensor, Tensor]:
        """``alpha`` and ``w`` by entry."""
        slope = self.layer.negative_slope
        alpha = softmax_again(F.leaky_relu(inputs, slope), logsumexp)
        return alpha, torch.ops.aten.leaky_relu_backward(alpha, inputs, slope, False)

    def _edge_gradients(
        self, heads: HeadEdges, edges: Edges, products: Tensor, c: Tensor, weights: Tensor
    ) -> Tensor:
        """Gradients of the LeakyReLU's inputs by entry; adds those of the weights that make ``u``.

        Args:
            heads: the edges, head by head.
            edges: the edges.
            products: ``<G_i, x_j>``, ``[heads, num_entries]``.
            c: of each row.
            weights: ``w_ij`` by entry.
        """
        gradient = products.view(-1).index_select(0, heads.order).sub_(heads.spread(c)).mul_(weights)
        by_edge = torch.empty_like(products)
        by_edge.view(-1)[heads.order] = gradient
        weight, attention = self.layer.weight_edge, self.layer.att_edge
        if weight is not None and attention is not None:
            folded = (self.layer.features_of(edges).t() @ by_edge.t()).unsqueeze(
                2
            )  # of weight_edge times a_edge
            grad_of(weight).view(-1, *attention.shape).add_(folded * attention)
            grad_of(attention).add_((folded * weight.view(-1, *attention.shape)).sum(dim=0))
        return gradient

    def _products(self, edges: Edges, table: Tensor, z_gradient: Tensor) -> Tensor:
        """``<G_i, x_j>`` of each head and edge, ``[heads, num_entries]``."""
        layer = self.layer
        rows, found = table[:, : layer.columns], z_gradient.new_empty(layer.heads, edges.matrix.num_entries)
        for piece in pieces(edges.matrix):
            sources = rows.index_select(0, edges.matrix.col[piece.entries])
            products = sources.mul_(z_gradient[piece.rows].index_select(0, piece.target))
            found[:, piece.entries] = layer.by_head(products).sum(dim=2).t()
        return found

    def gather_back(self, saved: SavedAttention, edges: Edges, gradients: Tensor, x: Tensor) -> Tensor:
        layer, columns = self.layer, self.layer.columns
        heads = HeadEdges.of(edges.matrix, layer.heads)
        tail = gradients[:, columns : columns + 3 * layer.heads].index_select(0, heads.referenced)
        c, logsumexp, t = tail.split(layer.heads, dim=1)
        inputs = heads.spread(x[:, columns : columns + layer.heads]).add_(heads.gather(t))
        alpha, weights = self._weights(layer.with_edges(inputs, heads, edges), heads.gather(logsumexp))
        x_gradient = x.new_zeros(x.shape)
        pulled = heads.pull(alpha, gradients, layer.head_width)
        x_gradient[:, :columns] = pulled.reshape(-1, columns)
        pulled = heads.pull(weights, gradients, layer.head_width)
        own = layer.by_head(x[:, :columns])
        s_gradient = (pulled * own).sum(dim=2) - heads.weighted_sum(weights, c)
        grad_of(layer.att_src).add_((own * s_gradient.unsqueeze(2)).sum(dim=0))
        x_gradient[:, columns : columns + layer.heads] = s_gradient
        return x_gradient

    def backward_message(self, saved: SavedAttention, x_gradient: Tensor, h_gradient: Tensor | None) -> None:
        layer = self.layer
        ends = torch.cat([x_gradient[:, layer.columns : layer.columns + layer.heads], saved.own_gradient], 1)
        gradient = torch.addmm(x_gradient[:, : layer.columns], ends, self._ends())
        saved.owe(layer.weight, saved.dropped, gradient)
        if h_gradient is not None:
            torch.mm(gradient, layer.weight.t(), out=h_gradient)
            self.back_through_dropout(saved, h_gradient)

    @property
    def kept(self) -> Kept:
        """Dropped rows, aggregate, logsumexp and t; the product holds the gradient of ``W d``."""
        layer = self.layer
        return Kept(
            self.dropped_columns + layer.columns + 2 * layer.heads,
            dropped=self.dropped_columns,
            carried=layer.heads,
            gradient="no",
            owed=layer.columns,
            held=layer.heads,
        )
