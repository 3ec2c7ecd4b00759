"""The engine: runs a stage's list of actions for one epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from gnnpipe.comm.clock import Clock, Mark
from gnnpipe.comm.stage_links import NOTHING, Messages, PendingReceive
from gnnpipe.comm.wire import AS_IT_IS, Wire
from gnnpipe.engine.stage import Stage
from gnnpipe.schedule.actions import Action
from gnnpipe.schedule.timeline import HaloWait, Span

COMMUNICATION_LAYER = "communication-layer"


@dataclass(frozen=True)
class EpochResult:
    """What one stage saw of one epoch."""

    loss_sum: float
    """Sum of this part's training nodes' losses; 0 but on the last stage."""
    spans: list[Span]
    """One for each action."""
    finished: float
    """When the gradients of all weights were summed over the parts."""


class ChunkWork(Protocol):
    """What is done with chunks: a stage, or a stage's recorded work; see `Stage` for the methods."""

    def begin_epoch(self, epoch: int, order: list[int]) -> None:
        """An epoch begins."""

    def forward(self, action: Action, rows: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """Bring chunks forward."""

    def backward(self, action: Action, rows: Tensor | None) -> Tensor | None:
        """Bring gradients of chunks back."""

    def add_products(self) -> None:
        """Compute the gradients of weights that were left."""


class Engine:
    """Interprets actions; it knows stages and messages, but no schedule by name.

        # stage 1 of 3, chunks c0 c1 c2 in the epoch's order
        # receive c0 | receive c1       | receive c2       |    ...
        #            | F0, then send c0 | F1, then send c1 | F2 ...

    The receive for an action is posted before the action in front of it is computed, and sends are not
    waited for. Gradients of rows leave before gradients of weights are computed, for which nobody waits.
    """

    def __init__(
        self,
        stage: Stage,
        actions: Sequence[Action],
        messages: Messages,
        clock: Clock,
        wire: Wire = AS_IT_IS,
        work: ChunkWork | None = None,
    ) -> None:
        self._stage = stage
        self._work = work or stage
        self._wire = wire
        self._actions = actions
        self._messages = messages
        self._clock = clock

    def run_epoch(self, epoch: int, order: list[int]) -> EpochResult:
        """Run all actions with the chunks in ``order``."""
        self._work.begin_epoch(epoch, order)
        marks: list[Mark] = []
        halo: list[tuple[HaloWait, ...]] = []
        losses: list[Tensor] = []
        receipt = self._post(self._actions[0], order)
        for index, action in enumerate(self._actions):
            upcoming = self._actions[index + 1] if index + 1 < len(self._actions) else None
            following = self._post(upcoming, order) if upcoming else NOTHING
            asked = self._clock.mark()
            message = receipt.wait()
            rows = None if message is None else self._wire.decode(message)
            start = self._clock.mark()
            losses += self._perform(action, rows)
            marks += [asked, start, self._clock.mark()]
            halo.append(self._stage.halo.take_waits())
            receipt = following
        self._stage.finish_epoch()
        *moments, finished = self._clock.seconds([*marks, self._clock.mark()])
        self._messages.flush()
        thirds = zip(moments[::3], moments[1::3], moments[2::3], halo, strict=True)
        spans = [Span(asked, start, stop, waits) for asked, start, stop, waits in thirds]
        # the numbers are read once, and added up in double precision
        loss_sum = sum(torch.stack(losses).tolist()) if losses else 0.0
        return EpochResult(loss_sum, spans, finished)

    def _post(self, action: Action, order: list[int]) -> PendingReceive:
        """Post the receive of what ``action`` reads, if a neighbour sends it."""
        if action.enters is None:
            return NOTHING
        toward = -1 if action.kind == "F" else 1
        shape, dtype = self._wire.message(self._stage.shape(order[action.enters]))
        return self._messages.receive(toward, shape, _tag(action.kind, action.enters), dtype)

    def _perform(self, action: Action, rows: Tensor | None) -> list[Tensor]:
        """Compute and send on; return the loss that came out, if any did."""
        if action.kind == "F":
            out, loss = self._work.forward(action, rows)
            if out is not None:
                self._send(out if self._stage.place.is_last else self._wire.encode(out), 1, action)
            return [] if loss is None else [loss]
        back = self._work.backward(action, rows)
        if back is not None:
            noise = self._stage.noise(action) if self._wire.format == "int8" else None
            self._send(self._wire.encode(back, noise), -1, action)
        self._work.add_products()
        return []

    def _send(self, message: Tensor, toward: int, action: Action) -> None:
        assert action.leaves is not None
        self._messages.send(message, toward, _tag(action.kind, action.leaves), COMMUNICATION_LAYER)


def _tag(kind: str, position: int) -> int:
    """Tells the message of the chunk at a position from every other one of the epoch between two ranks."""
    return 2 * position + (kind == "B")
