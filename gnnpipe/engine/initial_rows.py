"""How stages get the initial rows h0 of models that have them: every layer reads those.

# absent      the model has none
# relayed     stage 0 makes h0; forward [h, h0] travel on, backward the gradients of both
# recomputed  each stage makes h0 from the features; gradients of the input layer are summed over ranks
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from gnnpipe.engine.chunks import ChunkData
from gnnpipe.engine.layers.layer import LayerPass, StageLayer
from gnnpipe.engine.masks import Masks
from gnnpipe.nn.layer import Given
from gnnpipe.nn.models import ModelSpec
from gnnpipe.nn.running import WeightProduct
from gnnpipe.schedule.plan import Plan


@dataclass
class InitialPass:
    """A chunk's initial rows from forward to backward; all None where the model has none."""

    rows: Given = None
    """``[n, hidden]``, from the moment that the chunk has them."""
    gradient: Given = None
    """``[n, hidden]``: sum of the gradients from the layers that have run backward."""
    made: LayerPass | None = None
    """Saved activations of the input layer, if this stage holds it beside its own layers."""


class InitialRows:
    """The initial rows of a stage; this class is for models that have none.

    Args:
        own: layers of the stage.
        build: builds the model's input layer; called only where the stage needs one beside its own layers.
        hidden: columns of the initial rows.
    """

    exist: ClassVar[bool] = False
    num_streams: ClassVar[int] = 1
    """Rows of a node that cross a stage boundary."""
    on_every_stage: ClassVar[bool] = False
    """Whether every stage holds the features and the input layer."""

    beside: Sequence[StageLayer] = ()
    """The input layer, where the stage holds it beside its own layers."""
    shared: Sequence[StageLayer] = ()
    """Layers that every rank holds a copy of; the gradients of their weights are summed over all ranks."""

    def __init__(self, own: Sequence[StageLayer], build: Callable[[], StageLayer], hidden: int) -> None:
        """Build nothing."""
        self._hidden = hidden

    def start_at(self, layer: StageLayer) -> bool:
        """Whether the output rows of one of the stage's own layers are the initial rows."""
        return self.exist and layer.spec.number == 0

    def enter(
        self,
        index: int,
        data: ChunkData,
        rows: Tensor,
        kept: InitialPass,
        masks: Masks,
        products: list[WeightProduct],
    ) -> None:
        """Get the initial rows of a chunk that comes in on a stage behind the first.

        Args:
            index: number of the chunk.
            data: the chunk.
            rows: rows that the stage before sent, ``[streams, n, hidden]``.
            kept: gets the initial rows.
            masks: dropout of the stage.
            products: list to which products that make gradients of weights are added.
        """

    def enter_back(self, rows: Tensor | None, kept: InitialPass) -> None:
        """Begin the sum of the gradients of a chunk's initial rows.

        Args:
            rows: gradients that the stage behind sent, ``[streams, n, hidden]``; None on the last stage.
            kept: gets the sum.
        """

    def leave_back(self, index: int, data: ChunkData, kept: InitialPass) -> None:
        """Use the sum, once the chunk has run backward through all layers of the stage."""

    def packed(self, h: Tensor, initial: Given) -> Tensor:
        """The tensor ``[streams, n, hidden]`` that crosses a stage boundary: hidden rows and initial rows, or
        gradients of both."""
        return h.unsqueeze(0)

    def received(self, packed: Sequence[Tensor]) -> list[Tensor]:
        """The initial rows of each chunk among the rows that the stage before sent, if they travel."""
        return []


class Relayed(InitialRows):
    """The first stage makes them, and they travel along with the hidden rows.

    Both have one width there: where hidden rows come with joined ones (jumping knowledge), zeros fill up the
    initial rows.
    """

    exist = True
    num_streams = 2

    def enter(
        self,
        index: int,
        data: ChunkData,
        rows: Tensor,
        kept: InitialPass,
        masks: Masks,
        products: list[WeightProduct],
    ) -> None:
        kept.rows = rows[1, :, : self._hidden]

    def enter_back(self, rows: Tensor | None, kept: InitialPass) -> None:
        # the stages behind have summed the gradients of their layers; the last stage begins at 0
        kept.gradient = torch.zeros_like(kept.rows) if rows is None else rows[1, :, : self._hidden]

    def packed(self, h: Tensor, initial: Tensor) -> Tensor:
        return torch.stack([h, F.pad(initial, (0, h.shape[1] - self._hidden))])

    def received(self, packed: Sequence[Tensor]) -> list[Tensor]:
        return [rows[1, :, : self._hidden] for rows in packed]


class Recomputed(InitialRows):
    """Every stage makes them from the features, with the same weights and the same dropout masks."""

    exist = True
    on_every_stage = True

    def __init__(self, own: Sequence[StageLayer], build: Callable[[], StageLayer], hidden: int) -> None:
        super().__init__(own, build, hidden)
        self.beside = () if self.start_at(own[0]) else (build(),)
        self.shared = self.beside or own[:1]

    def enter(
        self,
        index: int,
        data: ChunkData,
        rows: Tensor,
        kept: InitialPass,
        masks: Masks,
        products: list[WeightProduct],
    ) -> None:
        # the stage's copy of the input layer; the same weights and masks make the same rows on every stage
        (layer,) = self.beside
        drops = masks.of_layer(layer.spec.number, data, rate=layer.module.drop_rate)
        kept.made = layer.put(index, data, data.features, drops, products)
        kept.rows = layer.take(index, data, kept.made, None)

    def enter_back(self, rows: Tensor | None, kept: InitialPass) -> None:
        # each stage differentiates its own copy of the input layer, so no gradient comes from behind
        kept.gradient = torch.zeros_like(kept.rows)

    def leave_back(self, index: int, data: ChunkData, kept: InitialPass) -> None:
        if kept.made is not None:
            (layer,) = self.beside
            layer.put_back(index, data, kept.made, kept.gradient, None)


def initial_rows_of(spec: ModelSpec, plan: Plan) -> type[InitialRows]:
    """How the stages of a plan get a model's initial rows."""
    if not spec.has_initial:
        return InitialRows
    return Recomputed if plan.recomputes_initial else Relayed
