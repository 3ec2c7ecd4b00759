"""Layers that aggregate in a way of their own, and whose gradients are pulled: attention, see `Gathers`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gnnpipe.engine.chunks import ChunkData, late_last
from gnnpipe.engine.layers.layer import LayerPass, StageLayer
from gnnpipe.engine.tables import floats
from gnnpipe.nn.running import Gathers, Saved


@dataclass(frozen=True)
class GatheringLayer(StageLayer):
    """A layer that gathers. The order of its steps is that of `StageLayer`, but rows that read the halo are
    not split by where their entries point to: they are computed as a whole once the halo has arrived."""

    @property
    def gatherer(self) -> Gathers[Any]:
        """The runner, as one that gathers."""
        runner: Gathers[Any] = self.runner  # type: ignore[assignment]
        return runner

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
            saved = done.tiles[tile]
            z = self.gatherer.gather(saved, data.tiles[tile].edges, table)
            self.runner.forward_update(saved, z, initial[tile], outs[tile])

    def differentiate_update(
        self,
        data: ChunkData,
        tile: int,
        saved: Saved,
        gradient: Tensor,
        initial: Tensor | None,
        space: Tensor | None,
    ) -> None:
        edges, gatherer = data.tiles[tile].edges, self.gatherer
        z_gradient = torch.empty(edges.num_rows, gatherer.aggregated, device=data.device)
        self.runner.backward_update(saved, gradient, z_gradient, initial)
        # without a table nobody wants the rows, but weights want their gradients
        rows = z_gradient.new_empty(edges.num_rows, gatherer.gradient_width) if space is None else space
        with floats(rows) as written:
            gatherer.gathered_gradient(saved, edges, self.forward_table, z_gradient, written)

    def pull_back(
        self,
        table: Tensor,
        data: ChunkData,
        done: LayerPass,
        differentiate: Callable[[int, Tensor], None],
        wait: Callable[[], object],
    ) -> None:
        own = data.split_table(self.forward_table)
        for tile in late_last([item.pull_back for item in data.tiles], wait):
            edges = data.tiles[tile].edges_back
            differentiate(tile, self.gatherer.gather_back(done.tiles[tile], edges, table, own[tile]))
