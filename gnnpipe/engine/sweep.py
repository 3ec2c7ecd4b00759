"""The exact forward sweep: full-graph inference, layer by layer, over all stages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from gnnpipe.comm.stage_links import Messages
from gnnpipe.engine.chunks import ChunkData
from gnnpipe.engine.layer import StageLayer
from gnnpipe.engine.stage import Stage
from gnnpipe.nn.dropout import keep_all
from gnnpipe.nn.features import FeatureRows
from gnnpipe.nn.layer import Layer
from gnnpipe.schedule.estimate import LayerSums

EVALUATION = "evaluation"
REFRESH = "refresh"


def sweep(stage: Stage, messages: Messages, refill: int | None = None) -> Iterator[tuple[ChunkData, Tensor]]:
    """Yield each chunk with its exact logits on the last stage, and nothing on the others.

    A layer is computed for all chunks before the next one starts, so that no row is stale. A stage holds
    its own layers' rows and what its neighbour hands over.

    Args:
        stage: this rank's.
        messages: to the stages around it.
        refill: epoch, about to begin, whose historical rows are to be those of this sweep; None leaves the
            training tables as they are. The sweep knows no dropout; where history is kept after dropout the
            messages themselves are dropped, with the epoch's masks.
    """
    with torch.no_grad():
        kind = EVALUATION if refill is None else REFRESH
        rows, initial = _enter(stage, messages)
        for layer in stage.initial.beside:
            initial = _layer(stage, layer, [data.features for data in stage.chunks], [], kind)
        for layer in stage.layers:
            if refill is not None:
                _refill(stage, layer, rows, refill)
            out = _layer(stage, layer, rows, initial, kind)
            if stage.initial.start_at(layer):
                initial = out
            rows = _tiles(stage, out)
        if stage.place.is_last:
            yield from zip(stage.chunks, out, strict=True)
        else:
            _leave(stage, messages, out, initial, kind)


TileRows = list[Sequence[FeatureRows]]
"""Rows of each chunk, tile by tile."""


def _tiles(stage: Stage, rows: list[Tensor]) -> TileRows:
    return [data.split(item) for data, item in zip(stage.chunks, rows, strict=True)]


def _enter(stage: Stage, messages: Messages) -> tuple[TileRows, list[Tensor]]:
    """Rows of all chunks at the stage's entrance, and their initial rows."""
    if stage.place.is_first:
        return [data.features for data in stage.chunks], []
    receipts = [messages.receive(-1, stage.shape(i), tag=i) for i in range(len(stage.chunks))]
    packed = [rows for receipt in receipts if (rows := receipt.wait()) is not None]
    return _tiles(stage, [rows[0] for rows in packed]), stage.initial.received(packed)


def _leave(stage: Stage, messages: Messages, rows: list[Tensor], initial: list[Tensor], kind: str) -> None:
    for index, h in enumerate(rows):
        packed = stage.initial.packed(h, initial[index] if initial else None)
        messages.send(packed, 1, index, kind)
    messages.flush()


def _layer(stage: Stage, layer: StageLayer, rows: TileRows, initial: list[Tensor], kind: str) -> list[Tensor]:
    """Output rows of each chunk."""
    module = layer.module
    table = None if layer.rows is None else torch.empty_like(layer.rows.table.rows, dtype=torch.float32)
    carries = [
        _messages(module, h, [] if table is None else data.split_table(table))
        for data, h in zip(stage.chunks, rows, strict=True)
    ]
    if table is not None:
        _exchange(stage, table, kind)
    result = []
    for index, data in enumerate(stage.chunks):
        out = torch.empty(data.chunk.num_nodes, module.out_features, device=stage.device)
        h0 = data.split(initial[index]) if initial else [None] * len(data.tiles)
        for tile, carry, first, space in zip(data.tiles, carries[index], h0, data.split(out), strict=True):
            z = None if table is None else tile.pull.all(table)
            space.copy_(module.update(z, carry, first))
        result.append(out)
    return result


def _messages(module: Layer, h: Sequence[FeatureRows], into: list[Tensor]) -> list[Tensor | None]:
    """Write each tile's message into its place; return what the update needs besides."""
    carries = []
    for number, rows in enumerate(h):
        x, carry = module.message(rows, keep_all)
        if x is not None:
            into[number].copy_(x)
        carries.append(carry)
    return carries


def refresh(stage: Stage, messages: Messages, epoch: int) -> None:
    """Fill the tables of an epoch that is about to begin from an exact sweep."""
    for _ in sweep(stage, messages, epoch):
        pass


def table_errors(stage: Stage) -> list[LayerSums]:
    """How far each layer's rows were off at the last refresh."""
    return [
        LayerSums(layer.spec.name, 0.0, 0.0, 0.0, *layer.rows.table.error.tolist())
        for layer in stage.layers
        if layer.rows is not None
    ]


def _refill(stage: Stage, layer: StageLayer, rows: TileRows, epoch: int) -> None:
    """Replace a layer's historical rows by the messages of exact input rows, and note how far off they were.

    They are compared under the masks that they were made with.
    """
    if layer.rows is None:
        return
    table = layer.rows.table
    history = torch.empty_like(table.rows)
    table.forget_error()
    for data, tiles in zip(stage.chunks, rows, strict=True):
        places = zip(data.split_table(history), data.split_table(table.newest), strict=True)
        for tile, h, (place, newest) in zip(data.tiles, tiles, places, strict=True):
            now = stage.history_drop(layer, tile, epoch)
            before = stage.history_drop(layer, tile, epoch - 1)
            x, _ = layer.module.message(h, now)
            then, _ = (x, None) if before == now else layer.module.message(h, before)
            table.compare(newest, then)
            place.copy_(x)
    if stage.exchanges_history:
        _exchange(stage, history, REFRESH)
        table.refill(history)
    else:
        table.refill(history[: stage.num_rows])


def _exchange(stage: Stage, table: Tensor, kind: str) -> None:
    """Fill the halo rows of ``table``."""
    under_way = [
        stage.halo.post(table, table[route.arrive.start : route.arrive.stop], route, kind)
        for route in stage.routes.forward
        if route is not None
    ]
    for arrival in under_way:
        stage.halo.wait(arrival)
    stage.halo.take_waits()
