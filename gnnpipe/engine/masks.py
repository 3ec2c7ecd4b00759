"""The random numbers of a stage: hashes of (seed, epoch, layer, node, column), the same under every plan."""

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
    """The settings that dropout masks of a run follow from."""

    rate: float
    """Share of the entries that are dropped."""
    seed: int
    """Seed of the run."""
    hold: int
    """Number of consecutive epochs that share their masks."""


class Masks:
    """Dropout of a stage's layers, and rounding noise for the gradients that leave it, epoch by epoch.

    Args:
        settings: dropout settings of the run.
        layers: global numbers of the stage's layers, which are consecutive.
        hidden: columns of the rows that are dropped, in all layers but the model's first.
        device: device of the rows.
    """

    def __init__(
        self, settings: DropoutSettings, layers: Sequence[int], hidden: int, device: torch.device
    ) -> None:
        self._settings, self._layers, self._hidden = settings, layers, hidden
        self._epoch = 0
        self._keys: list[int] = []
        # Always the same memory, so that a recorded CUDA graph finds this epoch's keys. The last key is that
        # of layer 0, the input layer, which every stage runs where initial rows are recomputed:
        #
        #     layers 4 5 6   keys [k4, k5, k6, k0]
        self._on_device = torch.zeros(len(layers) + 1, dtype=torch.int64, device=device)
        self._each = self._on_device.split(1)

    def begin_epoch(self, epoch: int) -> None:
        """Choose the epoch's masks, and copy their keys to the device, once an epoch."""
        self._epoch = epoch
        self._keys = [self._key(layer, epoch) for layer in self._layers]
        self._on_device.copy_(torch.tensor([*self._keys, self._key(0, epoch)]))

    def of_chunk(self, data: ChunkData) -> ChunkMasks | None:
        """Random bytes for several layers of a chunk at a time; None where each tile makes its own."""
        if self._settings.rate == 0 or len(data.tiles) != 1 or not ops.of(data.device).hashes_ahead:
            return None
        return ChunkMasks(data.node_id, self._hidden, self._on_device[:-1])

    def of_layer(
        self, number: int, data: ChunkData, hashed: ChunkMasks | None = None, rate: float | None = None
    ) -> list[Dropout]:
        """The dropout of each tile of a chunk.

        Args:
            number: global number of the layer.
            data: the chunk.
            rate: share of the entries that the layer drops; None for that of the run.
            hashed: random bytes of the chunk from `of_chunk`. Layer 0 doesn't use them, as features have
                another width.
        """
        place = number - self._layers[0]
        bits = hashed.bits(place) if hashed is not None and number > 0 else None
        key = self._keys[place] if place >= 0 else self._key(number, self._epoch)
        key_on_device = self._each[max(place, -1)]  # the last one for layer 0 of another stage
        rate = self._settings.rate if rate is None else rate
        return [Dropout(rate, key, tile.node_id, bits, key_on_device) for tile in data.tiles]

    def of_tile(self, number: int, tile: Tile, epoch: int, rate: float | None = None) -> Dropout:
        """The dropout of one tile in a layer, in any epoch."""
        rate = self._settings.rate if rate is None else rate
        return Dropout(rate, self._key(number, epoch), tile.node_id)

    def noise(self, data: ChunkData, num_streams: int, width: int) -> Tensor:
        """Random bytes, uint8 ``[streams, n, width]``, to round the gradient of a chunk that leaves with."""
        # negative numbers are no layer's: the noise has nothing in common with any mask
        key = dropout_key(self._settings.seed, self._epoch, -1 - self._layers[0])
        keys = torch.full((1,), key, dtype=torch.int64, device=data.device)
        bits = ChunkMasks(data.node_id, num_streams * width, keys).bits(0)
        return bits.reshape(-1, num_streams, width).transpose(0, 1)

    def _key(self, layer: int, epoch: int) -> int:
        return dropout_key(self._settings.seed, epoch // self._settings.hold, layer)
