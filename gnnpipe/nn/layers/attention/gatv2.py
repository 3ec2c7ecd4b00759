"""The graph attention network of Brody et al., whose attention depends on both ends at once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gnnpipe.nn.blocks.edges import Edges
from gnnpipe.nn.features import FeatureRows, project
from gnnpipe.nn.layer import Drop, Layer, glorot
from gnnpipe.nn.layers.attention.attending import (
    Attention,
    AttentionRunner,
    Piece,
    SavedAttention,
    Softmax,
    attention_weights,
    per_head,
    pieces,
    softmax_again,
)
from gnnpipe.nn.running import InputRows, Kept, grad_of
from gnnpipe.ops.heads import HeadEdges, padded


class Gatv2Layer(Attention):
    """``z_i = sum_j alpha_ij l_j`` (arXiv 2105.14491), for each head, with ``d = dropout(h)``

        l_j = W_source d_j + b_source    r_i = W_target d_i + b_target
        alpha_ij = softmax_j <a, LeakyReLU(l_j + r_i + W_edge features_ij)>

    Shapes: ``[n, in_features] -> [n, heads * head_width]``, or ``[n, head_width]`` without ``concat``.

    Weights are those of torch_geometric's ``GATv2Conv``: ``weight_source = lin_l.weight.t()``,
    ``weight_target = lin_r.weight.t()`` and so on, which stand column by column here; ``att`` has no first
    dimension of 1.

    Args: as `Attention`, and
        share_weights: whether ``r_i = l_i``.
    """

    cost_kind = "gatv2"

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
        share_weights: bool = False,
    ) -> None:
        super().__init__(
            in_features, heads, head_width, generator, edge_dim=edge_dim, concat=concat, bias=bias,
            negative_slope=negative_slope, sparse_input=sparse_input, relu=relu,
        )  # fmt: skip
        self.width = self.columns
        self.share_weights = share_weights
        self.weight_source = glorot(in_features, self.columns, generator)
        self.weight_target: nn.Parameter | None = None
        self.bias_source: nn.Parameter | None = None
        self.bias_target: nn.Parameter | None = None
        if bias:
            self.bias_source = _uniform(self.columns, in_features, generator)
        if not share_weights:
            self.weight_target = glorot(in_features, self.columns, generator)
            self.bias_target = _uniform(self.columns, in_features, generator) if bias else None
        self.att = attention_weights(heads, head_width, generator)
        self.weight_edge = glorot(edge_dim, self.columns, generator) if edge_dim else None

    def message(self, h: FeatureRows, drop: Drop) -> tuple[Tensor, Tensor]:
        """Drop, and multiply for both ends: ``l`` and ``r``."""
        rows = drop(h)
        source = _plus(project(rows, self.weight_source), self.bias_source)
        if self.weight_target is None:
            return source, source
        return source, _plus(project(rows, self.weight_target), self.bias_target)

    def aggregate(self, edges: Edges, table: Tensor, carry: Tensor) -> Tensor:
        """The weighted sums."""
        return self.attend(edges, table, carry)[0]

    def attend(self, edges: Edges, table: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
        """The weighted sums ``[n, columns]``, and the logsumexp ``[n, heads]``."""
        heads = HeadEdges.of(edges.matrix, self.heads)
        logits = table.new_empty(self.heads, edges.matrix.num_entries)
        for piece in pieces(edges.matrix):
            sources = table.index_select(0, edges.matrix.col[piece.entries])
            logits[:, piece.entries] = self.logits(self.inputs(sources, r[piece.rows], edges, piece))
        softmax = Softmax.of(logits.view(-1).index_select(0, heads.order), heads)
        z = softmax.mean(heads.pull(softmax.weights, table, self.head_width))
        return z, softmax.logsumexp

    def logits(self, inputs: Tensor) -> Tensor:
        """``[heads, entries]`` from ``[entries, columns]``: so the product takes a quarter of the time that
        it takes the other way round."""
        return per_head(self.att).t() @ F.leaky_relu(inputs, self.negative_slope).t()

    def inputs(self, far: Tensor, near: Tensor, edges: Edges, piece: Piece) -> Tensor:
        """Inputs of the LeakyReLU, ``[entries, columns]``.

        Args:
            far: for each entry of a piece, the row of its far end; it is overwritten.
            near: rows of the piece.
            edges: the edges.
            piece: some of them.
        """
        inputs = far.add_(near.index_select(0, piece.target))
        if self.weight_edge is None:
            return inputs
        return inputs.addmm_(self.features_of(edges)[piece.entries], self.weight_edge)


def _uniform(columns: int, in_features: int, generator: torch.Generator | None) -> nn.Parameter:
    """A bias as torch_geometric draws it for linear layers."""
    bound = in_features**-0.5
    return nn.Parameter(torch.empty(columns).uniform_(-bound, bound, generator=generator))


def _plus(rows: Tensor, bias: Tensor | None) -> Tensor:
    return rows if bias is None else rows + bias


class Gatv2Runner(AttentionRunner[Gatv2Layer, SavedAttention]):
    """Runs `Gatv2Layer`. Rows of the gradient table are ``[G, c | logsumexp, r]``.

    With ``v_ij`` the LeakyReLU's input, ``l'_ij`` its derivative, and ``e_ij = alpha_ij (<G_i, l_j> - c_i)``
    the gradient of the logit of an edge and head:

        l_j: sum_i alpha_ij G_i + a sum_i e_ij l'_ij    r_i: a sum_j e_ij l'_ij    a: sum e_ij l'_ij v_ij
    """

    saved = SavedAttention

    @classmethod
    def of(cls, layer: Layer, rows: InputRows) -> Gatv2Runner | None:
        return cls(layer, rows) if type(layer) is Gatv2Layer else None

    def padded_gradient(self) -> int:
        layer = self.layer
        return padded(2 * layer.columns + 2 * layer.heads, layer.heads, layer.head_width)

    def forward_message(self, saved: SavedAttention, h: FeatureRows, x: Tensor) -> None:
        layer = self.layer
        saved.dropped = saved.drop(h)
        project(saved.dropped, layer.weight_source, out=x)
        if layer.bias_source is not None:
            x.add_(layer.bias_source)
        saved.own = x
        if layer.weight_target is not None:
            saved.own = _plus(project(saved.dropped, layer.weight_target), layer.bias_target)

    def gather(self, saved: SavedAttention, edges: Edges, table: Tensor) -> Tensor:
        saved.z, saved.logsumexp = self.layer.attend(edges, table, saved.own)
        return saved.z

    def _edge_rows(
        self, inputs: Tensor, products: Tensor, c: Tensor, logsumexp: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Differentiate some edges.

        Args:
            inputs: of the LeakyReLU, ``[entries, columns]``.
            products: of G and l, one by one, ``[entries, columns]``.
            c: of each entry's reader, ``[entries, heads]``.
            logsumexp: likewise.

        Returns:
            alpha ``[heads, entries]``, and ``e l'``, ``[entries, columns]``.
        """
        layer = self.layer
        alpha = softmax_again(layer.logits(inputs), logsumexp.t())
        of_logits = layer.by_head(products).sum(dim=2).sub_(c).mul_(alpha.t()).unsqueeze(2)
        by_head = layer.by_head(inputs)
        sloped = torch.ops.aten.leaky_relu_backward(
            of_logits.expand_as(by_head), by_head, layer.negative_slope, False
        )
        return alpha, sloped.view_as(inputs)

    def gathered_gradient(
        self, saved: SavedAttention, edges: Edges, table: Tensor, z_gradient: Tensor, rows: Tensor
    ) -> None:
        layer, attention = self.layer, self.layer.att.view(-1)
        c = (layer.by_head(z_gradient) * layer.by_head(saved.z)).sum(dim=2)
        saved.own_gradient = torch.empty_like(z_gradient)
        for piece in pieces(edges.matrix):
            sources = table.index_select(0, edges.matrix.col[piece.entries])
            products = z_gradient[piece.rows].index_select(0, piece.target).mul_(sources)
            inputs = layer.inputs(sources, saved.own[piece.rows], edges, piece)
            ends = (number[piece.rows].index_select(0, piece.target) for number in (c, saved.logsumexp))
            sloped = self._edge_rows(inputs, products, *ends)[1]
            torch.mul(piece.sum(sloped), attention, out=saved.own_gradient[piece.rows])
            if layer.weight_edge is not None:
                features = layer.features_of(edges)[piece.entries]
                grad_of(layer.weight_edge).add_((features.t() @ sloped).mul_(attention))
            grad_of(layer.att).view(-1).add_(sloped.mul_(inputs).sum(dim=0))
        parts = [z_gradient, c, saved.logsumexp, saved.own]
        used = sum(part.shape[1] for part in parts)
        torch.cat(parts, dim=1, out=rows[:, :used])
        rows[:, used:] = 0.0
        del saved.z, saved.logsumexp, saved.own

    def gather_back(self, saved: SavedAttention, edges: Edges, gradients: Tensor, x: Tensor) -> Tensor:
        layer, attention = self.layer, self.layer.att.view(-1)
        heads = HeadEdges.of(edges.matrix, layer.heads)
        sizes = [layer.columns, layer.heads, layer.heads, layer.columns]
        parts = gradients[:, : sum(sizes)].split(sizes, dim=1)
        x_gradient, alpha = torch.empty_like(x), x.new_empty(layer.heads, edges.matrix.num_entries)
        for piece in pieces(edges.matrix):
            readers, own = edges.matrix.col[piece.entries], x[piece.rows]
            upper, c, logsumexp, r = (part.index_select(0, readers) for part in parts)
            products = upper.mul_(own.index_select(0, piece.target))
            inputs = layer.inputs(r, own, edges, piece)
            alpha[:, piece.entries], sloped = self._edge_rows(inputs, products, c, logsumexp)
            torch.mul(piece.sum(sloped), attention, out=x_gradient[piece.rows])
        weights = alpha.view(-1).index_select(0, heads.order)
        return x_gradient.add_(heads.pull(weights, gradients, layer.head_width))

    def backward_message(self, saved: SavedAttention, x_gradient: Tensor, h_gradient: Tensor | None) -> None:
        layer, own_gradient = self.layer, saved.own_gradient
        ends = [(layer.weight_source, layer.bias_source, x_gradient)]
        if layer.weight_target is None:
            x_gradient.add_(own_gradient)
        else:
            ends.append((layer.weight_target, layer.bias_target, own_gradient))
        for weight, bias, gradient in ends:
            saved.owe(weight, saved.dropped, gradient)
            if bias is not None:
                grad_of(bias).add_(gradient.sum(dim=0))
        if h_gradient is not None:
            torch.mm(x_gradient, layer.weight_source.t(), out=h_gradient)
            if layer.weight_target is not None:
                h_gradient.addmm_(own_gradient, layer.weight_target.t())
            self.back_through_dropout(saved, h_gradient)

    @property
    def kept(self) -> Kept:
        """Dropped rows, aggregate, r and logsumexp; products hold the gradients of l and r."""
        layer = self.layer
        own = 0 if layer.share_weights else layer.columns
        return Kept(
            self.dropped_columns + layer.columns + own + layer.heads,
            dropped=self.dropped_columns,
            carried=layer.columns,
            gradient="no",
            owed=layer.columns + own,
            held=layer.columns,
        )
