"""One chunk forward or backward through one layer of a stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gnnpipe.engine.boundary import Boundary
from gnnpipe.engine.chunks import ChunkData, late_last, pull_tiles
from gnnpipe.engine.tables import ForwardTable, GradientTable, floats
from gnnpipe.graph.cut.chunks import Chunk
from gnnpipe.nn.dropout import Dropout, keep_all
from gnnpipe.nn.features import FeatureRows
from gnnpipe.nn.layer import Layer
from gnnpipe.nn.models import LayerSpec
from gnnpipe.nn.running import AnyRunner, Recomputes, Reverts, Saved, WeightProduct
from gnnpipe.ops.mix import Mix


@dataclass(frozen=True)
class Rows:
    """A forward table and its boundary."""

    table: ForwardTable
    boundary: Boundary


@dataclass(frozen=True)
class GradientRows:
    """A gradient table and its boundary."""

    table: GradientTable
    boundary: Boundary

    def rows_of(self, index: int, data: ChunkData) -> list[Chunk]:
        """Wait for a chunk's halo rows; return its rows of the table, the part's own and the halo's."""
        arrived = self.boundary.wait(index)
        return [data.chunk] if arrived is None else [data.chunk, arrived]


@dataclass
class LayerPass:
    """The saved activations of a chunk in one layer, from forward to backward."""

    tiles: list[Saved]
    """Those of each tile."""


@dataclass(frozen=True)
class StageLayer:
    """A built layer with its tables.

        forward    put         write the message, send boundary rows
                   take        pull and update the rows that read no halo      } while the
                               pull the other rows, all but the halo's share   } halo travels
                               wait for the halo, pull its share, update

        backward   put_back    differentiate the update of rows that read the halo, send boundary rows
                               differentiate the update of the other rows      } while the
                   take_back   pull the rows that read no halo,                } halo
                               differentiate their message                     } travels
                               pull the other rows, all but the halo's share   }
                               wait for the halo, pull its share, differentiate the message

    Without lookahead a chunk's `take` follows its `put`. With it, chunks behind it in the order are put in
    between, and the halo is waited for when a chunk is put.

    An edge between parts is read forward at one end and backward at the other. So the rows whose gradients
    other parts need are just those that read the halo, and going first they hide the exchange.
    """

    spec: LayerSpec
    """Name and number of the layer."""
    runner: AnyRunner
    """Runs the layer's forward and backward."""
    rows: Rows | None
    """Table of the aggregated rows; None where nothing is aggregated."""
    gradients: GradientRows | None
    """Table of gradients; None where nothing is aggregated, or features are."""
    lookahead: int = 0
    """Positions between a chunk's put and its take; 0 where nothing is aggregated."""
    reads_features: bool = False
    """Whether the input rows are features, which want no gradient."""
    reverts: bool = False
    """Whether nothing is kept of the forward pass, and `revert` makes it again from the output rows. Other
    such layers use the same tables."""

    @property
    def module(self) -> Layer:
        """The layer itself."""
        return self.runner.layer

    @property
    def recomputes(self) -> bool:
        """Whether the layer can drop saved activations and make them again."""
        return isinstance(self.runner, Recomputes)

    def begin_epoch(self, epoch: int) -> None:
        """Turn last epoch's rows into history, and make room for the gradients of weights."""
        self.runner.make_room()
        if self.rows is not None:
            self.rows.table.begin_epoch(epoch)
            self.rows.boundary.begin_epoch()
        if self.gradients is not None:
            self.gradients.table.begin_epoch()
            self.gradients.boundary.begin_epoch()

    def kept_tensors(self) -> list[Tensor]:
        """All tensors of its tables, and the halo rows beside them."""
        tensors: list[Tensor] = []
        if self.rows is not None:
            table = self.rows.table
            tensors += [table.rows, table.newest, table.snapshot, *self.rows.boundary.state().values()]
        if self.gradients is not None:
            gradients = self.gradients.table
            tensors += [gradients.rows, gradients.newest, gradients.fit]
            tensors += self.gradients.boundary.state().values()
        return tensors

    def settle(self) -> None:
        """Wait for boundary rows that are still under way."""
        for table in (self.rows, self.gradients):
            if table is not None:
                table.boundary.settle()

    def put(
        self,
        index: int,
        data: ChunkData,
        h: Sequence[FeatureRows],
        drops: Sequence[Dropout],
        products: list[WeightProduct],
    ) -> LayerPass:
        """Write a chunk's message to the table, for other chunks to read, and send its boundary rows.

        Args:
            index: number of the chunk.
            data: the chunk.
            h: input rows ``[n, in_features]`` of each tile.
            drops: the layer's dropout for each tile.
            products: list to which products that make gradients of weights are added on the way back.

        Returns:
            the saved activations.
        """
        tiles = [self.runner.saved(drop, products) for drop in drops]
        # messages are written straight into the table, where pulls read them: nothing is copied
        spaces = data.nothing if self.rows is None else data.split_table(self.rows.table.rows)
        for saved, tile, space in zip(tiles, h, spaces, strict=True):
            self._write_message(saved, tile, space)
            saved.drop = saved.drop.without_bits()  # one byte an entry, which the way back does without
        if self.rows is not None:
            self.rows.table.written(data.chunk, lambda: _clean_messages(self.module, h))
            self.rows.boundary.post(index)
            # the next chunk to be taken is another one, which may read these halo rows
            if self.lookahead:
                self._halo_arrives(index)
        return LayerPass(tiles)

    def _write_message(self, saved: Saved, h: FeatureRows, space: Tensor | None) -> None:
        # dropping writes rows of any number format; all else is computed in float32 and converted
        if space is None or space.dtype == torch.float32 or self.runner.only_drops:
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
            output rows ``[n, out_features]``.
        """
        out = torch.empty(data.chunk.num_nodes, self.module.out_features, device=data.device)
        self.aggregate(index, data, done, data.split(out), data.nothing if h0 is None else data.split(h0))
        return out

    def aggregate(
        self,
        index: int,
        data: ChunkData,
        done: LayerPass,
        outs: Sequence[Tensor],
        initial: Sequence[Tensor | None],
    ) -> None:
        """Aggregate and update the tiles of a chunk.

        Args:
            index: number of the chunk.
            data: the chunk.
            done: what `put` returned.
            outs: of each tile, a tensor to write its output rows to.
            initial: initial rows of each tile; None if the model has none.
        """

        def update(tile: int, z: Tensor | None) -> None:
            self.runner.forward_update(done.tiles[tile], z, initial[tile], outs[tile])

        if self.rows is None:
            for tile in range(len(data.tiles)):
                update(tile, None)
        else:
            self._pull(index, data, update, [self.runner.mix(first) for first in initial])

    def _pull(
        self,
        index: int,
        data: ChunkData,
        update: Callable[[int, Tensor], None],
        mixes: Sequence[Mix | None],
    ) -> None:
        """Aggregate the tiles of a chunk, and go on with each."""
        pulls = [tile.pull for tile in data.tiles]
        pull_tiles(pulls, self.forward_table, update, lambda: self._halo_arrives(index), mixes)

    def revert(
        self,
        index: int,
        data: ChunkData,
        out: Tensor,
        drops: Sequence[Dropout],
        products: list[WeightProduct],
    ) -> tuple[LayerPass, Tensor]:
        """Make the saved activations and the input rows of a chunk again; rows of other parts travel again.

        Args:
            index: number of the chunk.
            data: the chunk.
            out: its output rows ``[n, out_features]``.
            drops: the layer's dropout for each tile.
            products: as for `put`.

        Returns:
            the saved activations, and the input rows ``[n, in_features]``.
        """
        runner = self.runner
        if not isinstance(runner, Reverts):
            raise TypeError(f"{self.spec.name} can't be reverted")
        done, h = self.put(index, data, data.split(out), drops, products), torch.empty_like(out)
        spaces = data.split(h)
        self._pull(
            index,
            data,
            lambda tile, z: runner.revert(done.tiles[tile], z, spaces[tile]),
            [None] * len(spaces),
        )
        return done, h

    @property
    def forward_table(self) -> Tensor:
        """Rows of the forward table of a layer that aggregates."""
        if self.rows is None:
            raise TypeError(f"{self.spec.name} aggregates nothing, and has no table")
        return self.rows.table.rows

    def arriving(self, index: int, data: ChunkData) -> Iterator[int]:
        """The tiles of a chunk, those that read no halo first, the others once the halo has arrived."""
        return late_last([tile.pull for tile in data.tiles], lambda: self._halo_arrives(index))

    def _halo_arrives(self, index: int) -> None:
        """Wait for a chunk's halo rows; history gets them too. With lookahead `put` has waited already."""
        arrived = None if self.rows is None else self.rows.boundary.wait(index)
        if self.rows is not None and arrived is not None:
            self.rows.table.arrived(arrived)

    def put_back(
        self, index: int, data: ChunkData, done: LayerPass, gradient: Tensor, h0_gradient: Tensor | None
    ) -> None:
        """Differentiate a chunk's update, write the gradient of its aggregates to the table, for other chunks
        to read, and send its boundary rows.

        Args:
            index: number of the chunk.
            data: the chunk.
            done: what `put` returned and `take` completed.
            gradient: gradient of the output rows, ``[n, out_features]``.
            h0_gradient: ``[n, hidden]``, to which the gradient of the initial rows is added; None if the
                model has none.
        """
        gradients = self.gradients
        spaces = data.nothing if gradients is None else data.split_table(gradients.table.rows)
        # dense layers read no initial rows
        initial = data.nothing if h0_gradient is None or self.rows is None else data.split(h0_gradient)
        by_tile = data.split(gradient)
        # Rows that read the halo are the last tiles. Going from last to first, the exchange starts as soon as
        # the first of them (the border) is done:
        #
        #     tile   3 (halo)   2 (halo, the border)   1         0
        #                                     post --> travels ----->
        for tile in reversed(range(len(data.tiles))):
            self.differentiate_update(
                data, tile, done.tiles[tile], by_tile[tile], initial[tile], spaces[tile]
            )
            if gradients is not None and tile == data.border:
                gradients.boundary.post(index)
        if gradients is not None:
            if not data.tiles:  # other parts have rows of this chunk, and wait for this one's message
                gradients.boundary.post(index)
            if self.lookahead:  # chunks that are taken before this one read its rows
                gradients.table.weigh(gradients.rows_of(index, data))

    def differentiate_update(
        self,
        data: ChunkData,
        tile: int,
        saved: Saved,
        gradient: Tensor,
        initial: Tensor | None,
        space: Tensor | None,
    ) -> None:
        """Differentiate the update of a tile.

        Args:
            data: the chunk.
            tile: index of the tile.
            saved: its saved activations.
            gradient: gradient of its output rows.
            initial: tensor to add the gradient of its initial rows to; None if the model has none.
            space: its rows of the gradient table; None where nobody wants the gradient of its aggregates.
        """
        if space is None or space.dtype == torch.float32:
            self.runner.backward_update(saved, gradient, space, initial)
        else:
            with floats(space) as z_gradient:
                self.runner.backward_update(saved, gradient, z_gradient, initial)

    def forget(self, done: LayerPass) -> None:
        """Drop the saved activations that `recall` makes again."""
        if isinstance(self.runner, Recomputes):
            for saved in done.tiles:
                self.runner.forget(saved)

    def recall(
        self, data: ChunkData, done: LayerPass, h: Sequence[FeatureRows], *, ends: bool
    ) -> Sequence[Tensor]:
        """Make the saved activations again that `forget` has dropped.

        Args:
            data: the chunk.
            done: its saved activations.
            h: input rows of each tile.
            ends: whether nobody needs the output rows.

        Returns:
            the output rows of each tile; an empty list if nobody needs them.
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
        """Pull the gradient of a chunk's message and differentiate the message.

        Args:
            index: number of the chunk.
            data: the chunk.
            done: its saved activations, used up.

        Returns:
            gradient of the input rows, ``[n, in_features]``; None if they are features.
        """
        h_gradient = self.input_gradient(data)
        spaces = data.nothing if h_gradient is None else data.split(h_gradient)

        def differentiate(tile: int, x_gradient: Tensor | None) -> None:
            self.runner.backward_message(done.tiles[tile], x_gradient, spaces[tile])

        # a layer that aggregates nothing, or features, has no table to pull from
        if self.gradients is None:
            for tile in range(len(data.tiles)):
                differentiate(tile, None)
        else:
            self._pull_back(self.gradients, index, data, done, differentiate)
        return h_gradient

    def input_gradient(self, data: ChunkData) -> Tensor | None:
        """Room for the gradient of a chunk's input rows; None if they are features."""
        if self.reads_features:
            return None
        return torch.empty(data.chunk.num_nodes, self.module.in_features, device=data.device)

    def pull_back(
        self,
        table: Tensor,
        data: ChunkData,
        done: LayerPass,
        differentiate: Callable[[int, Tensor], None],
        wait: Callable[[], object],
    ) -> None:
        """Pull the gradient of the message of each tile.

        Args:
            table: rows of the gradient table.
            data: the chunk.
            done: its saved activations.
            differentiate: called once for each tile, with its index and its gradient.
            wait: returns when the halo rows of the chunk have arrived.
        """
        pull_tiles([tile.pull_back for tile in data.tiles], table, differentiate, wait)

    def _pull_back(
        self,
        gradients: GradientRows,
        index: int,
        data: ChunkData,
        done: LayerPass,
        differentiate: Callable[[int, Tensor], None],
    ) -> None:
        table = gradients.table
        # A chunk's own rows count once in its own pull, weighted in those of other chunks. Without lookahead
        # they are weighed after the own pull; with it `put_back` has done so, as others read them before.
        if self.lookahead and table.stand:
            self.pull_back(table.rows, data, done, differentiate, _at_once)
        elif self.lookahead:
            with table.counted_once(gradients.rows_of(index, data)):
                self.pull_back(table.rows, data, done, differentiate, _at_once)
        else:
            # the ranges are known once the halo rows have arrived, in the middle of the pulls
            ranges: list[Chunk] = []
            arrive = lambda: ranges.extend(gradients.rows_of(index, data))  # noqa: E731
            self.pull_back(table.rows, data, done, differentiate, arrive)
            table.weigh(ranges)


def _at_once() -> None:
    """Wait for nothing: with lookahead halo rows have arrived when a chunk is put."""


def _clean_messages(module: Layer, h: Sequence[FeatureRows]) -> Tensor:
    """The message without dropout."""
    return torch.cat([module.message(rows, keep_all)[0] for rows in h])
