"""The random numbers of a stage: pure functions of what they are for, so that no plan changes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gnnpipe import ops
from gnnpipe.engine.chunks import ChunkData, Tile
from gnnpipe.nn.dropout import ChunkMasks, Dropout, dropout_key


@dataclass(frozen=True)
class DropoutSettings:
    """What the dropout masks of a run depend on."""

    rate: float
    seed: int
    hold: int
    """Epochs that share their masks."""


class Masks:
    """Dropout of a stage's layers, and the noise of gradients that leave it, in one epoch after the other.

    Args:
        settings: of the run.
        layers: global numbers of the stage's layers.
        hidden: columns of the rows that layers behind the stack's first drop.
        device: where rows are.
    """

    def __init__(
        self, settings: DropoutSettings, layers: Sequence[int], hidden: int, device: torch.device
    ) -> None:
        self._settings, self._layers, self._hidden = settings, layers, hidden
        self._epoch = 0
        self._keys: list[int] = []
        # one place for all epochs, so that a recorded CUDA graph finds this epoch's keys; the last one is
        # that of the input layer, which may belong to another stage
        self._on_device = torch.zeros(len(layers) + 1, dtype=torch.int64, device=device)
        self._each = self._on_device.split(1)

    def begin_epoch(self, epoch: int) -> None:
        """Choose the epoch's masks, and send their keys to the device: the only time in an epoch."""
        self._epoch = epoch
        self._keys = [self._key(layer, epoch) for layer in self._layers]
        self._on_device.copy_(torch.tensor([*self._keys, self._key(0, epoch)]))

    def of_chunk(self, data: ChunkData) -> ChunkMasks | None:
        """Hashes that serve several layers of a chunk; None where they are made tile by tile."""
        if self._settings.rate == 0 or len(data.tiles) != 1 or not ops.of(data.device).hashes_ahead:
            return None
        return ChunkMasks(data.node_id, self._hidden, self._on_device[:-1])

    def of_layer(self, number: int, data: ChunkData, hashed: ChunkMasks | None = None) -> list[Dropout]:
        """The dropout of each tile of a chunk.

        Args:
            number: global number of the layer.
            data: the chunk.
            hashed: of the chunk, see `of_chunk`; not for layers that read features.
        """
        place = number - self._layers[0]
        bits = hashed.bits(place) if hashed is not None and number > 0 else None
        key = self._keys[place] if place >= 0 else self._key(number, self._epoch)
        there = self._each[max(place, -1)]
        return [Dropout(self._settings.rate, key, tile.node_id, bits, there) for tile in data.tiles]

    def of_tile(self, number: int, tile: Tile, epoch: int) -> Dropout:
        """The dropout of one tile in a layer in any epoch."""
        return Dropout(self._settings.rate, self._key(number, epoch), tile.node_id)

    def noise(self, data: ChunkData, num_streams: int) -> Tensor:
        """Random bytes, uint8 ``[streams, n, hidden]``, for the gradient of a chunk that leaves the stage."""
        key = dropout_key(self._settings.seed, self._epoch, -1 - self._layers[0])
        keys = torch.full((1,), key, dtype=torch.int64, device=data.device)
        bits = ChunkMasks(data.node_id, num_streams * self._hidden, keys).bits(0)
        return bits.reshape(-1, num_streams, self._hidden).transpose(0, 1)

    def _key(self, layer: int, epoch: int) -> int:
        return dropout_key(self._settings.seed, epoch // self._settings.hold, layer)
