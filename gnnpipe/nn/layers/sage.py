"""GraphSAGE with the mean aggregator."""

from __future__ import annotations

import torch
from torch import Tensor

from gnnpipe.nn.features import FeatureRows, project
from gnnpipe.nn.layer import Convolution, Drop, RowsPass, WayBack, glorot


class SageLayer(Convolution):
    """``h' = act(x W_self + mean(x of neighbours) W_neighbour + b)``, ``x = dropout(h)`` (arXiv 1706.02216).

    Shapes: ``[n, in_features] -> [n, out_features]``. A node without neighbours gets a mean of 0.

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
        self.weight_self = glorot(in_features, out_features, generator)
        self.weight_neighbour = glorot(in_features, out_features, generator)

    def message(self, h: FeatureRows, drop: Drop) -> tuple[Tensor, Tensor]:
        """Rows for the neighbours, and the node's own term."""
        rows = drop(h)
        own = project(rows, self.weight_self)
        if self.transform_first:
            return project(rows, self.weight_neighbour), own
        assert isinstance(rows, Tensor)
        return rows, own

    def update(self, z: Tensor | None, carry: Tensor | None, h0: Tensor | None) -> Tensor:
        """Sum of the two terms, bias and activation."""
        assert z is not None
        assert carry is not None
        neighbours = z if self.transform_first else z @ self.weight_neighbour
        out = carry + neighbours + self.bias
        return self.activated(out)

    def forward_message(self, rows: RowsPass, h: FeatureRows) -> None:
        """See `Layer.forward_message`."""
        assert rows.x is not None
        if self.transform_first:
            dropped = rows.drop(h)
            project(dropped, self.weight_neighbour, out=rows.x)
            rows.kept = (dropped,)
        else:
            assert isinstance(h, Tensor)
            rows.drop.into(h, rows.x)

    def forward_update(self, rows: RowsPass, z: Tensor | None, h0: Tensor | None, out: Tensor) -> None:
        """See `Layer.forward_update`."""
        assert z is not None
        project(self._dropped(rows), self.weight_self, out=out)
        if self.transform_first:
            out.add_(z)
        else:
            out.addmm_(z, self.weight_neighbour)
        out.add_(self.bias)
        if self.relu:
            out.relu_()
        if not self.transform_first:
            rows.kept = (z,)

    def backward_update(
        self, rows: RowsPass, gradient: Tensor, z_gradient: Tensor | None, h0_gradient: Tensor | None
    ) -> None:
        """See `Layer.backward_update`."""
        self.bias_backward(gradient)
        rows.owe(self.weight_self, self._dropped(rows), gradient)
        if not self.transform_first:
            rows.owe(self.weight_neighbour, rows.kept[0], gradient)
        if z_gradient is not None:
            if self.transform_first:
                z_gradient.copy_(gradient)
            else:
                torch.mm(gradient, self.weight_neighbour.t(), out=z_gradient)
        rows.kept = (*rows.kept, gradient)

    def backward_message(self, rows: RowsPass, x_gradient: Tensor | None, h_gradient: Tensor | None) -> None:
        """See `Layer.backward_message`."""
        dropped, gradient = self._dropped(rows), rows.kept[-1]
        if x_gradient is not None and self.transform_first:
            rows.owe(self.weight_neighbour, dropped, x_gradient)
        if h_gradient is not None:
            assert x_gradient is not None
            torch.mm(gradient, self.weight_self.t(), out=h_gradient)
            if self.transform_first:
                h_gradient.addmm_(x_gradient, self.weight_neighbour.t())
            else:
                h_gradient.add_(x_gradient)
            assert isinstance(dropped, Tensor)
            rows.drop.back(h_gradient, dropped, h_gradient)

    def _dropped(self, rows: RowsPass) -> FeatureRows:
        """They stand in the table, unless products of theirs do."""
        if self.transform_first:
            dropped: FeatureRows = rows.kept[0]
            return dropped
        assert rows.x is not None
        return rows.x.float()

    def way_back(self) -> WayBack:
        """See `Layer.way_back`: two products, one of them with the table's rows or the message's gradient."""
        if self.transform_first:
            return WayBack("chunk", owed=self.out_features)
        return WayBack("chunk", owed_of_tables=self.in_features)

    def carried_columns(self) -> int:
        """The node's own term."""
        return self.out_features

    def saved_columns(self) -> int:
        """Dropped rows or the aggregate."""
        return self.dropped_columns() if self.transform_first else self.in_features
