"""Rows that travel between neighbouring stages, beside the computation."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

# Sends that may be under way at once: enough never to wait for in a steady pipeline, few enough that their
# buffers don't add up to an epoch's worth.
MOST_SENDS_UNDER_WAY = 8


@dataclass(frozen=True)
class Receipt:
    """A receive that was posted; its buffer may be read after `wait`."""

    buffer: Tensor | None
    work: dist.Work | None

    def wait(self) -> Tensor | None:
        """Wait until the rows are here; None where no neighbour sends any."""
        if self.work is not None:
            self.work.wait()
        return self.buffer


NOTHING = Receipt(None, None)


class Messages:
    """Asynchronous sends and receives of one rank, with bytes counted by kind.

    Args:
        device: where buffers live.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._under_way: deque[tuple[dist.Work, Tensor]] = deque()
        self.bytes_sent: Counter[str] = Counter()

    def receive(self, source: int, shape: tuple[int, ...], tag: int) -> Receipt:
        """Post a receive of float32 rows from rank ``source``; an empty message is not sent at all."""
        buffer = torch.empty(shape, device=self._device)
        return Receipt(buffer, dist.irecv(buffer, source, tag=tag) if buffer.numel() else None)

    def send(self, rows: Tensor, target: int, tag: int, kind: str) -> None:
        """Send rows to rank ``target`` without waiting; they must not change until `flush`."""
        if rows.numel() == 0:
            return
        rows = rows.contiguous()
        work = dist.isend(rows, target, tag=tag)
        assert work is not None
        self._under_way.append((work, rows))
        self.bytes_sent[kind] += rows.nbytes
        if len(self._under_way) > MOST_SENDS_UNDER_WAY:
            self._under_way.popleft()[0].wait()

    def flush(self) -> None:
        """Wait until everything that was sent has left."""
        while self._under_way:
            self._under_way.popleft()[0].wait()

    def take_bytes(self) -> dict[str, int]:
        """Bytes sent by kind since the last call."""
        counted = dict(self.bytes_sent)
        self.bytes_sent.clear()
        return counted
