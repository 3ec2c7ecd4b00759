"""The exact forward sweep: full-graph inference, layer by layer, over all stages."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from gnnpipe.model.dropout import keep_all
from gnnpipe.model.features import FeatureRows
from gnnpipe.runtime.chunk_data import ChunkData
from gnnpipe.runtime.messages import Messages
from gnnpipe.runtime.stage import Stage
from gnnpipe.runtime.stage_layer import StageLayer

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
        for layer in stage.layers:
            if refill is not None:
                _refill(stage, layer, rows, refill)
            rows = _layer(stage, layer, rows, initial, kind)
            if stage.num_streams == 2 and layer.spec.number == 0:
                initial = list(rows)
        if stage.place.is_last:
            for data, logits in zip(stage.chunks, rows, strict=True):
                assert isinstance(logits, Tensor)
                yield data, logits
        else:
            _leave(stage, messages, rows, initial, kind)


def _enter(stage: Stage, messages: Messages) -> tuple[list[FeatureRows], list[FeatureRows]]:
    """Rows of all chunks at the stage's entrance, and their initial rows."""
    if stage.place.is_first:
        features = [data.features for data in stage.chunks]
        return [rows for rows in features if rows is not None], []
    receipts = [messages.receive(-1, stage.shape(i), tag=i) for i in range(len(stage.chunks))]
    packed = [receipt.wait() for receipt in receipts]
    rows: list[FeatureRows] = [item[0] for item in packed if item is not None]
    initial: list[FeatureRows] = [item[1] for item in packed if item is not None and len(item) == 2]
    return rows, initial


def _leave(
    stage: Stage, messages: Messages, rows: list[FeatureRows], initial: list[FeatureRows], kind: str
) -> None:
    for index, h in enumerate(rows):
        streams = [h, initial[index]] if initial else [h]
        packed = torch.stack([stream for stream in streams if isinstance(stream, Tensor)])
        messages.send(packed, 1, index, kind)
    messages.flush()


def _layer(
    stage: Stage, layer: StageLayer, rows: list[FeatureRows], initial: list[FeatureRows], kind: str
) -> list[FeatureRows]:
    module = layer.module
    carries: list[Tensor | None] = []
    table = None if layer.rows is None else torch.empty_like(layer.rows.table.rows)
    for data, h in zip(stage.chunks, rows, strict=True):
        x, carry = module.message(h, keep_all)
        carries.append(carry)
        if table is not None and x is not None:
            table[data.chunk.start : data.chunk.stop] = x
    if table is not None:
        _exchange(stage, table, kind)
    out: list[FeatureRows] = []
    for index, data in enumerate(stage.chunks):
        z = None
        if table is not None:
            z = data.pull.now @ table
            data.pull.finish(z, table)
        h0 = initial[index] if initial else None
        assert not (h0 is not None and not isinstance(h0, Tensor))
        out.append(module.update(z, carries[index], h0))
    return out


def refresh(stage: Stage, messages: Messages, epoch: int) -> None:
    """Fill the tables of an epoch that is about to begin from an exact sweep."""
    for _ in sweep(stage, messages, epoch):
        pass


def _refill(stage: Stage, layer: StageLayer, rows: list[FeatureRows], epoch: int) -> None:
    """Replace a layer's historical rows by the messages of exact input rows, and note how far off they were.

    They are compared under the masks that they were made with.
    """
    if layer.rows is None:
        return
    table = layer.rows.table
    history = torch.empty_like(table.rows)
    table.forget_error()
    for data, h in zip(stage.chunks, rows, strict=True):
        now = stage.history_drop(layer, data, epoch)
        before = stage.history_drop(layer, data, epoch - 1)
        x, _ = layer.module.message(h, now)
        then, _ = (x, None) if before == now else layer.module.message(h, before)
        assert x is not None
        assert then is not None
        table.compare(data.chunk, then)
        history[data.chunk.start : data.chunk.stop] = x
    if stage.exchanges_history:
        _exchange(stage, history, REFRESH)
        table.refill(history)
    else:
        table.refill(history[: stage.num_rows])


def _exchange(stage: Stage, table: Tensor, kind: str) -> None:
    """Fill the halo rows of ``table``."""
    under_way = [
        stage.halo.post(table, table[route.arrive.start : route.arrive.stop], route, kind)
        for route in stage.forward_routes
        if route is not None
    ]
    for arrival in under_way:
        stage.halo.wait(arrival)
    stage.halo.take_waits()
