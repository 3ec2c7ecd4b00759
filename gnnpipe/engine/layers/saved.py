"""The saved activations of a chunk in all layers of a stage, from forward to backward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from gnnpipe.engine.chunks import ChunkData
from gnnpipe.engine.initial_rows import InitialPass
from gnnpipe.engine.layers.layer import LayerPass, StageLayer
from gnnpipe.nn.dropout import ChunkMasks
from gnnpipe.nn.features import FeatureRows


@dataclass
class ChunkPass:
    """The saved activations of a chunk in all layers of a stage, from forward to backward.

    With recomputation some layers drop theirs. Of such layers in a row only the input rows of the first are
    kept; the way back makes the others again, layer by layer:

        # layers          0 dense   1 drops   2 drops   3 drops   4 dense
        # input rows        kept      kept     = out 1   = out 2    kept
        # recall                       1 ------> 2 ------> 3
    """

    masks: ChunkMasks | None
    """Random bytes for all layers but the model's first; None where they are made tile by tile."""
    layers: list[LayerPass] = field(default_factory=list)
    """Saved activations of the layers that the chunk has entered."""
    initial: InitialPass = field(default_factory=InitialPass)
    """Its initial rows."""
    gradient: Tensor | None = None
    """Gradient of the logits, on the last stage."""
    forgetful: dict[int, Sequence[FeatureRows]] = field(default_factory=dict)
    """Input rows of the layers that drop saved activations, by the layer's index in the stage; empty where
    they are the output rows of another such layer."""
    reverting: dict[int, Tensor] = field(default_factory=dict)
    """Output rows of the last one of layers in a row that keep nothing, by its index in the stage."""

    def forget_all(self, place: int, out: Tensor) -> None:
        """Drop what a layer has saved, which follows from its output rows ``out``; those of the layer in
        front follow from its own."""
        self.layers[place] = LayerPass([])
        self.reverting.pop(place - 1, None)
        self.reverting[place] = out

    def remember(self, layer: StageLayer, h: Sequence[FeatureRows]) -> None:
        """Keep the input rows ``h`` of the layer that was put last, if `recall` will need them."""
        if layer.recomputes:
            place = len(self.layers) - 1
            self.forgetful[place] = () if place - 1 in self.forgetful else h

    def recall(self, layers: Sequence[StageLayer], data: ChunkData) -> None:
        """Make the dropped saved activations again, before the chunk runs backward.

        Args:
            layers: layers of the stage.
            data: the chunk.
        """
        h: Sequence[FeatureRows] = ()
        for place, rows in self.forgetful.items():
            ends = place + 1 not in self.forgetful
            h = layers[place].recall(data, self.layers[place], rows or h, ends=ends)
        self.forgetful = {}
