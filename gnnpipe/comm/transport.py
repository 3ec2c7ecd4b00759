"""How rows get from one rank to another: from where they are, or by way of host memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Transfer:
    """Rows under way."""

    work: dist.Work
    sent: Tensor | None = None
    """Kept until they have left."""
    host: Tensor | None = None
    """Where they arrive on their way to ``into``; None where they arrive there at once."""
    into: Tensor | None = None

    def wait(self) -> None:
        """Wait until they have left, or are where they belong."""
        self.work.wait()
        if self.host is not None and self.into is not None:
            # later work of the current stream waits for this copy, and pinned memory is kept until it is done
            self.into.copy_(self.host, non_blocking=True)


@dataclass(frozen=True)
class Carrier:
    """Sends and receives contiguous rows without waiting.

    Ranks that share a CUDA device can't use NCCL, which wants one for each of them, and gloo reads and writes
    host memory only, so that their rows are copied there and back.
    """

    through_host: bool = False
    """Whether rows go by way of host memory."""

    def send(self, rows: Tensor, rank: int, group: dist.ProcessGroup | None, tag: int = 0) -> Transfer:
        """Rows to a rank; they must not change until the transfer is over."""
        if self.through_host:
            rows = self._on_host(rows).copy_(rows)
        work = dist.isend(rows, rank, group=group, tag=tag)
        assert work is not None
        return Transfer(work, sent=rows)

    def receive(self, into: Tensor, rank: int, group: dist.ProcessGroup | None, tag: int = 0) -> Transfer:
        """Rows from a rank; ``into`` must not be read until the transfer is over."""
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
        """Both at once, of all ranks of a group: NCCL would deadlock with one after the other.

        Args:
            receives: rows, and the rank they come from.
            sends: rows, and the rank they go to.
            group: of all that take part.
        """
        if self.through_host:
            arriving = [self.receive(rows, rank, group) for rows, rank in receives]
            return arriving + [self.send(rows, rank, group) for rows, rank in sends]
        operations = [
            dist.P2POp(operation, rows, rank, group)
            for operation, pieces in ((dist.irecv, receives), (dist.isend, sends))
            for rows, rank in pieces
        ]
        # NCCL gives one work for all of them
        return [Transfer(work) for work in (dist.batch_isend_irecv(operations) if operations else [])]

    @staticmethod
    def _on_host(rows: Tensor) -> Tensor:
        return torch.empty(rows.shape, dtype=rows.dtype, pin_memory=rows.is_cuda)
