"""Layers whose gradients are pushed: any layer that autograd can differentiate.

A chunk that runs backward differentiates its rows by all rows that it read, and adds those gradients to a
table S at their owners. A chunk's input gradient is its rows of S, once every chunk that read its fresh rows
has run backward; those are the chunks behind it in the order, and itself.

    # moment                      rows of chunk j in S
    # epoch begins                times w: pushes that came too late last epoch
    # chunks behind j run back    += their pushes
    # j runs back                 += its own; read, then set to 0
    # chunks in front of j do     += their pushes, which are read next epoch

So every push is used exactly once, in this epoch or, times w, in the next. With one chunk, or a lookahead
that covers every edge, none comes too late.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gnnpipe.comm.halo import Halo, PendingHalo, Route
from gnnpipe.config.resolved import StalenessSettings
from gnnpipe.config.run import HaloMode
from gnnpipe.engine.chunks import ChunkData
from gnnpipe.engine.layers.layer import LayerPass, StageLayer
from gnnpipe.engine.tables import TableSettings
from gnnpipe.errors import ConfigError
from gnnpipe.graph.cut.chunks import Chunk
from gnnpipe.nn.running import Pushes
from gnnpipe.schedule.plan import Plan


class PushTable:
    """``S``: sums of the gradients that readers have pushed, float32 ``[num_rows, width]``.

    The part's own rows come first, then sums for its halo rows, which go to their owners when those want
    them.

    Args:
        num_rows: rows of the part and of its halo.
        width: columns.
        settings: how late pushes count.
        device: device of the table.
    """

    def __init__(self, num_rows: int, width: int, settings: TableSettings, device: torch.device) -> None:
        self._rule = settings.rule
        self.rows = torch.zeros(num_rows, width, device=device)

    def begin_epoch(self) -> None:
        """Weigh the pushes that came too late for the last epoch."""
        if self._rule.historical == 0.0:
            self.rows.zero_()
        elif self._rule.historical != 1.0:
            self.rows.mul_(self._rule.historical)

    def add(
        self, start: int, own: Tensor | None, rows: Tensor, pushed: Tensor | None, alone: list[Chunk]
    ) -> None:
        """Add what a tile pushes.

        Args:
            start: the tile's first row of the table.
            own: gradients of its rows, ``[n, width]``; None for 0.
            rows: int64 ``[num_referenced]``: the rows that it read, ascending.
            pushed: their gradients, ``[num_referenced, width]``; None for 0.
            alone: rows of the tile's chunk, which count once under every rule.
        """
        if own is not None:
            self.rows[start : start + len(own)] += own
        if pushed is None:
            return
        if self._rule.fresh != 1.0:
            bounds = torch.tensor([[span.start, span.stop] for span in alone], device=rows.device)
            inside = torch.searchsorted(rows, bounds).tolist()
            kept = [pushed[first:last].clone() for first, last in inside]
            pushed.mul_(self._rule.fresh)
            for (first, last), gradient in zip(inside, kept, strict=True):
                pushed[first:last] = gradient
        self.rows.index_add_(0, rows, pushed)

    def arrived(self, route: Route, pushed: Tensor) -> None:
        """Add what the readers of a chunk's boundary rows have sent, ``[sum(send_splits), width]``.

        Reader by reader, so that no row occurs twice in one addition and sums have one order.
        """
        for rows, gradient in zip(
            route.send.split(route.send_splits), pushed.split(route.send_splits), strict=True
        ):
            self.rows.index_add_(0, rows, gradient)


class PushBoundary:
    """Sends the sums for halo rows back to their owners, chunk by chunk, when the owners want them.

    Args:
        halo: sends and receives.
        routes: route of each chunk forward.
        table: the table.
    """

    def __init__(self, halo: Halo, routes: list[Route | None], table: PushTable) -> None:
        self._halo, self._routes, self._table = halo, routes, table
        self._under_way: dict[int, tuple[PendingHalo, Tensor]] = {}

    def post(self, chunk: int) -> None:
        """Send the sums for a chunk's rows; all parts of the stage post the same chunk."""
        route = self._routes[chunk]
        if route is None:
            return
        rows = self._table.rows
        into = rows.new_empty(len(route.send), rows.shape[1])
        self._under_way[chunk] = self._halo.post_back(rows, into, route), into
        rows[route.arrive.start : route.arrive.stop] = 0

    def wait(self, chunk: int) -> None:
        """Add what other parts have sent of the chunk's rows."""
        route = self._routes[chunk]
        if route is not None:
            pending, pushed = self._under_way.pop(chunk)
            self._halo.wait(pending)
            self._table.arrived(route, pushed)

    def rows_of(self, chunk: int, own: Chunk) -> list[Chunk]:
        """The chunk's rows of the table: the part's own, then the halo's."""
        route = self._routes[chunk]
        return [own] if route is None else [own, route.arrive]


@dataclass(frozen=True)
class PushRows:
    """A table of pushes and its boundary."""

    table: PushTable
    boundary: PushBoundary


@dataclass(frozen=True)
class PushingLayer(StageLayer):
    """A layer that is differentiated by pushing.

    forward    put        write the message, send boundary rows
               take       compute the rows that read no halo, wait for the halo, compute the others

    backward   put_back   compute and differentiate rows again, those that read the halo first;
                          add the gradients of what they read to S, send the halo's to their owners
               take_back  add what other parts have sent; read the chunk's rows of S, set them to 0
    """

    pushes: PushRows | None = None
    """Table of pushes; None where nobody wants the gradient of the rows that are read."""

    @property
    def pusher(self) -> Pushes[Any]:
        """The runner, as one that pushes."""
        runner: Pushes[Any] = self.runner  # type: ignore[assignment]
        return runner

    def begin_epoch(self, epoch: int) -> None:
        super().begin_epoch(epoch)
        if self.pushes is not None:
            self.pushes.table.begin_epoch()

    def kept_tensors(self) -> list[Tensor]:
        pushes = [] if self.pushes is None else [self.pushes.table.rows]
        return [*super().kept_tensors(), *pushes]

    def aggregate(
        self,
        index: int,
        data: ChunkData,
        done: LayerPass,
        outs: Sequence[Tensor],
        initial: Sequence[Tensor | None],
    ) -> None:
        table = self.forward_table
        for tile in self.arriving(index, data):
            self.pusher.combine(done.tiles[tile], data.tiles[tile].edges, table, outs[tile])

    def put_back(
        self, index: int, data: ChunkData, done: LayerPass, gradient: Tensor, h0_gradient: Tensor | None
    ) -> None:
        by_tile, pushes, table = data.split(gradient), self.pushes, self.forward_table
        for tile in reversed(range(len(data.tiles))):
            edges = data.tiles[tile].edges
            own, pushed = self.pusher.push(done.tiles[tile], edges, table, by_tile[tile])
            if pushes is not None:
                alone = pushes.boundary.rows_of(index, data.chunk)
                pushes.table.add(edges.start, own, edges.block.referenced, pushed, alone)
            # Without lookahead the chunk itself is taken next, and all pushes for its rows are there as soon
            # as the tiles that read the halo are done.
            if pushes is not None and not self.lookahead and tile == data.border:
                pushes.boundary.post(index)
        if pushes is not None and not self.lookahead and not data.tiles:
            pushes.boundary.post(index)

    def take_back(self, index: int, data: ChunkData, done: LayerPass) -> Tensor | None:
        h_gradient = self.input_gradient(data)
        spaces = data.nothing if h_gradient is None else data.split(h_gradient)
        if self.pushes is None:
            return h_gradient
        boundary, rows = self.pushes.boundary, self.pushes.table.rows
        if self.lookahead:
            boundary.post(index)
        boundary.wait(index)
        for saved, x_gradient, space in zip(done.tiles, data.split_table(rows), spaces, strict=True):
            self.runner.backward_message(saved, x_gradient, space)
        rows[data.chunk.start : data.chunk.stop] = 0
        return h_gradient


def check_pushes(names: Sequence[str], staleness: StalenessSettings, plan: Plan, halo: HaloMode) -> None:
    """Refuse staleness settings that have no meaning for gradients that are pushed.

    Args:
        names: names of the layers that push; nothing is checked if there are none.
        staleness: settings of the run.
        plan: plan of the run.
        halo: which rows of other parts are read.

    Raises:
        ConfigError: such a setting.
    """
    if not names:
        return
    layer = f"{names[0]} pushes its gradients"
    if halo == "stale":
        raise ConfigError(
            f"halo: stale can't be used, as {layer}, which their owners want in the same epoch; use --halo "
            "exact"
        )
    if plan.num_chunks == 1 or plan.exact:
        return
    if staleness.gradient == "corrected" or staleness.weight == "fitted":
        key, value = ("gradient", "corrected") if staleness.gradient == "corrected" else ("weight", "fitted")
        raise ConfigError(
            f"staleness.{key}: {value} can't be used, as {layer}: what each reader pushed last epoch, which "
            "it would have to know, is only there as a sum; use --staleness.gradient reuse with a number for "
            "--staleness.weight, or --staleness.gradient fresh"
        )
    if staleness.order == "antithetic":
        raise ConfigError(
            f"staleness.order: antithetic can't be used, as {layer}: every other epoch would use a pair of "
            "chunks twice and the others never; use --staleness.order shuffled"
        )
