"""The graph attention network of Velickovic et al."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gnnpipe.nn.blocks.edges import Edges
from gnnpipe.nn.features import FeatureRows, project
from gnnpipe.nn.layer import Drop, Layer, glorot
from gnnpipe.nn.layers.attention.attending import (
    Attention,
    AttentionRunner,
    SavedAttention,
    Softmax,
    add_products,
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
        logits = F.leaky_relu_(self.inputs(heads, edges, table, carry), self.negative_slope)
        softmax = Softmax.of(logits, heads)
        return softmax.mean(heads.pull(softmax.weights, table, self.head_width))

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


@dataclass
class SavedGat(SavedAttention):
    """Also what t's gradient is made of, unless edges have features: sums over edges of ``w_ij x_j``, and of
    ``w_ij``. To make them again on the way back takes a twelfth of an epoch, for a fifth less memory."""

    y: Tensor = field(init=False)
    share: Tensor = field(init=False)


class GatRunner(AttentionRunner[GatLayer, SavedGat]):
    """Runs `GatLayer`. Rows of the gradient table are ``[G, c | logsumexp, t]``.

    With ``l'`` the LeakyReLU's derivative at ``s_j + t_i + u_ij`` and ``w_ij = alpha_ij l'_ij``, heads apart:

        x_j: sum_i alpha_ij G_i + s's gradient * a_src + t's gradient * a_dst
        s_j: <x_j, sum_i w_ij G_i> - sum_i w_ij c_i
        t_i: <G_i, sum_j w_ij x_j> - c_i sum_j w_ij

    so that no edge makes a product of rows: all are sums of rows with weights. Features of edges need them:

        u_ij: w_ij (<G_i, x_j> - c_i)
    """

    saved = SavedGat

    @classmethod
    def of(cls, layer: Layer, rows: InputRows) -> GatRunner | None:
        return cls(layer, rows) if type(layer) is GatLayer else None

    def padded_gradient(self) -> int:
        layer = self.layer
        return padded(layer.columns + 3 * layer.heads, layer.heads, layer.head_width)

    def forward_message(self, saved: SavedGat, h: FeatureRows, x: Tensor) -> None:
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

    def gather(self, saved: SavedGat, edges: Edges, table: Tensor) -> Tensor:
        layer = self.layer
        heads = HeadEdges.of(edges.matrix, layer.heads)
        inputs = layer.inputs(heads, edges, table, saved.own)
        softmax = Softmax.of(F.leaky_relu(inputs, layer.negative_slope), heads)
        saved.logsumexp = softmax.logsumexp
        saved.z = softmax.mean(heads.pull(softmax.weights, table, layer.head_width))
        if layer.weight_edge is None:
            weights = self._sloped(softmax.weights, inputs)
            saved.y = softmax.mean(heads.pull(weights, table, layer.head_width))
            saved.share = softmax.mean(heads.sum(weights))
        return saved.z

    def gathered_gradient(
        self, saved: SavedGat, edges: Edges, table: Tensor, z_gradient: Tensor, rows: Tensor
    ) -> None:
        layer = self.layer
        by_head = layer.by_head(z_gradient)
        c = (by_head * layer.by_head(saved.z)).sum(dim=2)
        if layer.weight_edge is None:
            t_gradient = (by_head * layer.by_head(saved.y)).sum(dim=2) - c * saved.share
            del saved.y, saved.share
        else:
            t_gradient = self._edge_gradients(saved, edges, table, z_gradient, c)
        add_products(grad_of(layer.att_dst), edges.own(table)[:, : layer.columns], t_gradient)
        tail = torch.cat([c, saved.logsumexp, saved.own], dim=1)
        rows[:, : layer.columns] = z_gradient
        rows[:, layer.columns : layer.columns + tail.shape[1]] = tail
        rows[:, layer.columns + tail.shape[1] :] = 0.0
        saved.own_gradient = t_gradient
        del saved.z, saved.logsumexp, saved.own

    def _weights(self, inputs: Tensor, logsumexp: Tensor) -> tuple[Tensor, Tensor]:
        """``alpha`` and ``w`` by entry."""
        alpha = softmax_again(F.leaky_relu(inputs, self.layer.negative_slope), logsumexp)
        return alpha, self._sloped(alpha, inputs)

    def _sloped(self, gradient: Tensor, inputs: Tensor) -> Tensor:
        """Differentiate the LeakyReLU."""
        slope = self.layer.negative_slope
        return torch.ops.aten.leaky_relu_backward(gradient, inputs, slope, False)

    def _edge_gradients(
        self, saved: SavedGat, edges: Edges, table: Tensor, z_gradient: Tensor, c: Tensor
    ) -> Tensor:
        """The gradient of t where edges have features; adds those of the weights that make ``u`` of them.

        Args:
            saved: as for `gathered_gradient`.
            edges: likewise.
            table: likewise.
            z_gradient: likewise.
            c: of each row.
        """
        weight, attention = self.layer.weight_edge, self.layer.att_edge
        if weight is None or attention is None:
            raise ValueError("a layer that reads no features of edges has no gradient of them")
        heads = HeadEdges.of(edges.matrix, self.layer.heads)
        inputs = self.layer.inputs(heads, edges, table, saved.own)
        weights = self._weights(inputs, heads.spread(saved.logsumexp))[1]
        products = self._products(edges, table, z_gradient)
        gradient = products.view(-1).index_select(0, heads.order).sub_(heads.spread(c)).mul_(weights)
        by_edge = torch.empty_like(products)
        by_edge.view(-1)[heads.order] = gradient
        # gradient of weight_edge times a_edge
        folded = (self.layer.features_of(edges).t() @ by_edge.t()).unsqueeze(2)
        grad_of(weight).view(-1, *attention.shape).add_(folded * attention)
        grad_of(attention).add_((folded * weight.view(-1, *attention.shape)).sum(dim=0))
        return heads.sum(gradient)

    def _products(self, edges: Edges, table: Tensor, z_gradient: Tensor) -> Tensor:
        """``<G_i, x_j>`` of each head and edge, ``[heads, num_entries]``."""
        layer = self.layer
        rows, found = table[:, : layer.columns], z_gradient.new_empty(layer.heads, edges.matrix.num_entries)
        for piece in pieces(edges.matrix):
            sources = rows.index_select(0, edges.matrix.col[piece.entries])
            products = sources.mul_(z_gradient[piece.rows].index_select(0, piece.target))
            found[:, piece.entries] = layer.by_head(products).sum(dim=2).t()
        return found

    def gather_back(self, saved: SavedGat, edges: Edges, gradients: Tensor, x: Tensor) -> Tensor:
        layer, columns = self.layer, self.layer.columns
        heads = HeadEdges.of(edges.matrix, layer.heads)
        tail = gradients[:, columns : columns + 3 * layer.heads].index_select(0, heads.referenced)
        c, logsumexp, t = tail.split(layer.heads, dim=1)
        inputs = heads.spread(x[:, columns : columns + layer.heads]).add_(heads.gather(t))
        alpha, weights = self._weights(layer.with_edges(inputs, heads, edges), heads.gather(logsumexp))
        x_gradient = heads.pull(alpha, gradients, layer.head_width, x.shape[1])
        pulled = heads.pull(weights, gradients, layer.head_width)
        products = layer.by_head(pulled.mul_(x[:, :columns])).sum(dim=2)
        s_gradient = products - heads.weighted_sum(weights, c)
        add_products(grad_of(layer.att_src), x[:, :columns], s_gradient)
        x_gradient[:, columns : columns + layer.heads] = s_gradient
        return x_gradient

    def backward_message(self, saved: SavedGat, x_gradient: Tensor, h_gradient: Tensor | None) -> None:
        layer = self.layer
        ends = torch.cat([x_gradient[:, layer.columns : layer.columns + layer.heads], saved.own_gradient], 1)
        gradient = torch.addmm(x_gradient[:, : layer.columns], ends, self._ends())
        saved.owe(layer.weight, saved.dropped, gradient)
        if h_gradient is not None:
            torch.mm(gradient, layer.weight.t(), out=h_gradient)
            self.back_through_dropout(saved, h_gradient)

    @property
    def kept(self) -> Kept:
        """Dropped rows, aggregate, logsumexp and t, and a second aggregate unless edges have features; the
        product holds the gradient of ``W d``."""
        layer = self.layer
        second = 0 if layer.edge_dim else layer.columns + layer.heads
        return Kept(
            self.dropped_columns + layer.columns + 2 * layer.heads + second,
            dropped=self.dropped_columns,
            carried=layer.heads,
            gradient="no",
            owed=layer.columns,
            held=layer.heads,
        )
