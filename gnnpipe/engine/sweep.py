"""The exact forward sweep: full-graph inference, layer by layer, over all stages.

# training   chunk by chunk: c0 through all layers, then c1; rows of other chunks may be stale
# sweep      layer by layer: layer 0 of c0 c1 c2, then layer 1 of c0 c1 c2; none is
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from gnnpipe.comm.stage_links import Messages
from gnnpipe.engine.chunks import ChunkData, Tile
from gnnpipe.engine.layers.layer import StageLayer
from gnnpipe.engine.stage import Stage
from gnnpipe.nn.dropout import keep_all
from gnnpipe.nn.features import FeatureRows
from gnnpipe.nn.layer import Layer
from gnnpipe.schedule.estimate import LayerSums

EVALUATION = "evaluation"
REFRESH = "refresh"


def sweep(
    stage: Stage, messages: Messages, refill: int | None = None, until: int | None = None
) -> Iterator[tuple[ChunkData, Tensor]]:
    """Yield each chunk with its exact logits on the last stage, and nothing on the others.

    A layer is computed for all chunks before the next one starts, so that no row is stale. A stage holds the
    rows of one of its layers at a time, of all its chunks.

    Args:
        stage: stage of this rank.
        messages: to and from the neighbouring stages.
        refill: an epoch, about to begin, whose history is replaced by the rows of this sweep; None leaves the
            training tables as they are. The sweep itself uses no dropout. If history is kept after dropout,
            the messages that go into it are dropped with the epoch's masks.
        until: number of the layer whose output rows are wanted in place of logits. The stage that has it
            yields them, and stages behind it do nothing. None for the model's last one.
    """
    if until is not None and until < stage.layers[0].spec.number:
        return
    with torch.no_grad():
        kind = EVALUATION if refill is None else REFRESH
        rows, initial = _enter(stage, messages)
        # stages that recompute initial rows run the input layer on the features, beside their own layers
        for layer in stage.initial.beside:
            initial = _layer(stage, layer, [data.features for data in stage.chunks], [], kind)
        for layer in stage.layers:
            if refill is not None:
                _refill(stage, layer, rows, refill)
            out = _layer(stage, layer, rows, initial, kind)
            if stage.initial.start_at(layer):
                initial = out
            if layer.spec.number == until:
                break
            rows = _tiles(stage, out)
        messages.settle()
        if stage.place.is_last or layer.spec.number == until:
            yield from zip(stage.chunks, out, strict=True)
        else:
            _leave(stage, messages, out, initial, kind)


TileRows = list[Sequence[FeatureRows]]
"""``[chunk][tile]``: rows of each tile."""


def _tiles(stage: Stage, rows: list[Tensor]) -> TileRows:
    return [data.split(of_chunk) for data, of_chunk in zip(stage.chunks, rows, strict=True)]


def _enter(stage: Stage, messages: Messages) -> tuple[TileRows, list[Tensor]]:
    """The input rows of the stage's first layer, and the initial rows of each chunk if they travel."""
    if stage.place.is_first:
        return [data.features for data in stage.chunks], []
    # all receives are posted before the first wait, so that chunks travel while others are still computed
    pending = [messages.receive(-1, stage.shape(i), tag=i) for i in range(len(stage.chunks))]
    packed = [rows for receive in pending if (rows := receive.wait()) is not None]
    return _tiles(stage, [rows[0] for rows in packed]), stage.initial.received(packed)


def _leave(stage: Stage, messages: Messages, rows: list[Tensor], initial: list[Tensor], kind: str) -> None:
    for index, h in enumerate(rows):
        packed = stage.initial.packed(h, initial[index] if initial else None)
        messages.send(packed, 1, index, kind)
    messages.flush()


def _layer(stage: Stage, layer: StageLayer, rows: TileRows, initial: list[Tensor], kind: str) -> list[Tensor]:
    """The output rows of each chunk.

    Messages of all chunks are written to a table of the sweep's own before any chunk is pulled:

        # message c0, c1, c2 -> table | exchange the halo of all chunks | update c0, c1, c2
    """
    module = layer.module
    # the training table's shape alone counts: a stage that does not train has it without any rows
    table = None if layer.rows is None else torch.empty(layer.rows.table.rows.shape, device=stage.device)
    was_training = module.training
    module.eval()  # layers of others may drop or normalise in a way of their own
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
            z = None if table is None else _aggregated(module, tile, table, carry)
            space.copy_(module.update(z, carry, first))
        result.append(out)
    module.train(was_training)
    return result


def _aggregated(module: Layer, tile: Tile, table: Tensor, carry: Tensor | None) -> Tensor:
    # a linear layer's entries are held by whether they read the halo, and tiles have no copy of the whole
    return tile.pull.all(table) if module.is_linear else module.aggregate(tile.edges, table, carry)


def _messages(module: Layer, h: Sequence[FeatureRows], into: list[Tensor]) -> list[Tensor | None]:
    """Write each tile's message into its rows of the table; return the rows that `Layer.message` carries over
    to `Layer.update`."""
    carries = []
    for tile, rows in enumerate(h):
        x, carry = module.message(rows, keep_all)
        if x is not None:
            into[tile].copy_(x)
        carries.append(carry)
    return carries


def refresh(stage: Stage, messages: Messages, epoch: int) -> None:
    """Replace the history of an epoch that is about to begin by the rows of an exact sweep."""
    for _ in sweep(stage, messages, epoch):
        pass


def table_errors(stage: Stage) -> list[LayerSums]:
    """How far each layer's rows were from exact ones at the last refresh."""
    return [
        LayerSums(layer.spec.name, 0.0, 0.0, 0.0, *layer.rows.table.error.tolist())
        for layer in stage.layers
        if layer.rows is not None
    ]


def _refill(stage: Stage, layer: StageLayer, rows: TileRows, epoch: int) -> None:
    """Replace a layer's historical rows by the messages of exact input rows, and note how far off they were.

    Rows that history has after dropout were made with last epoch's masks, and are compared under those; the
    rows that replace them get this epoch's.

        # history   dropped by masks of epoch - 1   compared with   exact rows, dropped the same way
        # refill                                                    exact rows, dropped by masks of epoch
    """
    if layer.rows is None:
        return
    table = layer.rows.table
    history = torch.empty_like(table.rows)
    table.forget_error()
    for data, tiles in zip(stage.chunks, rows, strict=True):
        spaces = zip(data.split_table(history), data.split_table(table.newest), strict=True)
        for tile, h, (space, newest) in zip(data.tiles, tiles, spaces, strict=True):
            now = stage.history_drop(layer, tile, epoch)
            before = stage.history_drop(layer, tile, epoch - 1)
            x, _ = layer.module.message(h, now)
            then, _ = (x, None) if before == now else layer.module.message(h, before)
            table.compare(newest, then)
            space.copy_(x)
    # the rows of a stale halo are under way already, and stay last epoch's
    if stage.exchanges_history:
        _exchange(stage, history, REFRESH)
        table.refill(history)
    else:
        table.refill(history[: stage.num_rows])


def _exchange(stage: Stage, table: Tensor, kind: str) -> None:
    """Fill the halo rows of ``table``, of all chunks at once."""
    under_way = [
        stage.halo.post(table, table[route.arrive.start : route.arrive.stop], route, kind)
        for route in stage.routes.forward
        if route is not None
    ]
    for pending in under_way:
        stage.halo.wait(pending)
    stage.halo.take_waits()  # times of a sweep belong to no action
