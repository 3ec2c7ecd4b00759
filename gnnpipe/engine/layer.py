"""One chunk forward or backward through one layer of a stage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gnnpipe.engine.boundary import Boundary
from gnnpipe.engine.chunks import ChunkData
from gnnpipe.engine.tables import ForwardTable, GradientTable
from gnnpipe.engine.tiles import clean_messages, floats, nothing, pull_tiles
from gnnpipe.graph.chunks import Chunk
from gnnpipe.nn.dropout import Dropout
from gnnpipe.nn.features import FeatureRows
from gnnpipe.nn.layer import Layer, RowsPass, WeightProduct
from gnnpipe.nn.models import LayerSpec


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
class LayerPass:
    """What a layer keeps of a chunk from forward to backward."""

    tiles: list[RowsPass]


@dataclass(frozen=True)
class StageLayer:
    """A built layer with its tables.

        # forward                                  # backward
        write x, send boundary rows                gradient of the rows that read halo; send boundary rows
        pull and update rows that read no halo     gradient of the rows that read none
        pull what is at hand of the others         pull what is at hand, with the gradient of the message
        wait for the halo, pull the rest,          wait for the halo, pull the rest,
        update rows that do                        gradient of the message where they belong

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
    reads_features: bool = False
    """Whether the input rows are features, which want no gradient."""

    def begin_epoch(self, epoch: int) -> None:
        """Turn tables over."""
        self.module.begin_epoch()
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

    def put(
        self,
        index: int,
        data: ChunkData,
        h: Sequence[FeatureRows],
        drops: Sequence[Dropout],
        products: list[WeightProduct],
    ) -> LayerPass:
        """Make a chunk's message and let other chunks and parts have it.

        Args:
            index: number of the chunk.
            data: the chunk.
            h: input rows ``[n, in_features]`` of each tile.
            drops: the layer's dropout for each tile.
            products: where gradients of weights are left.
        """
        spaces = nothing(len(h)) if self.rows is None else data.split_table(self.rows.table.rows)
        tiles = []
        for rows, space, drop in zip(h, spaces, drops, strict=True):
            tile = RowsPass(None, drop, products=products)
            if self.module.only_drops:
                tile.x = space
                self.module.forward_message(tile, rows)
            else:
                with floats(space) as tile.x:
                    self.module.forward_message(tile, rows)
            tile.x, tile.drop = space, drop.without_bits()
            tiles.append(tile)
        if self.rows is not None:
            self.rows.table.written(data.chunk, lambda: clean_messages(self.module, h))
            self.rows.boundary.post(index)
            if self.lookahead:
                self._halo_arrives(self.rows, index)
        return LayerPass(tiles)

    def take(self, index: int, data: ChunkData, done: LayerPass, h0: Tensor | None) -> Tensor:
        """Aggregate and update a chunk that was put.

        Args:
            index: number of the chunk.
            data: the chunk.
            done: what `put` returned.
            h0: initial rows ``[n, hidden]``; None if the model has none.

        Returns:
            output rows ``[n, out_features]``, without their history.
        """
        out = torch.empty(data.chunk.num_nodes, self.module.out_features, device=data.device)
        initial = nothing(len(data.tiles)) if h0 is None else data.split(h0)
        outs = data.split(out)

        def update(number: int, z: Tensor | None) -> None:
            self.module.forward_update(done.tiles[number], z, initial[number], outs[number])

        if self.rows is None:
            for number in range(len(data.tiles)):
                update(number, None)
        else:
            rows = self.rows
            pull_tiles(
                [tile.pull for tile in data.tiles],
                rows.table.rows,
                update,
                lambda: None if self.lookahead else self._halo_arrives(rows, index),
            )
        return out

    def _halo_arrives(self, rows: Rows, index: int) -> None:
        arrived = rows.boundary.wait(index)
        if arrived is not None:
            rows.table.arrived(arrived)

    def put_back(
        self, index: int, data: ChunkData, done: LayerPass, gradient: Tensor, h0_gradient: Tensor | None
    ) -> None:
        """Differentiate a chunk's update and let other chunks and parts have the gradient of its aggregates.

        Rows that read halo go first: other parts wait for their gradients.

        Args:
            index: number of the chunk.
            data: the chunk.
            done: what `put` returned and `take` completed.
            gradient: of the output rows.
            h0_gradient: that of the initial rows is added here.
        """
        gradients = self.gradients
        absent = nothing(len(data.tiles))
        spaces = absent if gradients is None else data.split_table(gradients.table.rows)
        initial = absent if h0_gradient is None or self.rows is None else data.split(h0_gradient)
        found = data.split(gradient)
        for number in reversed(range(len(data.tiles))):
            tile = done.tiles[number]
            with floats(spaces[number]) as z_gradient:
                self.module.backward_update(tile, found[number], z_gradient, initial[number])
            if gradients is not None and number == data.border:
                gradients.boundary.post(index)
        if gradients is not None:
            if not data.tiles:
                gradients.boundary.post(index)
            if self.lookahead:
                gradients.table.weigh(gradients.rows_of(index, data))

    def forget(self, done: LayerPass) -> None:
        """Let go of what `recall` makes again."""
        for tile in done.tiles:
            self.module.forget(tile)

    def recall(
        self, data: ChunkData, done: LayerPass, h: Sequence[FeatureRows], *, ends: bool
    ) -> Sequence[Tensor]:
        """Make again what a chunk's pass has let go of.

        Args:
            data: the chunk.
            done: its pass.
            h: input rows of each tile.
            ends: whether nobody needs the output rows.

        Returns:
            the output rows of each tile, if they are needed.
        """
        outs = nothing(len(data.tiles))
        if not ends:
            out = torch.empty(data.chunk.num_nodes, self.module.out_features, device=data.device)
            outs = data.split(out)
        for tile, rows, out_rows in zip(done.tiles, h, outs, strict=True):
            self.module.recall(tile, rows, out_rows)
        return [rows for rows in outs if rows is not None]

    def take_back(self, index: int, data: ChunkData, done: LayerPass) -> Tensor | None:
        """Gradient of the layer's input rows; None if they are features."""
        h_gradient = None
        if not self.reads_features:
            h_gradient = torch.empty(data.chunk.num_nodes, self.module.in_features, device=data.device)
        spaces = nothing(len(data.tiles)) if h_gradient is None else data.split(h_gradient)

        def differentiate(number: int, x_gradient: Tensor | None) -> None:
            self.module.backward_message(done.tiles[number], x_gradient, spaces[number])

        if self.gradients is None:
            for number in range(len(data.tiles)):
                differentiate(number, None)
        else:
            self._pull_back(self.gradients, index, data, differentiate)
        return h_gradient

    def _pull_back(
        self,
        gradients: GradientRows,
        index: int,
        data: ChunkData,
        differentiate: Callable[[int, Tensor], None],
    ) -> None:
        table = gradients.table
        pulls = [tile.pull_back for tile in data.tiles]
        if self.lookahead:
            with table.counted_once(gradients.rows_of(index, data)):
                pull_tiles(pulls, table.rows, differentiate, lambda: None)
        else:
            ranges: list[Chunk] = []
            pull_tiles(
                pulls, table.rows, differentiate, lambda: ranges.extend(gradients.rows_of(index, data))
            )
            table.weigh(ranges)
