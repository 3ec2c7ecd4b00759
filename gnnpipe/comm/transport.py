"""Transport of rows between ranks: straight from device memory, or by way of host memory.

direct          rows ----------------- NCCL or gloo ----------------> into
through host    rows -- copy --> host -- gloo --> host -- copy -----> into
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Transfer:
    """A send or a receive that is under way."""

    work: dist.Work
    """The operation of torch.distributed."""
    sent: Tensor | None = None
    """Rows that are being sent, kept alive until they have left."""
    host: Tensor | None = None
    """Host buffer of a receive through host memory; None where rows arrive in ``into`` directly."""
    into: Tensor | None = None
    """Destination of a receive."""

    def wait(self) -> None:
        """Wait until the rows have left, or have arrived in ``into``."""
        self.work.wait()
        if self.host is not None and self.into is not None:
            # not waited for: later work of the current stream runs after this copy, and PyTorch keeps pinned
            # memory until it is done
            self.into.copy_(self.host, non_blocking=True)


@dataclass(frozen=True)
class Carrier:
    """Sends and receives contiguous rows without waiting.

    Ranks that share a CUDA device can't use NCCL, which wants a device for each rank. Gloo takes its place.
    It reads and writes host memory only, so rows are copied there and back.
    """

    through_host: bool = False
    """Whether rows go by way of host memory."""

    def send(self, rows: Tensor, rank: int, group: dist.ProcessGroup | None, tag: int = 0) -> Transfer:
        """Send rows to a rank; they must not change until the transfer is over."""
        if self.through_host:
            rows = self._on_host(rows).copy_(rows)  # waits for the device: gloo reads at once
        work = dist.isend(rows, rank, group=group, tag=tag)
        assert work is not None
        return Transfer(work, sent=rows)

    def receive(self, into: Tensor, rank: int, group: dist.ProcessGroup | None, tag: int = 0) -> Transfer:
        """Receive rows from a rank; ``into`` must not be read until the transfer is over."""
        host = self._on_host(into) if self.through_host else None
        work = dist.irecv(into if host is None else host, rank, group=group, tag=tag)
        assert work is not None
        return Transfer(work, host=host, into=into)

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
        return [Transfer(work) for work in (dist.batch_isend_irecv(operations) if operations else [])]

    @staticmethod
    def _on_host(rows: Tensor) -> Tensor:
        """A host buffer of the same shape; pinned for rows on CUDA, as only such copies are asynchronous."""
        return torch.empty(rows.shape, dtype=rows.dtype, pin_memory=rows.is_cuda)
