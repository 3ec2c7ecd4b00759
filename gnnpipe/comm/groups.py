"""The process groups through which a rank talks to others, and the count of what it sends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from gnnpipe.comm.transport import Carrier
from gnnpipe.comm.watchdog import Waiting

STAGE, PART = "stage", "part"

_T = TypeVar("_T")


@dataclass(frozen=True)
class Talk:
    """Objects that all ranks tell each other, pickled. Their bytes are not counted as communication."""

    rank: int = 0
    size: int = 1
    group: dist.ProcessGroup | None = None
    """A gloo group of all ranks; None where a process is alone."""

    def gather(self, item: _T) -> list[_T]:
        """Every rank's ``item``, in rank order, on every rank."""
        items: list[Any] = [item] * self.size
        if self.group is not None:
            dist.all_gather_object(items, item, group=self.group)
        return items

    def collect(self, item: _T) -> list[_T] | None:
        """Every rank's ``item`` on rank 0, None on the others."""
        items: list[Any] | None = None if self.rank else [item] * self.size
        if self.group is not None:
            dist.gather_object(item, items, dst=0, group=self.group)
        return items

    def together(self, step: Callable[[], _T]) -> list[_T]:
        """Take a step on every rank, and give what came of it on each, in rank order.

        Raises:
            BaseException: on all ranks, what a rank has raised; an OSError rather than any other.
        """
        result: _T | None = None
        failure: BaseException | None = None
        try:
            result = step()
        except BaseException as error:
            failure = error
        outcomes = self.gather((result, failure))
        failures = [error for _, error in outcomes if error is not None]
        if failures:
            raise min(failures, key=lambda error: not isinstance(error, OSError))
        return [cast(_T, result) for result, _ in outcomes]


@dataclass(frozen=True)
class Links:
    """One process group for each purpose; None stands for the group of all ranks.

    Each purpose has its own because NCCL runs what is asked of a group one by one: a receive posted ahead
    would block the send that has to come before it, and an exchange of weights the halo of the next layer.
    """

    down: dist.ProcessGroup | None = None
    """Rows that travel to the next stage."""
    up: dist.ProcessGroup | None = None
    """Gradients that travel back."""
    halo: dist.ProcessGroup | None = None
    """Boundary rows between the parts of a stage."""
    weights: dist.ProcessGroup | None = None
    """Gradients of weights between the parts of a stage."""
    shared: dist.ProcessGroup | None = None
    """Gradients of weights that all ranks hold."""
    bytes_sent: Counter[str] = field(default_factory=Counter)
    """By kind, since the last `take_bytes`."""
    waiting: Waiting = field(default_factory=Waiting)
    """What this rank waits for."""
    carrier: Carrier = field(default_factory=Carrier)
    """Of rows between stages and parts."""

    def meet(self) -> None:
        """Wait until all ranks are here."""
        dist.barrier(self.shared)

    def take_bytes(self) -> dict[str, int]:
        """Bytes sent by kind since the last call."""
        counted = dict(self.bytes_sent)
        self.bytes_sent.clear()
        return counted


def make_links(
    device: torch.device,
    num_stages: int,
    num_parts: int,
    timeout: timedelta,
    waiting: Waiting | None = None,
    *,
    through_host: bool = False,
) -> Links:
    """Make this rank's groups from a mesh with the axes stage and part; all ranks call it together.

    Args:
        device: of this rank.
        num_stages: of the plan.
        num_parts: of the plan.
        timeout: of every group.
        waiting: where to say what is waited for.
        through_host: whether rows go by way of host memory, see `Carrier`.
    """
    kind = "cpu" if through_host else device.type
    mesh = init_device_mesh(kind, (num_stages, num_parts), mesh_dim_names=(STAGE, PART))
    return Links(
        _along(mesh, STAGE, timeout),
        _along(mesh, STAGE, timeout),
        _along(mesh, PART, timeout),
        _along(mesh, PART, timeout),
        dist.new_group(timeout=timeout),
        waiting=waiting or Waiting(),
        carrier=Carrier(through_host),
    )


def _along(mesh: DeviceMesh, axis: str, timeout: timedelta) -> dist.ProcessGroup:
    """A new group of the ranks that differ from this one on ``axis`` alone.

    The mesh's own groups are not used: where an axis spans all ranks they are the group of all ranks.
    """
    dim = mesh.mesh_dim_names.index(axis) if mesh.mesh_dim_names else 0
    lines = mesh.mesh.movedim(dim, -1).reshape(-1, mesh.size(dim)).tolist()
    group, _ = dist.new_subgroups_by_enumeration(lines, timeout=timeout)
    assert group is not None
    return group
