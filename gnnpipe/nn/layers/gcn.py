"""The graph convolution of Kipf and Welling."""

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


class GcnLayer(Convolution):
    """``h' = act(norm(A x W + b + skip(x)))``, ``x = dropout(h)``, ``A = D^-1/2 (A + I) D^-1/2``.

    arXiv 1609.02907; norm and skip are extras.

    Shapes: ``[n, in_features] -> [n, out_features]``.

    Args: as `Convolution`.
    """

    cost_kind, normalization = "gcn", "gcn"
    drawn = ("weight",)
    weight: nn.Parameter

    def message(self, h: FeatureRows, drop: Drop) -> tuple[FeatureRows, Tensor | None]:
        """Drop, and multiply if that comes first; hand over the residual."""
        rows = drop(h)
        return project(rows, self.weight) if self.transform_first else rows, self.skipped(rows)

    def update(self, z: Tensor, carry: Tensor | None, h0: object) -> Tensor:
        """Multiply if that comes last, add the bias, and finish."""
        out = z + self.bias if self.transform_first else torch.addmm(self.bias, z, self.weight)
        return self.finished(out, carry)


class GcnTransformFirst(TransformFirst[GcnLayer, SavedProduct]):
    """``A (x W) + b`` with ``x = dropout(h)``.

    With G the gradient of these rows, and ``P = A^T G``, which the engine pulls:

        b: column sums of G     W: x^T P     x: P W^T
    """

    saved = SavedProduct

    @classmethod
    def of(cls, layer: Layer, rows: InputRows) -> GcnTransformFirst | None:
        if type(layer) is GcnLayer and layer.transform_first and rows != "any":
            return cls(layer)
        return None

    def forward_message(self, saved: SavedProduct, h: FeatureRows, x: Tensor) -> None:
        saved.dropped = saved.drop(h)
        project(saved.dropped, self.layer.weight, out=x)

    def forward_update(self, saved: SavedProduct, z: Tensor, h0: object, out: Tensor) -> None:
        before = self.room(out)
        torch.add(z, self.layer.bias, out=before)
        self.finish(saved, before, saved.dropped, out)

    def backward_update(
        self, saved: SavedProduct, gradient: Tensor, z_gradient: Tensor, h0_gradient: object
    ) -> None:
        gradient = self.unfinish(saved, gradient, saved.dropped)
        add_bias_gradient(self.layer, gradient)
        z_gradient.copy_(gradient)

    def backward_message(self, saved: SavedProduct, x_gradient: Tensor, h_gradient: Tensor | None) -> None:
        weight = self.layer.weight
        saved.owe(weight, saved.dropped, x_gradient)
        if h_gradient is not None:
            torch.mm(x_gradient, weight.t(), out=h_gradient)
            self.add_skip_gradient(saved, h_gradient)
            saved.back(h_gradient)

    @property
    def kept(self) -> Kept:
        """The dropped rows; the product holds the gradient of the message."""
        columns = self.dropped_columns
        kept = Kept(columns, dropped=columns, gradient="no", owed=self.layer.out_features)
        return self.with_extras(kept)


class GcnAggregateFirst(AggregateFirst[GcnLayer, SavedAggregate]):
    """``z W + b`` with ``z = A x`` and ``x = dropout(h)``.

    With G the gradient of these rows:

        b: column sums of G     W: z^T G     z: G W^T     x: A^T (G W^T), which the engine pulls
    """

    saved = SavedAggregate

    @classmethod
    def of(cls, layer: Layer, rows: InputRows) -> GcnAggregateFirst | None:
        if type(layer) is GcnLayer and not layer.transform_first and rows != "any":
            return cls(layer, rows)
        return None

    def forward_update(self, saved: SavedAggregate, z: Tensor, h0: object, out: Tensor) -> None:
        before = self.room(out)
        torch.addmm(self.layer.bias, z, self.layer.weight, out=before)
        self.finish(saved, before, saved.dropped, out)
        saved.z = z

    def backward_update(
        self, saved: SavedAggregate, gradient: Tensor, z_gradient: Tensor | None, h0_gradient: object
    ) -> None:
        gradient = self.unfinish(saved, gradient, saved.dropped)
        add_bias_gradient(self.layer, gradient)
        weight = self.layer.weight
        saved.owe(weight, saved.z, gradient)
        if z_gradient is not None:
            torch.mm(gradient, weight.t(), out=z_gradient)

    def backward_message(
        self, saved: SavedAggregate, x_gradient: Tensor | None, h_gradient: Tensor | None
    ) -> None:
        if x_gradient is not None and h_gradient is not None:
            self.add_skip_gradient(saved, x_gradient)
            saved.drop.back(x_gradient, saved.dropped, h_gradient)

    @property
    def kept(self) -> Kept:
        """The aggregate; the product holds the gradient of the output rows."""
        return self.with_extras(Kept(self.layer.in_features, gradient="products"))
