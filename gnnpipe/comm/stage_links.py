"""Rows that travel between neighbouring stages, beside the computation."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor

from gnnpipe.comm.groups import Links
from gnnpipe.comm.place import Place
from gnnpipe.comm.transport import Transfer
from gnnpipe.comm.watchdog import Waiting

# Sends that may be under way at once: enough never to wait for in a steady pipeline, few enough that their
# buffers don't add up to an epoch's worth.
MOST_SENDS_UNDER_WAY = 8


@dataclass(frozen=True)
class Receipt:
    """A receive that was posted; its buffer may be read after `wait`."""

    buffer: Tensor | None
    transfer: Transfer | None = None
    waiting: Waiting = field(default_factory=Waiting)
    sender: str = ""

    def wait(self) -> Tensor | None:
        """Wait until the rows are here; None where no neighbour sends any."""
        if self.transfer is not None:
            with self.waiting.on(self.sender):
                self.transfer.wait()
        return self.buffer


NOTHING = Receipt(None)


class Messages:
    """Asynchronous sends and receives of one rank, with bytes counted by kind.

    Args:
        place: this rank's.
        device: where buffers live.
        links: a group for each direction, and where bytes are counted.
    """

    def __init__(self, place: Place, device: torch.device, links: Links) -> None:
        self._place, self._device, self._links = place, device, links
        self._under_way: deque[Transfer] = deque()

    def connect(self) -> None:
        """Exchange a number with each neighbouring stage, and with the parts of this one.

        NCCL sets a connection up when it is first used, and all sides wait for it; here they do so in an
        order that can't deadlock, and before any receive is posted ahead.
        """
        if self._place.num_parts > 1:
            for group in (self._links.halo, self._links.weights):
                dist.all_reduce(torch.zeros(1, device=self._device), group=group)
        if self._place.num_stages > 1:
            dist.all_reduce(torch.zeros(1, device=self._device), group=self._links.shared)
        for toward in (1, -1):
            self.receive(-toward, (1,), tag=0).wait()
            self.send(torch.zeros(1, device=self._device), toward, tag=0, kind="set-up")
            self.flush()
        self._links.take_bytes()

    def receive(
        self, toward: int, shape: tuple[int, ...], tag: int, dtype: torch.dtype = torch.float32
    ) -> Receipt:
        """Post a receive from the stage before (-1) or behind (1).

        An empty message is not sent at all, and at the ends of the pipeline there is nobody to send one.
        """
        source = self._place.stage + toward
        if not 0 <= source < self._place.num_stages:
            return NOTHING
        buffer = torch.empty(shape, dtype=dtype, device=self._device)
        if not buffer.numel():
            return Receipt(buffer)
        group = self._links.down if toward < 0 else self._links.up
        rank = self._place.neighbour(source)
        transfer = self._links.carrier.receive(buffer, rank, group, tag)
        return Receipt(buffer, transfer, self._links.waiting, f"rows of stage {source} (rank {rank})")

    def send(self, rows: Tensor, toward: int, tag: int, kind: str) -> None:
        """Send rows to the stage behind (1) or before (-1) without waiting; nothing at the pipeline's ends.

        The rows must not change until `flush`.
        """
        target = self._place.stage + toward
        if rows.numel() == 0 or not 0 <= target < self._place.num_stages:
            return
        rows = rows.contiguous()
        group = self._links.down if toward > 0 else self._links.up
        self._under_way.append(self._links.carrier.send(rows, self._place.neighbour(target), group, tag))
        self._links.bytes_sent[kind] += rows.nbytes
        if len(self._under_way) > MOST_SENDS_UNDER_WAY:
            self._wait_for_oldest()

    def flush(self) -> None:
        """Wait until everything that was sent has left."""
        while self._under_way:
            self._wait_for_oldest()

    def _wait_for_oldest(self) -> None:
        with self._links.waiting.on(f"a neighbour of stage {self._place.stage} to take its rows"):
            self._under_way.popleft().wait()
