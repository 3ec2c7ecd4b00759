"""Transport of rows between ranks: straight from device memory, or by way of host memory.

direct          rows ----------------- NCCL or gloo ----------------> into
through host    rows -- copy --> host -- gloo --> host -- copy -----> into

CUDA loads a kernel when it is first launched, and for that it waits until the device is idle. A receive that
was posted ahead keeps the device busy until the sender sends, and the sender may be loading kernels for just
that. So work that is done for the first time goes in step: no message is under way while others compute.

ahead      post receive | compute              | wait          in step      compute | post, wait
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor

from gnnpipe.system.device import finish
from gnnpipe.system.memory import host_like


@dataclass(frozen=True)
class Transfer:
    """A send or a receive that is under way."""

    work: dist.Work | Callable[[], dist.Work]
    """The operation of torch.distributed, or a function that posts it: it is then posted by `wait`."""
    sent: Tensor | None = None
    """Rows that are being sent, kept alive until they have left."""
    host: Tensor | None = None
    """Host buffer of a receive through host memory; None where rows arrive in ``into`` directly."""
    into: Tensor | None = None
    """Destination of a receive."""
    in_step: torch.device | None = None
    """Device whose work must be done when `wait` returns; None where it may follow."""

    def wait(self) -> None:
        """Wait until the rows have left, or have arrived in ``into``."""
        (self.work() if callable(self.work) else self.work).wait()
        if self.host is not None and self.into is not None:
            # not waited for: later work of the current stream runs after this copy, and PyTorch keeps pinned
            # memory until it is done
            self.into.copy_(self.host, non_blocking=True)
        if self.in_step is not None:
            finish(self.in_step)


class Carrier:
    """Sends and receives contiguous rows without waiting.

    Ranks that share a CUDA device can't use NCCL, which wants a device for each rank. Gloo takes its place.
    It reads and writes host memory only, so rows are copied there and back.

    Args:
        through_host: whether rows go by way of host memory.
        loads_lazily: whether kernels are loaded as they are first launched, so that work of a new kind has to
            go in step.
    """

    def __init__(self, through_host: bool = False, loads_lazily: bool = False) -> None:
        self.through_host = through_host
        self.in_step = False
        """Whether no message may be under way while anything is computed."""
        self._loads_lazily = loads_lazily
        self._known: set[str] = set()

    @contextmanager
    def first_time(self, work: str) -> Iterator[None]:
        """Go in step as long as the context is open, if it is the first one for this kind of work.

        Args:
            work: the kind; work of one kind launches the same kernels each time.
        """
        self.in_step = self._loads_lazily and work not in self._known
        self._known.add(work)
        try:
            yield
        finally:
            self.in_step = False

    def send(self, rows: Tensor, rank: int, group: dist.ProcessGroup | None, tag: int = 0) -> Transfer:
        """Send rows to a rank; they must not change until the transfer is over."""
        if self.through_host:
            rows = host_like(rows).copy_(rows)  # waits for the device: gloo reads at once
        work = dist.isend(rows, rank, group=group, tag=tag)
        assert work is not None
        return Transfer(work, sent=rows, in_step=self._device_of(rows))

    def receive(self, into: Tensor, rank: int, group: dist.ProcessGroup | None, tag: int = 0) -> Transfer:
        """Receive rows from a rank; ``into`` must not be read until the transfer is over."""
        host = host_like(into) if self.through_host else None
        post = partial(_receive, into if host is None else host, rank, group, tag)
        device = self._device_of(into)
        return Transfer(post() if device is None else post, host=host, into=into, in_step=device)

    def exchange(
        self,
        receives: Sequence[tuple[Tensor, int]],
        sends: Sequence[tuple[Tensor, int]],
        group: dist.ProcessGroup | None,
    ) -> list[Transfer]:
        """Receive and send at once, as all ranks of a group do.

        NCCL runs a group's operations one by one, so two ranks that each sent first would deadlock; in a
        batch it runs them together.

        Args:
            receives: destinations, each with the rank that its rows come from.
            sends: rows, each with the rank that they go to.
            group: process group of all ranks that take part.

        Returns:
            The transfers that are under way.
        """
        if self.through_host:
            arriving = [self.receive(rows, rank, group) for rows, rank in receives]
            return arriving + [self.send(rows, rank, group) for rows, rank in sends]
        operations = [
            dist.P2POp(operation, rows, rank, group)
            for operation, pieces in ((dist.irecv, receives), (dist.isend, sends))
            for rows, rank in pieces
        ]
        # NCCL returns one work for the whole batch, gloo one for each operation
        if not operations:
            return []
        device = self._device_of(operations[0].tensor)
        transfers = [Transfer(work, in_step=device) for work in dist.batch_isend_irecv(operations)]
        if not self.in_step:
            return transfers
        for transfer in transfers:
            transfer.wait()
        return []  # gloo would wait for further messages if it were asked again

    def pace(self, rows: Tensor) -> None:
        """After a collective operation on ``rows``: wait for it if all goes in step."""
        if self.in_step:
            finish(rows.device)

    def _device_of(self, rows: Tensor) -> torch.device | None:
        """The device whose work must be done when a message is over; None unless all go in step."""
        return rows.device if self.in_step else None


def _receive(into: Tensor, rank: int, group: dist.ProcessGroup | None, tag: int) -> dist.Work:
    work = dist.irecv(into, rank, group=group, tag=tag)
    assert work is not None
    return work
