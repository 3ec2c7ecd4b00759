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
    forgetful: dict[int, Sequence[FeatureRows]] = field(default_factory=dict)
    """Input rows of the layers that let go of something, by their place in the stage; nothing where they are
    the output rows of another such layer, which are made again."""

    def remember(self, layer: StageLayer, h: Sequence[FeatureRows]) -> None:
        """Keep the input rows of the layer that was put last, as far as they are needed."""
        if layer.recomputes:
            place = len(self.layers) - 1
            self.forgetful[place] = () if place - 1 in self.forgetful else h

    def recall(self, layers: Sequence[StageLayer], data: ChunkData) -> None:
        """Make again what layers have let go of, before the chunk runs backward.

        Args:
            layers: of the stage.
            data: the chunk.
        """
        h: Sequence[FeatureRows] = ()
        for place, rows in self.forgetful.items():
            ends = place + 1 not in self.forgetful
            h = layers[place].recall(data, self.layers[place], rows or h, ends=ends)
        self.forgetful = {}
