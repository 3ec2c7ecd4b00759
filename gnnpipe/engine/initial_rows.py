"""How stages get the initial rows h0 of models that have them, which every layer reads.

# absent      the model has none
# relayed     stage 0 makes h0 | forward [h, h0] travel on, backward their gradients
# recomputed  each stage makes h0 from the features; gradients of the input layer are summed over ranks
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gnnpipe.engine.chunks import ChunkData
from gnnpipe.engine.layer import LayerPass, StageLayer
from gnnpipe.engine.masks import Masks
from gnnpipe.nn.models import ModelSpec
from gnnpipe.nn.running import WeightProduct
from gnnpipe.schedule.plan import Plan


@dataclass
class InitialPass:
    """A chunk's initial rows from forward to backward; nothing where the model has none."""

    rows: Tensor | None = None
    """``[n, hidden]``."""
    gradient: Tensor | None = None
    """What the layers behind have gathered for them."""
    made: LayerPass | None = None
    """How they came about, where the stage recomputes them."""


class InitialRows:
    """The initial rows of a stage; this class is for models that have none.

    Args:
        own: layers of the stage.
        build: builds the model's input layer; not called unless the stage needs it beside its own layers.
    """

    exist: ClassVar[bool] = False
    num_streams: ClassVar[int] = 1
    """Rows of a node that cross a stage boundary."""
    on_every_stage: ClassVar[bool] = False
    """Whether every stage holds the features and the input layer."""

    beside: Sequence[StageLayer] = ()
    """Layers that the stage holds for them beside its own."""
    shared: Sequence[StageLayer] = ()
    """Layers whose weights all ranks share."""

    def __init__(self, own: Sequence[StageLayer], build: Callable[[], StageLayer]) -> None:
        """Nothing to build."""

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
        """A chunk comes in on a stage behind the first.

        Args:
            index: number of the chunk.
            data: the chunk.
            rows: what the stage before sent, ``[streams, n, hidden]``.
            kept: of the chunk.
            masks: of the stage.
            products: where gradients of weights are left.
        """

    def enter_back(self, rows: Tensor | None, kept: InitialPass) -> None:
        """A chunk's gradient comes in; ``rows`` is None on the last stage."""

    def leave_back(self, index: int, data: ChunkData, kept: InitialPass) -> None:
        """A chunk's gradient is through all layers of the stage."""

    def packed(self, h: Tensor, initial: Tensor | None) -> Tensor:
        """Rows, or gradients, with those of the initial rows: what crosses a stage boundary."""
        return h.unsqueeze(0)

    def received(self, packed: Sequence[Tensor]) -> list[Tensor]:
        """The initial rows in what the stage before sent of each chunk, if they travel."""
        return []


class Relayed(InitialRows):
    """The first stage makes them, and they travel along with the hidden rows."""

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
        kept.rows = rows[1]

    def enter_back(self, rows: Tensor | None, kept: InitialPass) -> None:
        assert kept.rows is not None
        kept.gradient = torch.zeros_like(kept.rows) if rows is None else rows[1]

    def packed(self, h: Tensor, initial: Tensor | None) -> Tensor:
        assert initial is not None
        return torch.stack([h, initial])

    def received(self, packed: Sequence[Tensor]) -> list[Tensor]:
        return [rows[1] for rows in packed]


class Recomputed(InitialRows):
    """Every stage makes them from the features, with the same weights and the same dropout masks."""

    exist = True
    on_every_stage = True

    def __init__(self, own: Sequence[StageLayer], build: Callable[[], StageLayer]) -> None:
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
        (layer,) = self.beside
        drops = masks.of_layer(layer.spec.number, data)
        kept.made = layer.put(index, data, data.features, drops, products)
        kept.rows = layer.take(index, data, kept.made, None)

    def enter_back(self, rows: Tensor | None, kept: InitialPass) -> None:
        assert kept.rows is not None
        kept.gradient = torch.zeros_like(kept.rows)

    def leave_back(self, index: int, data: ChunkData, kept: InitialPass) -> None:
        if kept.made is not None:
            assert kept.gradient is not None
            (layer,) = self.beside
            layer.put_back(index, data, kept.made, kept.gradient, None)


def initial_rows_of(spec: ModelSpec, plan: Plan) -> type[InitialRows]:
    """How the stages of a plan get a model's initial rows."""
    if not spec.has_initial:
        return InitialRows
    return Recomputed if plan.recomputes_initial else Relayed
