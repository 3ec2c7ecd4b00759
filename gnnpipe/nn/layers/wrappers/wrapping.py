"""Running a layer inside another one: what both kinds of wrapper hand on to the inner layer's runner."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from torch import Tensor

from gnnpipe.nn.blocks.edges import Edges
from gnnpipe.nn.running import AnyRunner, Gathers, Saved


@dataclass
class SavedAround(Saved):
    """Saved activations of the inner layer, and the wrapper's beside them."""

    conv: Saved = field(init=False)


S = TypeVar("S", bound=SavedAround)


class GathersInside(Gathers[S]):
    """The part of a wrapper's runner that gathers, where the inner layer's does."""

    def set_inner(self, conv: AnyRunner) -> None:
        """Take the sizes of the inner runner; raises TypeError if it does not gather."""
        if not isinstance(conv, Gathers):
            raise TypeError(f"{type(conv).__name__} does not gather")
        self._gathers = conv
        self.aggregated, self.gradient_width = conv.aggregated, conv.gradient_width
        self.weighed, self.numbers_per_edge = conv.weighed, conv.numbers_per_edge

    def gather(self, saved: S, edges: Edges, table: Tensor) -> Tensor:
        return self._gathers.gather(saved.conv, edges, table)

    def gathered_gradient(
        self, saved: S, edges: Edges, table: Tensor, z_gradient: Tensor, rows: Tensor
    ) -> None:
        self._gathers.gathered_gradient(saved.conv, edges, table, z_gradient, rows)

    def gather_back(self, saved: S, edges: Edges, gradients: Tensor, x: Tensor) -> Tensor:
        return self._gathers.gather_back(saved.conv, edges, gradients, x)
