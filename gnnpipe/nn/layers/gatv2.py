"""The graph attention network of Brody et al., whose attention depends on both ends at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gnnpipe.nn.edges import Edges
from gnnpipe.nn.features import FeatureRows, project
from gnnpipe.nn.layer import Drop, Layer, glorot
from gnnpipe.nn.layers.attention import (
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
        logits, attention = table.new_empty(edges.matrix.num_entries, self.heads), per_head(self.att)
        for piece in pieces(edges.matrix):
            sources = table.index_select(0, edges.matrix.col[piece.entries])
            inputs = self.inputs(sources, r[piece.rows], edges, piece)
            torch.mm(F.leaky_relu_(inputs, self.negative_slope), attention, out=logits[piece.entries])
        softmax = Softmax.of(logits.view(-1).index_select(0, heads.order), heads)
        z = heads.pull(softmax.weights, table, self.head_width).div_(softmax.total)
        return z.reshape(-1, self.columns), softmax.logsumexp

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


@dataclass(frozen=True)
class _EdgeRows:
    """What both ends of some edges compute of them on the way back."""

    alpha: Tensor
    """``[entries, heads]``."""
    of_logits: Tensor
    """Gradient of the logits, ``[entries, heads]``."""
    of_inputs: Tensor
    """Gradient of the LeakyReLU's inputs, ``[entries, columns]``."""
    rectified: Tensor
    """Outputs of the LeakyReLU, ``[entries, columns]``."""


class Gatv2Runner(AttentionRunner[Gatv2Layer]):
    """Runs `Gatv2Layer`. Rows of the gradient table are ``[G, c | logsumexp, r]``.

    With ``v_ij`` the LeakyReLU's input, ``l'_ij`` its derivative, and of each edge and head the gradient of
    the logit ``e_ij = alpha_ij (<G_i, l_j> - c_i)``:

        l_j: sum_i alpha_ij G_i + e_ij a l'_ij    r_i: sum_j e_ij a l'_ij    a: sum e_ij LeakyReLU(v_ij)
    """

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

    def _edge_rows(self, inputs: Tensor, products: Tensor, c: Tensor, logsumexp: Tensor) -> _EdgeRows:
        """Differentiate some edges.

        Args:
            inputs: of the LeakyReLU, ``[entries, columns]``.
            products: of G and l, one by one, ``[entries, columns]``.
            c: of each entry's reader, ``[entries, heads]``.
            logsumexp: likewise.
        """
        layer = self.layer
        rectified = F.leaky_relu(inputs, layer.negative_slope)
        alpha = softmax_again(rectified @ per_head(layer.att), logsumexp)
        of_logits = (products @ per_head(torch.ones_like(layer.att))).sub_(c).mul_(alpha)
        of_rectified = (of_logits.unsqueeze(2) * layer.att).view_as(inputs)
        of_inputs = torch.ops.aten.leaky_relu_backward(of_rectified, inputs, layer.negative_slope, False)
        return _EdgeRows(alpha, of_logits, of_inputs, rectified)

    def gathered_gradient(
        self, saved: SavedAttention, edges: Edges, table: Tensor, z_gradient: Tensor, rows: Tensor
    ) -> None:
        layer = self.layer
        c = (layer.by_head(z_gradient) * layer.by_head(saved.z)).sum(dim=2)
        saved.own_gradient = torch.empty_like(z_gradient)
        for piece in pieces(edges.matrix):
            sources = table.index_select(0, edges.matrix.col[piece.entries])
            products = z_gradient[piece.rows].index_select(0, piece.target).mul_(sources)
            inputs = layer.inputs(sources, saved.own[piece.rows], edges, piece)
            ends = (number[piece.rows].index_select(0, piece.target) for number in (c, saved.logsumexp))
            found = self._edge_rows(inputs, products, *ends)
            saved.own_gradient[piece.rows] = piece.sum(found.of_inputs)
            by_head = layer.by_head(found.rectified)
            grad_of(layer.att).add_(torch.einsum("ehc,eh->hc", by_head, found.of_logits))
            if layer.weight_edge is not None:
                features = layer.features_of(edges)[piece.entries]
                grad_of(layer.weight_edge).addmm_(features.t(), found.of_inputs)
        parts = [z_gradient, c, saved.logsumexp, saved.own]
        used = sum(part.shape[1] for part in parts)
        torch.cat(parts, dim=1, out=rows[:, :used])
        rows[:, used:] = 0.0
        del saved.z, saved.logsumexp, saved.own

    def gather_back(self, saved: SavedAttention, edges: Edges, gradients: Tensor, x: Tensor) -> Tensor:
        layer = self.layer
        x_gradient = torch.empty_like(x)
        sizes = [layer.columns, layer.heads, layer.heads, layer.columns]
        for piece in pieces(edges.matrix):
            readers = gradients.index_select(0, edges.matrix.col[piece.entries])
            upper, c, logsumexp, r = readers[:, : sum(sizes)].split(sizes, dim=1)
            own = x[piece.rows]
            products = own.index_select(0, piece.target).mul_(upper)
            found = self._edge_rows(layer.inputs(r.contiguous(), own, edges, piece), products, c, logsumexp)
            weighted = upper.reshape(-1, *layer.att.shape) * found.alpha.unsqueeze(2)
            x_gradient[piece.rows] = piece.sum(found.of_inputs.add_(weighted.view_as(products)))
        return x_gradient

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
