"""What a stage keeps of a chunk from forward to backward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from gnnpipe.engine.chunks import ChunkData
from gnnpipe.engine.initial_rows import InitialPass
from gnnpipe.engine.layer import LayerPass, StageLayer
from gnnpipe.nn.dropout import ChunkMasks
from gnnpipe.nn.features import FeatureRows


@dataclass
class ChunkPass:
    """What a stage keeps of a chunk from forward to backward."""

    masks: ChunkMasks | None
    """For the layers behind the stack's first; None where they are made tile by tile."""
    layers: list[LayerPass] = field(default_factory=list)
    initial: InitialPass = field(default_factory=InitialPass)
    gradient: Tensor | None = None
    """Of the logits, on the last stage."""
    forgotten_from: Sequence[FeatureRows] = ()
    """Input rows of the first layer that has let go of something, from which it is made again."""

    def remember(self, layer: StageLayer, h: Sequence[FeatureRows]) -> None:
        """Keep a layer's input rows, if it is the first one that lets go of something."""
        if layer.module.forgotten_columns() and not self.forgotten_from:
            self.forgotten_from = h

    def recall(self, layers: Sequence[StageLayer], data: ChunkData) -> None:
        """Make again what layers have let go of, before the chunk runs backward.

        Args:
            layers: of the stage.
            data: the chunk.
        """
        h, self.forgotten_from = self.forgotten_from, ()
        if not h:
            return
        first = next(number for number, layer in enumerate(layers) if layer.module.forgotten_columns())
        for number in range(first, len(layers)):
            ends = number + 1 == len(layers)
            h = layers[number].recall(data, self.layers[number], h, ends=ends)
