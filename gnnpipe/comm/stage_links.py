"""Messages: rows and gradients that travel between neighbouring stages while the ranks compute.

    stage 0   -- rows of chunk c (down, +1) -->   stage 1   -->   stage 2
              <-- its gradient (up, -1) --------            <--

A stage posts the receive of its next chunk before it computes the current one, and doesn't wait for sends.
"""

from __future__ import annotations

from collections import deque
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor

from gnnpipe.comm.groups import Links
from gnnpipe.comm.place import Place
from gnnpipe.comm.transport import Transfer
from gnnpipe.comm.watchdog import Waiting

# Most sends under way at once (back-pressure). A steady pipeline has fewer and never waits; without a limit
# the buffers of a fast stage could add up to an epoch's rows.
MOST_SENDS_UNDER_WAY = 8


@dataclass(frozen=True)
class PendingReceive:
    """A receive that was posted; its buffer must not be read before `wait`."""

    buffer: Tensor | None
    """The rows, once they are here; None where there is no neighbour."""
    transfer: Transfer | None = None
    """The receive; None where nothing travels."""
    waiting: Waiting = field(default_factory=Waiting)
    """Notes the wait."""
    sender: str = ""
    """The rows and their sender in words, for messages about a wait."""

    def wait(self) -> Tensor | None:
        """Wait for the rows and return them; None where no neighbour sends any."""
        if self.transfer is not None:
            with self.waiting.on(self.sender):
                self.transfer.wait()
            if self.buffer is not None:
                self.waiting.later(self.sender, self.buffer.device)
        return self.buffer


NOTHING = PendingReceive(None)


class Messages:
    """Asynchronous sends and receives of one rank, with bytes counted by kind.

    Args:
        place: place of this rank in the plan.
        device: device of the rows and of the buffers.
        links: a process group for each direction, and the count of bytes.
    """

    def __init__(self, place: Place, device: torch.device, links: Links) -> None:
        self._place, self._device, self._links = place, device, links
        self._under_way: deque[Transfer] = deque()

    def connect(self) -> None:
        """Exchange a number over each connection that this rank will use.

        NCCL sets up a connection at its first use, and both sides wait for that. Here they do so in an order
        that can't deadlock, and before any receive is posted ahead.
        """
        if self._place.num_parts > 1:
            for group in (self._links.halo, self._links.weights):
                dist.all_reduce(torch.zeros(1, device=self._device), group=group)
        if self._place.num_stages > 1:
            dist.all_reduce(torch.zeros(1, device=self._device), group=self._links.shared)
        # A wave down the pipeline, then one up: each stage passes on what it has received, and the stage at
        # the end of a wave waits for no one.
        for toward in (1, -1):
            self.receive(-toward, (1,), tag=0).wait()
            self.send(torch.zeros(1, device=self._device), toward, tag=0, kind="set-up")
            self.flush()
        self._links.take_bytes()

    def receive(
        self, toward: int, shape: tuple[int, ...], tag: int, dtype: torch.dtype = torch.float32
    ) -> PendingReceive:
        """Post a receive from the stage before (-1) or behind (1), without waiting.

        Nothing is posted for an empty message, which is not sent at all, nor at the ends of the pipeline.

        Args:
            toward: which neighbour sends.
            shape: shape of the message.
            tag: tag of the message, the same as the sender's.
            dtype: number format of the message.
        """
        source = self._place.stage + toward
        if not 0 <= source < self._place.num_stages:
            return NOTHING
        buffer = torch.empty(shape, dtype=dtype, device=self._device)
        if not buffer.numel():
            return PendingReceive(buffer)
        # a group for each direction: the receive from above must not hold up the one from below
        group = self._links.down if toward < 0 else self._links.up
        rank = self._place.neighbour(source)
        transfer = self._links.carrier.receive(buffer, rank, group, tag)
        return PendingReceive(buffer, transfer, self._links.waiting, f"rows of stage {source} (rank {rank})")

    def send(self, rows: Tensor, toward: int, tag: int, kind: str) -> None:
        """Send rows to the stage behind (1) or before (-1), usually without waiting.

        With `MOST_SENDS_UNDER_WAY` under way it waits for the oldest. At the ends of the pipeline nothing is
        sent.

        Args:
            rows: rows to send; they must not change until `flush`.
            toward: which neighbour receives.
            tag: tag of the message.
            kind: kind under which the bytes are counted.
        """
        target = self._place.stage + toward
        if rows.numel() == 0 or not 0 <= target < self._place.num_stages:
            return
        rows = rows.contiguous()
        group = self._links.down if toward > 0 else self._links.up
        self._under_way.append(self._links.carrier.send(rows, self._place.neighbour(target), group, tag))
        self._links.bytes_sent[kind] += rows.nbytes
        if self._links.carrier.in_step:
            self.flush()
        elif len(self._under_way) > MOST_SENDS_UNDER_WAY:
            self._wait_for_oldest()

    def flush(self) -> None:
        """Wait until all rows that were sent have left; their tensors may change again."""
        while self._under_way:
            self._wait_for_oldest()

    def settle(self) -> None:
        """Wait until all messages that this rank waits for have come, before it waits for its device."""
        self._links.waiting.settle()

    def first_time(self, work: str) -> AbstractContextManager[None]:
        """Keep messages and computing apart the first time that a kind of work is done: see `Carrier`."""
        return self._links.carrier.first_time(work)

    def _wait_for_oldest(self) -> None:
        awaited = f"a neighbour of stage {self._place.stage} to take its rows"
        with self._links.waiting.on(awaited):
            self._under_way.popleft().wait()
        self._links.waiting.later(awaited, self._device)
