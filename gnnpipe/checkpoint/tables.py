"""The tables of a stage in a checkpoint, by global layer number and original node id.

    table.LAYER.rows.PART        newest rows of the forward table, of the part's own nodes
    table.LAYER.snapshot.PART    their snapshot, under freeze
    table.LAYER.gradients.PART   newest rows of the gradient table, of the part's own nodes
    table.LAYER.fit.PART         inner products from which a fitted weight follows
    table.LAYER.pushes.PART      sums of pushed gradients that came too late, of the part's own nodes
    halo.LAYER.KIND.NAME.PART    halo rows that travel beside a whole epoch (a stale halo)
    halo.LAYER.pushes.PART       sums of pushed gradients for halo rows, which their owners have not got yet
    halo.ids.STAGE.PART          original ids of those, on stages that have such sums

Other halo rows are copies of their owners' rows, and are read from those.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from gnnpipe.checkpoint.storage import StoredCheckpoint
from gnnpipe.engine.boundary import Boundary
from gnnpipe.engine.layers.layer import StageLayer
from gnnpipe.engine.layers.push import PushingLayer
from gnnpipe.engine.stage import Stage
from gnnpipe.engine.tables import ForwardTable, GradientTable, TableSettings
from gnnpipe.graph.cut.halo import part_range
from gnnpipe.graph.prepare.prepared import PreparedGraph


def table_state(stage: Stage, settings: TableSettings, graph: PreparedGraph) -> dict[str, Tensor]:
    """The tensors of the tables that the next epoch reads, by their names in a checkpoint."""
    part, own = stage.place.part, stage.num_rows
    state: dict[str, Tensor] = {}
    for layer in stage.layers:
        number = layer.spec.number
        for name, rows in _own_tables(layer, settings).items():
            state[f"table.{number}.{name}.{part}"] = rows[:own]
        if layer.gradients is not None and settings.fitted:
            state[f"table.{number}.fit.{part}"] = layer.gradients.table.fit
        for kind, boundary in _boundaries(layer):
            for name, rows in boundary.state().items():
                state[f"halo.{number}.{kind}.{name}.{part}"] = rows
        sums = _pushes(layer)
        if sums is not None:
            state[f"table.{number}.pushes.{part}"] = sums[:own]
            state[f"halo.{number}.pushes.{part}"] = sums[own:]
            state[f"halo.ids.{stage.place.stage}.{part}"] = graph.node_id[graph.halo_forward[part]]
    return state


def restore_tables(
    stage: Stage, settings: TableSettings, graph: PreparedGraph, stored: StoredCheckpoint, num_parts: int
) -> None:
    """Fill the tables of a stage from a checkpoint of any plan; tables that it doesn't hold stay as they are.

    Args:
        stage: stage whose tables are filled.
        settings: what its tables keep.
        graph: the graph as this run's plan cuts it.
        stored: the checkpoint; its ``node_id`` is the order of its rows.
        num_parts: number of parts of the run that wrote it.
    """
    part = stage.place.part
    stored_rows = _stored_rows(graph, part, stored.read("node_id"))
    pushes = _StoredPushes(graph, part, stored, num_parts, stored_rows["rows"])
    for layer in stage.layers:
        number = layer.spec.number
        for name, rows in _own_tables(layer, settings).items():
            whole = _stored_table(stored, number, name, num_parts)
            if whole is not None:
                rows.copy_(whole[stored_rows[name]])
        fit = f"table.{number}.fit.0"
        if layer.gradients is not None and fit in stored.tensors:
            layer.gradients.table.fit.copy_(stored.read(fit))
        for kind, boundary in _boundaries(layer):
            under_way = {name: f"halo.{number}.{kind}.{name}.{part}" for name in boundary.state()}
            boundary.restore({name: stored.read(key) for name, key in under_way.items()})
        sums = _pushes(layer)
        if sums is not None and f"table.{number}.pushes.0" in stored.tensors:
            pushes.restore(number, sums)


def _stored_table(stored: StoredCheckpoint, layer: int, name: str, num_parts: int) -> Tensor | None:
    """The rows of all parts in one of a layer's tables; None where the checkpoint doesn't hold it."""
    keys = [f"table.{layer}.{name}.{part}" for part in range(num_parts)]
    if keys[0] in stored.tensors:
        return torch.cat([stored.read(key) for key in keys])
    # the run that wrote it had no freeze: the first snapshot is taken now
    return _stored_table(stored, layer, "rows", num_parts) if name == "snapshot" else None


def _stored_rows(graph: PreparedGraph, part: int, node_id: Tensor) -> dict[str, Tensor]:
    """For each kind of table, the row of the stored table that each row of the part's table is.

    Rows move from one numbering to the other by way of their original ids:

        row of this run's table  --graph.node_id-->  original id  --place-->  row of the stored table

    Args:
        graph: the graph as this run's plan cuts it.
        part: part of this rank.
        node_id: original id of each row of the stored tables.
    """
    mine = part_range(graph.ranges, part)
    own, place = torch.arange(mine.start, mine.stop), _places(node_id)
    rows, gradients = (
        place[graph.node_id[torch.cat([own, halo[part]])]]
        for halo in (graph.halo_forward, graph.halo_backward)
    )
    return {"rows": rows, "snapshot": rows, "gradients": gradients}


def _places(node_id: Tensor) -> Tensor:
    """The row of each original id: the inverse permutation."""
    place = torch.empty_like(node_id)
    place[node_id] = torch.arange(len(node_id))
    return place


@dataclass(frozen=True)
class _StoredPushes:
    """Sums of pushed gradients in a checkpoint."""

    graph: PreparedGraph
    """The graph as this run's plan cuts it."""
    part: int
    """Part of this rank."""
    stored: StoredCheckpoint
    num_parts: int
    """Number of parts of the run that wrote it."""
    rows: Tensor
    """For each row of this part's table, the row of the stored table that it is."""

    def restore(self, layer: int, sums: Tensor) -> None:
        """Fill a table of pushes.

        Under the same cut sums for halo rows stay with the part that has them, so that nothing is added in
        another order. Under another one they go to their owners, at once.
        """
        parts = range(self.num_parts)
        keys = [(f"table.{layer}.pushes.{part}", f"halo.{layer}.pushes.{part}") for part in parts]
        if self._same_cut:
            own, halo = keys[self.part]
            sums.copy_(torch.cat([self.stored.read(own), self.stored.read(halo)]))
            return
        whole = torch.cat([self.stored.read(own) for own, _ in keys])
        place = _places(self.stored.read("node_id"))
        for part, (_, halo) in zip(parts, keys, strict=True):
            whole.index_add_(0, place[self._halo_ids(part)], self.stored.read(halo))
        num_own = part_range(self.graph.ranges, self.part).num_nodes
        sums.zero_()
        sums[:num_own] = whole[self.rows[:num_own]]

    def _halo_ids(self, part: int) -> Tensor:
        # they are the same on every stage that has written them
        keys = (key for key in self.stored.tensors if key.startswith("halo.ids."))
        return self.stored.read(next(key for key in keys if key.endswith(f".{part}")))

    @property
    def _same_cut(self) -> bool:
        shape = len(self.graph.ranges), len(self.graph.ranges[0])
        same = self.stored.about.plan[1:] == shape
        return same and torch.equal(self.stored.read("node_id"), self.graph.node_id)


def _pushes(layer: StageLayer) -> Tensor | None:
    if isinstance(layer, PushingLayer) and layer.pushes is not None:
        return layer.pushes.table.rows
    return None


def _own_tables(layer: StageLayer, settings: TableSettings) -> dict[str, Tensor]:
    """The tensors of a layer from which an epoch begins."""
    tables: dict[str, Tensor] = {}
    if layer.rows is not None:
        table: ForwardTable = layer.rows.table
        tables["rows"] = table.newest
        if table.snapshot is not table.newest:
            tables["snapshot"] = table.snapshot
    if layer.gradients is not None and settings.reads_last_gradients:
        gradients: GradientTable = layer.gradients.table
        tables["gradients"] = gradients.newest
    return tables


def _boundaries(layer: StageLayer) -> Iterator[tuple[str, Boundary]]:
    if layer.rows is not None:
        yield "rows", layer.rows.boundary
    if layer.gradients is not None:
        yield "gradients", layer.gradients.boundary
