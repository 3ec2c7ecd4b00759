"""The tables of a stage in a checkpoint, by global layer number and original node id.

    table.LAYER.rows.PART        newest input rows of the part's own nodes
    table.LAYER.snapshot.PART    the snapshot of them, under freeze
    table.LAYER.gradients.PART   newest gradients of aggregates of the part's own nodes
    table.LAYER.fit.PART         what a fitted weight follows from
    halo.LAYER.KIND.NAME.PART    rows of other parts that travel beside a whole epoch (a stale halo)

Rows of other parts are copies of their owners' rows, and are read from there.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from gnnpipe.checkpoint.storage import StoredCheckpoint
from gnnpipe.engine.boundary import Boundary
from gnnpipe.engine.layer import StageLayer
from gnnpipe.engine.stage import Stage
from gnnpipe.engine.tables import ForwardTable, GradientTable, TableSettings
from gnnpipe.graph.halo import part_range
from gnnpipe.graph.prepared import PreparedGraph


def table_state(stage: Stage, settings: TableSettings) -> dict[str, Tensor]:
    """What the next epoch reads of the tables of this one."""
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
    return state


def restore_tables(
    stage: Stage, settings: TableSettings, graph: PreparedGraph, stored: StoredCheckpoint, num_parts: int
) -> None:
    """Fill the tables of a stage from a checkpoint of any plan. What that did not keep begins as it is.

    Args:
        stage: whose tables.
        settings: of its tables.
        graph: as this run's plan cuts it.
        stored: the checkpoint; its ``node_id`` is the order of its rows.
        num_parts: of the run that wrote it.
    """
    part = stage.place.part
    mine = part_range(graph.ranges, part)
    own = torch.arange(mine.start, mine.stop)
    node_id = stored.read("node_id")
    place = torch.empty_like(node_id)
    place[node_id] = torch.arange(len(node_id))
    wanted = {
        "rows": place[graph.node_id[torch.cat([own, graph.halo_forward[part]])]],
        "gradients": place[graph.node_id[torch.cat([own, graph.halo_backward[part]])]],
    }
    wanted["snapshot"] = wanted["rows"]
    for layer in stage.layers:
        number = layer.spec.number
        for name, rows in _own_tables(layer, settings).items():
            keys = [f"table.{number}.{name}.{old}" for old in range(num_parts)]
            if name == "snapshot" and keys[0] not in stored.tensors:  # the first one is taken now
                keys = [f"table.{number}.rows.{old}" for old in range(num_parts)]
            if keys[0] in stored.tensors:
                rows.copy_(torch.cat([stored.read(key) for key in keys])[wanted[name]])
        fit = f"table.{number}.fit.0"
        if layer.gradients is not None and fit in stored.tensors:
            layer.gradients.table.fit.copy_(stored.read(fit))
        for kind, boundary in _boundaries(layer):
            under_way = {name: f"halo.{number}.{kind}.{name}.{part}" for name in boundary.state()}
            boundary.restore({name: stored.read(key) for name, key in under_way.items()})


def _own_tables(layer: StageLayer, settings: TableSettings) -> dict[str, Tensor]:
    """The tensors of a layer from which an epoch begins."""
    found: dict[str, Tensor] = {}
    if layer.rows is not None:
        table: ForwardTable = layer.rows.table
        found["rows"] = table.newest
        if table.snapshot is not table.newest:
            found["snapshot"] = table.snapshot
    if layer.gradients is not None and settings.reads_last_gradients:
        gradients: GradientTable = layer.gradients.table
        found["gradients"] = gradients.newest
    return found


def _boundaries(layer: StageLayer) -> Iterator[tuple[str, Boundary]]:
    if layer.rows is not None:
        yield "rows", layer.rows.boundary
    if layer.gradients is not None:
        yield "gradients", layer.gradients.boundary
