"""What an epoch consists of: seconds and bytes, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gnnpipe.schedule.timeline import Timeline

EngineKind = Literal["ours", "original"]
"""Whose engine: the original waits for its messages, and all its ranks meet behind every step."""


@dataclass(frozen=True)
class LayerWork:
    """What a layer does with one chunk of one part: seconds, and bytes that a part sends to the others."""

    put: float
    """Forward, before boundary rows leave."""
    take: float
    """Forward, while they travel."""
    finish: float
    """Forward, when the other parts' have arrived."""
    back_put: float
    """Backward, likewise."""
    back_take: float
    back_finish: float
    products: float
    """Gradients of weights, when gradients of rows have left."""
    halo: float = 0.0
    halo_back: float = 0.0

    @property
    def forward(self) -> float:
        """Seconds of all forward pieces."""
        return self.put + self.take + self.finish

    @property
    def total(self) -> float:
        """Seconds of everything."""
        return self.forward + self.backward + self.products

    @property
    def backward(self) -> float:
        """Seconds of all backward pieces but the gradients of weights."""
        return self.back_put + self.back_take + self.back_finish


@dataclass(frozen=True)
class Work:
    """What an epoch consists of."""

    layers: tuple[tuple[LayerWork, ...], ...]
    """Of each stage."""
    message: float
    """Bytes of a chunk of one part at a stage boundary, either way."""
    weights: float
    """Bytes that a part sends at the end for the sum of weights' gradients, with nothing to hide behind."""
    epoch: float = 0.0
    """Seconds that an epoch takes besides: the step of the optimiser, records."""
    part_scale: tuple[float, ...] = ()
    """Work of each part over the mean one's; empty if they are alike."""
    chunk_scale: tuple[float, ...] = ()
    """Work of each chunk over the mean one's, by position; empty if they are alike."""


@dataclass(frozen=True)
class Simulated:
    """What an epoch would be like."""

    seconds: float
    timeline: Timeline
    busy: float
    """Seconds of computation of the busiest rank, were it alone on its core."""
