"""The engine: runs a stage's list of actions for one epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
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
    """Loss and times of one stage in one epoch."""

    loss_sum: float
    """Sum of the losses of this part's training nodes; 0 on all stages but the last."""
    spans: list[Span]
    """Times of each action."""
    finished: float
    """Time at which the gradients of all weights were summed over the parts, on the clock of ``spans``."""


@dataclass(frozen=True)
class EpochUnderWay:
    """An epoch whose work a CUDA device has been given, and may not have done yet."""

    clock: Clock
    marks: list[Mark]
    """Three an action (asked for its rows, had them, was done), and the end of the epoch."""
    halo: list[tuple[HaloWait, ...]]
    """Waits of each action."""
    losses: list[Tensor]
    """Sums of the losses of each chunk."""

    @cached_property
    def result(self) -> EpochResult:
        """Loss and times; waits for the device."""
        *times, finished = self.clock.seconds(self.marks)
        by_action = zip(times[::3], times[1::3], times[2::3], self.halo, strict=True)
        spans = [Span(asked, start, stop, waits) for asked, start, stop, waits in by_action]
        # read at once, as each read waits for the device; tolist makes doubles, so they add up as such
        loss_sum = sum(torch.stack(self.losses).tolist()) if self.losses else 0.0
        return EpochResult(loss_sum, spans, finished)


class ChunkWork(Protocol):
    """The work on chunks, by a `Stage` itself or by its recorded graphs; see `Stage` for arguments."""

    def begin_epoch(self, epoch: int, order: list[int]) -> None:
        """Begin an epoch."""

    def prepare(self) -> None:
        """Compute what depends on the weights alone."""

    def forward(self, action: Action, rows: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """Admit a chunk and bring chunks forward."""

    def backward(self, action: Action, rows: Tensor | None) -> Tensor | None:
        """Admit a chunk's gradient and bring gradients back."""

    def add_products(self) -> None:
        """Compute the gradients of weights that were left."""


class Engine:
    """Carries out a list of actions; it knows stages and messages, but no schedule by name.

        # stage 1 of 3, chunks c0 c1 c2 in the epoch's order
        # receive c0 | receive c1       | receive c2       |    ...
        #            | F0, then send c0 | F1, then send c1 | F2 ...

    An action's receive is posted before the action in front of it is computed, and sends are not waited for.
    On the way back the gradient of rows, for which the stage before waits, is sent before the gradients of
    weights are computed.

    Args:
        stage: stage of this rank.
        actions: its actions, in order.
        messages: to and from the neighbouring stages.
        clock: times the actions.
        wire: number format of rows between stages.
        work: carries out the actions; by default the stage itself.
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

    def run_epoch(self, epoch: int, order: list[int]) -> EpochUnderWay:
        """Run all actions of an epoch.

        Args:
            epoch: number of the epoch.
            order: number of the chunk at each position; the same on every rank.
        """
        self._work.begin_epoch(epoch, order)
        self._work.prepare()
        marks: list[Mark] = []
        halo: list[tuple[HaloWait, ...]] = []
        losses: list[Tensor] = []
        pending = self._post(self._actions[0], order)
        for index, action in enumerate(self._actions):
            # the next receive is posted before this action waits or computes
            upcoming = self._actions[index + 1] if index + 1 < len(self._actions) else None
            following = self._post(upcoming, order) if upcoming else NOTHING
            asked = self._clock.mark()
            message = pending.wait()
            rows = None if message is None else self._wire.decode(message)
            start = self._clock.mark()
            losses += self._perform(action, rows)
            marks += [asked, start, self._clock.mark()]
            halo.append(self._stage.halo.take_waits())
            pending = following
        self._stage.finish_epoch()
        self._messages.settle()
        marks.append(self._clock.mark())
        self._messages.flush()
        return EpochUnderWay(self._clock, marks, halo, losses)

    def _post(self, action: Action, order: list[int]) -> PendingReceive:
        """Post the receive of the rows that ``action`` admits, if a neighbour sends any."""
        if action.enters is None:
            return NOTHING
        toward = -1 if action.kind == "F" else 1
        shape, dtype = self._wire.message(self._stage.shape(order[action.enters], action.kind))
        return self._messages.receive(toward, shape, _tag(action.kind, action.enters), dtype)

    def _perform(self, action: Action, rows: Tensor | None) -> list[Tensor]:
        """Compute, and send on the rows that leave; return the loss that came out, if any did."""
        leaving = action.leaves
        if action.kind == "F":
            out, loss = self._work.forward(action, rows)
            if out is not None and leaving is not None:
                message = out if self._stage.place.is_last else self._wire.encode(out)
                self._messages.send(message, 1, _tag("F", leaving), COMMUNICATION_LAYER)
            return [] if loss is None else [loss]
        back = self._work.backward(action, rows)
        if back is not None and leaving is not None:
            noise = self._stage.noise(leaving) if self._wire.format == "int8" else None
            self._messages.send(self._wire.encode(back, noise), -1, _tag("B", leaving), COMMUNICATION_LAYER)
        self._work.add_products()
        return []


def _tag(kind: str, position: int) -> int:
    """Tag of a message that no other message between the same two ranks has in an epoch.

    Args:
        kind: F or B.
        position: position of the chunk in the epoch's order.
    """
    return 2 * position + (kind == "B")
