"""What a stage keeps of a chunk from forward to backward."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from gnnpipe.model.dropout import ChunkMasks
from gnnpipe.runtime.stage_layer import LayerPass


@dataclass
class ChunkPass:
    """What a stage keeps of a chunk from forward to backward."""

    masks: ChunkMasks | None
    """For the layers behind the stack's first; None where they are made tile by tile."""
    layers: list[LayerPass] = field(default_factory=list)
    h0: Tensor | None = None
    """Initial rows; None if the model has none."""
    initial: LayerPass | None = None
    """How h0 came about, where the stage recomputes it."""
    h0_gradient: Tensor | None = None
    """What the layers behind have gathered for the initial rows."""
    gradient: Tensor | None = None
    """Of the logits, on the last stage."""
