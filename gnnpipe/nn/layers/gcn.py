"""The graph convolution of Kipf and Welling."""

from __future__ import annotations

import torch
from torch import Tensor

from gnnpipe.nn.features import FeatureRows, project
from gnnpipe.nn.layer import Convolution, Drop, RowsPass, WayBack, glorot


class GcnLayer(Convolution):
    """``h' = act(A dropout(h) W + b)`` with ``A = D^-1/2 (A + I) D^-1/2`` (arXiv 1609.02907).

    Shapes: ``[n, in_features] -> [n, out_features]``.

    Args: as `Convolution`; ``generator`` draws the weights.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        generator: torch.Generator,
        *,
        sparse_input: bool = False,
        relu: bool = True,
    ) -> None:
        super().__init__(in_features, out_features, sparse_input=sparse_input, relu=relu)
        self.weight = glorot(in_features, out_features, generator)

    def message(self, h: FeatureRows, drop: Drop) -> tuple[Tensor, None]:
        """Dropped rows, multiplied if that makes them narrower."""
        rows = drop(h)
        if self.transform_first:
            return project(rows, self.weight), None
        assert isinstance(rows, Tensor)
        return rows, None

    def update(self, z: Tensor | None, carry: Tensor | None, h0: Tensor | None) -> Tensor:
        """Product (if still to come), bias and activation."""
        assert z is not None
        out = z + self.bias if self.transform_first else torch.addmm(self.bias, z, self.weight)
        return self.activated(out)

    def forward_message(self, rows: RowsPass, h: FeatureRows) -> None:
        """See `Layer.forward_message`."""
        assert rows.x is not None
        if self.transform_first:
            dropped = rows.drop(h)
            project(dropped, self.weight, out=rows.x)
            rows.kept = (dropped,)
        else:
            assert isinstance(h, Tensor)
            rows.drop.into(h, rows.x)

    def forward_update(self, rows: RowsPass, z: Tensor | None, h0: Tensor | None, out: Tensor) -> None:
        """See `Layer.forward_update`."""
        assert z is not None
        if self.transform_first:
            torch.add(z, self.bias, out=out)
        else:
            torch.addmm(self.bias, z, self.weight, out=out)
        if self.relu:
            out.relu_()
        if not self.transform_first:
            rows.kept = (z,)

    def backward_update(
        self, rows: RowsPass, gradient: Tensor, z_gradient: Tensor | None, h0_gradient: Tensor | None
    ) -> None:
        """See `Layer.backward_update`."""
        self.bias_backward(gradient)
        if not self.transform_first:
            rows.owe(self.weight, rows.kept[0], gradient)
        if z_gradient is not None:
            if self.transform_first:
                z_gradient.copy_(gradient)
            else:
                torch.mm(gradient, self.weight.t(), out=z_gradient)

    def backward_message(self, rows: RowsPass, x_gradient: Tensor | None, h_gradient: Tensor | None) -> None:
        """See `Layer.backward_message`."""
        if x_gradient is None:
            return
        if self.transform_first:
            rows.owe(self.weight, rows.kept[0], x_gradient)
        if h_gradient is not None:
            if self.transform_first:
                torch.mm(x_gradient, self.weight.t(), out=h_gradient)
                rows.drop.back(h_gradient, rows.kept[0], h_gradient)
            else:
                assert rows.x is not None
                rows.drop.back(x_gradient, rows.x, h_gradient)

    def way_back(self) -> WayBack:
        """See `Layer.way_back`: one product with the gradient of the rows or of the message."""
        return WayBack("no", owed=self.out_features) if self.transform_first else WayBack("products")

    def saved_columns(self) -> int:
        """Dropped rows or the aggregate."""
        return self.dropped_columns() if self.transform_first else self.in_features
