"""One chunk forward or backward through one layer of a stage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gnnpipe.engine.boundary import Boundary
from gnnpipe.engine.chunks import ChunkData, pull_tiles
from gnnpipe.engine.tables import ForwardTable, GradientTable, floats
from gnnpipe.graph.chunks import Chunk
from gnnpipe.nn.dropout import Dropout, keep_all
from gnnpipe.nn.features import FeatureRows
from gnnpipe.nn.layer import Layer
from gnnpipe.nn.models import LayerSpec
from gnnpipe.nn.running import AnyRunner, Recomputes, Saved, WeightProduct


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

    tiles: list[Saved]


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
    runner: AnyRunner
    rows: Rows | None
    """None where nothing is aggregated."""
    gradients: GradientRows | None
    """None where nothing is aggregated, or features are."""
    lookahead: int = 0
    """Positions between a chunk's put and its take; 0 where nothing is aggregated."""
    reads_features: bool = False
    """Whether the input rows are features, which want no gradient."""

    @property
    def module(self) -> Layer:
        """The layer itself."""
        return self.runner.layer

    @property
    def recomputes(self) -> bool:
        """Whether the layer can let go of something and make it again."""
        return isinstance(self.runner, Recomputes)

    def begin_epoch(self, epoch: int) -> None:
        """Turn tables over."""
        self.runner.begin_epoch()
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
        tiles = [self.runner.saved(drop, products) for drop in drops]
        spaces = data.nothing if self.rows is None else data.split_table(self.rows.table.rows)
        for saved, tile, space in zip(tiles, h, spaces, strict=True):
            self._write_message(saved, tile, space)
            saved.drop = saved.drop.without_bits()
        if self.rows is not None:
            self.rows.table.written(data.chunk, lambda: _clean_messages(self.module, h))
            self.rows.boundary.post(index)
            if self.lookahead:
                self._halo_arrives(self.rows, index)
        return LayerPass(tiles)

    def _write_message(self, saved: Saved, h: FeatureRows, space: Tensor | None) -> None:
        if space is None or self.runner.only_drops:
            self.runner.forward_message(saved, h, space)
        else:
            with floats(space) as x:
                self.runner.forward_message(saved, h, x)

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
        initial = data.nothing if h0 is None else data.split(h0)
        outs = data.split(out)

        def update(number: int, z: Tensor | None) -> None:
            self.runner.forward_update(done.tiles[number], z, initial[number], outs[number])

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
        gradients, runner = self.gradients, self.runner
        spaces = data.nothing if gradients is None else data.split_table(gradients.table.rows)
        initial = data.nothing if h0_gradient is None or self.rows is None else data.split(h0_gradient)
        found = data.split(gradient)
        for number in reversed(range(len(data.tiles))):
            saved, space = done.tiles[number], spaces[number]
            if space is None:
                runner.backward_update(saved, found[number], None, initial[number])
            else:
                with floats(space) as z_gradient:
                    runner.backward_update(saved, found[number], z_gradient, initial[number])
            if gradients is not None and number == data.border:
                gradients.boundary.post(index)
        if gradients is not None:
            if not data.tiles:
                gradients.boundary.post(index)
            if self.lookahead:
                gradients.table.weigh(gradients.rows_of(index, data))

    def forget(self, done: LayerPass) -> None:
        """Let go of what `recall` makes again."""
        if isinstance(self.runner, Recomputes):
            for saved in done.tiles:
                self.runner.forget(saved)

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
        outs: list[Tensor] = []
        if not ends:
            out = torch.empty(data.chunk.num_nodes, self.module.out_features, device=data.device)
            outs = data.split(out)
        if isinstance(self.runner, Recomputes):
            for saved, rows, out_rows in zip(done.tiles, h, outs or data.nothing, strict=True):
                self.runner.recall(saved, rows, out_rows)
        return outs

    def take_back(self, index: int, data: ChunkData, done: LayerPass) -> Tensor | None:
        """Gradient of the layer's input rows; None if they are features."""
        h_gradient = None
        if not self.reads_features:
            h_gradient = torch.empty(data.chunk.num_nodes, self.module.in_features, device=data.device)
        spaces = data.nothing if h_gradient is None else data.split(h_gradient)

        def differentiate(number: int, x_gradient: Tensor | None) -> None:
            self.runner.backward_message(done.tiles[number], x_gradient, spaces[number])

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


def _clean_messages(module: Layer, h: Sequence[FeatureRows]) -> Tensor:
    """The message without dropout."""
    return torch.cat([module.message(rows, keep_all)[0] for rows in h])
