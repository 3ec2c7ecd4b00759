"""One chunk forward or backward through one layer of a stage."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gnnpipe.graph.chunks import Chunk
from gnnpipe.model.dropout import Dropout, keep_all
from gnnpipe.model.features import FeatureRows
from gnnpipe.model.layers.base import Layer
from gnnpipe.model.stack import LayerSpec
from gnnpipe.runtime.boundary import Boundary
from gnnpipe.runtime.chunk_data import ChunkData
from gnnpipe.runtime.tables import ForwardTable, GradientTable


@dataclass(frozen=True)
class Rows:
    """A table and its boundary."""

    table: ForwardTable
    boundary: Boundary


@dataclass(frozen=True)
class GradientRows:
    """A gradient table and its boundary."""

    table: GradientTable
    boundary: Boundary

    def rows_of(self, index: int, data: ChunkData) -> list[Chunk]:
        """A chunk's rows of the table, its own and the halo's; returns when those have arrived."""
        arrived = self.boundary.wait(index)
        return [data.chunk] if arrived is None else [data.chunk, arrived]


@dataclass
class TilePass:
    """What a layer keeps of a tile from forward to backward."""

    z: Tensor | None
    carry: Tensor | None
    """A leaf; the tile's rows of the chunk's carry."""
    out: Tensor


@dataclass
class LayerPass:
    """What a layer keeps of a chunk from forward to backward."""

    h: FeatureRows
    x: Tensor | None
    carry: Tensor | None
    tiles: list[TilePass]

    @property
    def out(self) -> Tensor:
        """Output rows of the chunk, without their history."""
        return joined([tile.out.detach() for tile in self.tiles])


@dataclass(frozen=True)
class StageLayer:
    """A built layer with its tables.

        # forward                                  # backward
        write x, send boundary rows                gradient of the rows that read halo; send boundary rows
        pull what is at hand                       gradient of the rows that read none
        update rows that read no halo              pull what is at hand
        wait for the halo, pull the rest           wait for the halo, pull the rest
        update rows that do                        gradient of the message

    The first line of each is `put` and `put_back`, the rest `take` and `take_back`. Without lookahead a
    chunk's `take` follows its `put`; with it, chunks that stand behind it in the order are put in between,
    and their halo is waited for at once.

    The rows whose gradients other parts need are just those that read halo, as an edge across parts is read
    forward at one end and backward at the other.
    """

    spec: LayerSpec
    module: Layer
    rows: Rows | None
    """None where nothing is aggregated."""
    gradients: GradientRows | None
    """None where nothing is aggregated, or features are."""
    lookahead: int = 0
    """Positions between a chunk's put and its take; 0 where nothing is aggregated."""

    def begin_epoch(self, epoch: int) -> None:
        """Turn tables over."""
        if self.rows is not None:
            self.rows.table.begin_epoch(epoch)
            self.rows.boundary.begin_epoch()
        if self.gradients is not None:
            self.gradients.table.begin_epoch()
            self.gradients.boundary.begin_epoch()

    def settle(self) -> None:
        """Wait for boundary rows that are still under way."""
        for item in (self.rows, self.gradients):
            if item is not None:
                item.boundary.settle()

    def put(self, index: int, data: ChunkData, h: FeatureRows, drop: Dropout) -> LayerPass:
        """Make a chunk's message and let other chunks and parts have it.

        Args:
            index: number of the chunk.
            data: the chunk.
            h: input rows ``[n, in_features]``.
            drop: the layer's dropout for these rows.
        """
        if isinstance(h, Tensor) and h is not data.features:
            h = h.detach().requires_grad_()
        with torch.enable_grad():
            x, carry = self.module.message(h, drop)
        if self.rows is not None:
            assert x is not None
            self.rows.table.write(data.chunk, x.detach(), lambda: clean_message(self.module, h))
            self.rows.boundary.post(index)
            if self.lookahead:
                self._halo_arrives(self.rows, index)
        return LayerPass(h, x, carry, [])

    def take(self, index: int, data: ChunkData, done: LayerPass, h0: list[Tensor]) -> Tensor:
        """Aggregate and update a chunk that was put.

        Args:
            index: number of the chunk.
            data: the chunk.
            done: what `put` returned.
            h0: initial rows of each tile, leaves; empty if the model has none.

        Returns:
            output rows ``[n, out_features]``, without their history.
        """
        with torch.enable_grad():
            if self.rows is None:
                leaf = _leaf(done.carry)
                done.tiles.append(TilePass(None, leaf, self.module.update(None, leaf, None)))
            else:
                done.tiles.extend(self._aggregate(self.rows, index, data, done.carry, h0))
        return done.out

    def _aggregate(
        self, rows: Rows, index: int, data: ChunkData, carry: Tensor | None, h0: list[Tensor]
    ) -> list[TilePass]:
        table = rows.table
        aggregates = [tile.pull @ table.rows for tile in data.tiles]
        passes = []
        for number, (tile, z) in enumerate(zip(data.tiles, aggregates, strict=True)):
            if number == len(data.tiles) - 1 and not self.lookahead:
                self._halo_arrives(rows, index)
                data.pull.finish(z, table.rows, tile.rows.start)
            if self.gradients is not None:
                z.requires_grad_()
            leaf = None if carry is None else _leaf(carry.detach()[tile.rows])
            passes.append(TilePass(z, leaf, self.module.update(z, leaf, h0[number] if h0 else None)))
        return passes

    def _halo_arrives(self, rows: Rows, index: int) -> None:
        arrived = rows.boundary.wait(index)
        if arrived is not None:
            rows.table.arrived(arrived)

    def put_back(self, index: int, data: ChunkData, done: LayerPass, gradient: Tensor) -> None:
        """Differentiate a chunk's update and let other chunks and parts have the gradient of its aggregates.

        Args:
            index: number of the chunk.
            data: the chunk.
            done: what `put` returned and `take` completed.
            gradient: of the output rows.
        """
        self._update_backward(index, data, done, gradient)
        if self.lookahead and self.gradients is not None:
            self.gradients.table.weigh(self.gradients.rows_of(index, data))

    def take_back(self, index: int, data: ChunkData, done: LayerPass) -> Tensor | None:
        """Gradient of the layer's input rows; None if they are features. Weights' gradients add up."""
        ends, gradients = [], []
        carries = [tile.carry.grad for tile in done.tiles if tile.carry is not None]
        found = [grad for grad in carries if grad is not None]
        if done.carry is not None and found:
            ends.append(done.carry)
            gradients.append(joined(found))
        if done.x is not None and self.gradients is not None:
            ends.append(done.x)
            gradients.append(self._pull_back(self.gradients, index, data))
        if ends:
            torch.autograd.backward(ends, gradients)
        return done.h.grad if isinstance(done.h, Tensor) else None

    def _update_backward(self, index: int, data: ChunkData, done: LayerPass, gradient: Tensor) -> None:
        """Rows that read halo first: other parts wait for their gradients."""
        if self.rows is None:
            torch.autograd.backward(done.tiles[0].out, gradient)
            return
        for number in reversed(range(len(data.tiles))):
            tile, kept = data.tiles[number], done.tiles[number]
            torch.autograd.backward(kept.out, gradient[tile.rows])
            if self.gradients is None:
                continue
            assert kept.z is not None
            assert kept.z.grad is not None
            self.gradients.table.write(data.chunk.start + tile.rows.start, kept.z.grad)
            if number == len(data.tiles) - 1:
                self.gradients.boundary.post(index)

    def _pull_back(self, gradients: GradientRows, index: int, data: ChunkData) -> Tensor:
        table = gradients.table
        if self.lookahead:
            with table.counted_once(gradients.rows_of(index, data)):
                return data.pull_back.now @ table.rows
        pulled = data.pull_back.now @ table.rows
        rows = gradients.rows_of(index, data)
        data.pull_back.finish(pulled, table.rows)
        table.weigh(rows)
        return pulled


def joined(tiles: list[Tensor]) -> Tensor:
    """Rows of all tiles of a chunk."""
    return tiles[0] if len(tiles) == 1 else torch.cat(tiles)


def leaves(rows: Tensor, data: ChunkData) -> list[Tensor]:
    """Each tile's rows, as leaves that gather their gradient."""
    return [rows.detach()[tile.rows].requires_grad_() for tile in data.tiles]


def clean_message(module: Layer, h: FeatureRows) -> Tensor:
    """The message without dropout."""
    with torch.no_grad():
        x, _ = module.message(h, keep_all)
    assert x is not None
    return x.detach()


def _leaf(rows: Tensor | None) -> Tensor | None:
    return None if rows is None else rows.detach().requires_grad_()
