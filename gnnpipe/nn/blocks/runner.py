"""Running a `BlockLayer` in training: forward without autograd, and again, with autograd, on the way back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gnnpipe.nn.blocks.block import BlockLayer
from gnnpipe.nn.blocks.edges import Edges
from gnnpipe.nn.layer import Given
from gnnpipe.nn.running import InputRows, Kept, Pushes, Runner, Saved


@dataclass
class SavedBlock(Saved):
    """The rows in the table; the input rows too, where the layer prepares them in its own way."""

    x: Tensor = field(init=False)
    h: Tensor = field(init=False)


class BlockRunner(Runner[BlockLayer, SavedBlock], Pushes[SavedBlock]):
    """Runs any `BlockLayer`.

    Args:
        layer: the layer.
        rows: origin of its input rows.
    """

    saved = SavedBlock

    def __init__(self, layer: BlockLayer, rows: InputRows) -> None:
        super().__init__(layer)
        self._rows = rows
        # dropping alone can be undone from the rows in the table, or from the mask
        self._drops = type(layer).prepare is BlockLayer.prepare
        self.only_drops = self._drops

    @property
    def returns_gradient(self) -> bool:
        """Nobody wants the gradient of features, unless weights have prepared them."""
        return self._rows != "features" or not self._drops

    def forward_message(self, saved: SavedBlock, h: Tensor, x: Tensor) -> None:
        saved.x = x
        if self._drops:
            saved.drop.into(h, x)
        else:
            saved.h = h
            x.copy_(self.layer.prepare(h, saved.drop))

    def combine(self, saved: SavedBlock, edges: Edges, table: Tensor, out: Tensor) -> None:
        with self._seeded(saved, edges):
            out.copy_(self.layer.aggregate(edges, table, None))

    def push(
        self, saved: SavedBlock, edges: Edges, table: Tensor, gradient: Tensor
    ) -> tuple[Tensor | None, Tensor | None]:
        wanted, block = self.returns_gradient, edges.block
        referenced = table.index_select(0, block.referenced).float().requires_grad_(wanted)
        own = edges.own(table).float().detach().requires_grad_(wanted)
        with torch.enable_grad(), self._seeded(saved, edges):
            out = self.layer.combine(referenced, own, block)
        if out.requires_grad:
            torch.autograd.backward(out, gradient)
        return own.grad, referenced.grad

    @contextmanager
    def _seeded(self, saved: SavedBlock, edges: Edges) -> Iterator[None]:
        """Let a layer that draws random numbers draw the same ones both times."""
        if not self.layer.draws:
            yield
            return
        devices = [edges.matrix.col.device] if edges.matrix.col.is_cuda else []
        with torch.random.fork_rng(devices):
            # One seed for each draw of masks and layer (the key) and each tile. Rows of a table are numbered
            # anew in each part: a tile's first node tells it from those of other parts too.
            nodes = saved.drop.node_id
            torch.manual_seed((saved.drop.key + (int(nodes[0]) if len(nodes) else 0)) % 2**63)
            yield

    def forward_update(self, saved: SavedBlock, z: Given, h0: Given, out: Tensor) -> None:
        """Nothing: `combine` has written the output rows."""

    def backward_update(
        self, saved: SavedBlock, gradient: Tensor, z_gradient: Given, h0_gradient: Given
    ) -> None:
        """Nothing: `push` differentiates."""

    def backward_message(
        self, saved: SavedBlock, x_gradient: Tensor | None, h_gradient: Tensor | None
    ) -> None:
        if x_gradient is None:
            return
        if not self._drops:
            self._prepare_back(saved, x_gradient, h_gradient)
        elif h_gradient is not None and self._rows == "relu":
            saved.drop.back(x_gradient, saved.x, h_gradient)
        elif h_gradient is not None:
            # dropping is a product with a diagonal matrix, which is its own transpose
            h_gradient.copy_(saved.drop(x_gradient))

    def _prepare_back(self, saved: SavedBlock, x_gradient: Tensor, h_gradient: Tensor | None) -> None:
        h = saved.h.detach()
        if h_gradient is not None:
            h.requires_grad_()
        with torch.enable_grad():
            x = self.layer.prepare(h, saved.drop)
        if x.requires_grad:
            torch.autograd.backward(x, x_gradient)
        if h_gradient is None:
            return
        h_gradient.zero_() if h.grad is None else h_gradient.copy_(h.grad)
        if self._rows == "relu":  # layers in front don't ask their ReLU again, see `Runner`
            h_gradient.mul_(saved.h > 0)

    @property
    def kept(self) -> Kept:
        """Nothing but the input rows, and those only where they are prepared."""
        return Kept(0 if self._drops else self.layer.in_features, gradient="no")
