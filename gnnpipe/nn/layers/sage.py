"""GraphSAGE with the mean aggregator."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gnnpipe.nn.features import FeatureRows, project
from gnnpipe.nn.layer import Drop, Layer
from gnnpipe.nn.layers.convolution import (
    AggregateFirst,
    Convolution,
    SavedAggregate,
    SavedProduct,
    TransformFirst,
    add_bias_gradient,
)
from gnnpipe.nn.running import InputRows, Kept


class SageLayer(Convolution):
    """``h' = act(norm(x W_self + mean(x of neighbours) W_neighbour + b))``, ``x = dropout(h)``.

    arXiv 1706.02216. It has a linear residual of its own, ``x W_self``; an identity may be added to it.
    Shapes: ``[n, in_features] -> [n, out_features]``. A node without neighbours gets a mean of 0.

    Args: as `Convolution`.
    """

    cost_kind, normalization = "sage", "mean"
    drawn = ("weight_self", "weight_neighbour")
    weight_self: nn.Parameter
    weight_neighbour: nn.Parameter

    def message(self, h: FeatureRows, drop: Drop) -> tuple[FeatureRows, Tensor]:
        """Drop, and multiply rows for the neighbours if that comes first; hand over the node's own term."""
        rows = drop(h)
        own = project(rows, self.weight_self)
        skip = self.skipped(rows)
        own = own if skip is None else own + skip
        return project(rows, self.weight_neighbour) if self.transform_first else rows, own

    def update(self, z: Tensor, carry: Tensor, h0: object) -> Tensor:
        """Add both terms and the bias, and finish."""
        neighbours = z if self.transform_first else z @ self.weight_neighbour
        return self.finished(carry + neighbours + self.bias, None)


class SageTransformFirst(TransformFirst[SageLayer, SavedProduct]):
    """``x W_self + A (x W_neighbour) + b``.

    With G the gradient of these rows, and ``P = A^T G``, which the engine pulls:

        b: column sums of G     W_self: x^T G     W_neighbour: x^T P
        x: G W_self^T + P W_neighbour^T
    """

    saved = SavedProduct

    @classmethod
    def of(cls, layer: Layer, rows: InputRows) -> SageTransformFirst | None:
        if type(layer) is SageLayer and layer.transform_first and rows != "any":
            return cls(layer)
        return None

    def forward_message(self, saved: SavedProduct, h: FeatureRows, x: Tensor) -> None:
        saved.dropped = saved.drop(h)
        project(saved.dropped, self.layer.weight_neighbour, out=x)

    def forward_update(self, saved: SavedProduct, z: Tensor, h0: object, out: Tensor) -> None:
        before = self.room(out)
        project(saved.dropped, self.layer.weight_self, out=before).add_(z).add_(self.layer.bias)
        self.finish(saved, before, saved.dropped, out)

    def backward_update(
        self, saved: SavedProduct, gradient: Tensor, z_gradient: Tensor, h0_gradient: object
    ) -> None:
        gradient = self.unfinish(saved, gradient, saved.dropped)
        add_bias_gradient(self.layer, gradient)
        saved.owe(self.layer.weight_self, saved.dropped, gradient)
        z_gradient.copy_(gradient)
        saved.gradient = gradient

    def backward_message(self, saved: SavedProduct, x_gradient: Tensor, h_gradient: Tensor | None) -> None:
        saved.owe(self.layer.weight_neighbour, saved.dropped, x_gradient)
        if h_gradient is not None:
            torch.mm(saved.gradient, self.layer.weight_self.t(), out=h_gradient)
            h_gradient.addmm_(x_gradient, self.layer.weight_neighbour.t())
            self.add_skip_gradient(saved, h_gradient)
            saved.back(h_gradient)

    @property
    def kept(self) -> Kept:
        """The dropped rows; of the two products one also holds the gradient of the message."""
        columns, out = self.dropped_columns, self.layer.out_features
        return self.with_extras(Kept(columns, dropped=columns, carried=out, owed=out))


class SageAggregateFirst(AggregateFirst[SageLayer, SavedAggregate]):
    """``x W_self + z W_neighbour + b`` with ``z = A x``.

    With G the gradient of these rows:

        b: column sums of G     W_self: x^T G     W_neighbour: z^T G     z: G W_neighbour^T
        x: G W_self^T + A^T (G W_neighbour^T), which the engine pulls
    """

    saved = SavedAggregate

    @classmethod
    def of(cls, layer: Layer, rows: InputRows) -> SageAggregateFirst | None:
        if type(layer) is SageLayer and not layer.transform_first and rows != "any":
            return cls(layer, rows)
        return None

    def forward_update(self, saved: SavedAggregate, z: Tensor, h0: object, out: Tensor) -> None:
        before = self.room(out)
        torch.mm(saved.dropped.float(), self.layer.weight_self, out=before)
        before.addmm_(z, self.layer.weight_neighbour).add_(self.layer.bias)
        self.finish(saved, before, saved.dropped, out)
        saved.z = z

    def backward_update(
        self, saved: SavedAggregate, gradient: Tensor, z_gradient: Tensor | None, h0_gradient: object
    ) -> None:
        gradient = self.unfinish(saved, gradient, saved.dropped)
        add_bias_gradient(self.layer, gradient)
        weight = self.layer.weight_neighbour
        saved.owe(self.layer.weight_self, saved.dropped.float(), gradient)
        saved.owe(weight, saved.z, gradient)
        if z_gradient is not None:
            torch.mm(gradient, weight.t(), out=z_gradient)
        saved.gradient = gradient

    def backward_message(
        self, saved: SavedAggregate, x_gradient: Tensor | None, h_gradient: Tensor | None
    ) -> None:
        if x_gradient is not None and h_gradient is not None:
            torch.mm(saved.gradient, self.layer.weight_self.t(), out=h_gradient)
            h_gradient.add_(x_gradient)
            self.add_skip_gradient(saved, h_gradient)
            saved.drop.back(h_gradient, saved.dropped, h_gradient)

    @property
    def kept(self) -> Kept:
        """The aggregate; of the two products one holds the table's rows, as floats."""
        columns = self.layer.in_features
        return self.with_extras(Kept(columns, carried=self.layer.out_features, owed_of_tables=columns))
