"""The process groups of a rank, one for each purpose, and the count of bytes that it sends."""

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
    """The control group: small pickled objects that all ranks exchange, not counted as communication."""

    rank: int = 0
    """Number of this rank."""
    size: int = 1
    """Number of ranks."""
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
        """Run ``step`` on every rank and return the results of all, in rank order.

        Raises:
            BaseException: on every rank, the error that one of them has raised; an OSError is preferred.
        """
        result: _T | None = None
        failure: BaseException | None = None
        # a rank that fails still takes part in the exchange, or the others would wait for it
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

    NCCL runs the operations of a group one after the other. In a shared group, a receive posted ahead would
    block the send that has to come before it, and an all-reduce of weights the halo of the next layer.
    """

    down: dist.ProcessGroup | None = None
    """For rows that travel to the next stage."""
    up: dist.ProcessGroup | None = None
    """For gradients that travel to the stage before."""
    halo: dist.ProcessGroup | None = None
    """For boundary rows between the parts of a stage."""
    weights: dist.ProcessGroup | None = None
    """For the all-reduce of a layer's weight gradients between the parts of a stage."""
    shared: dist.ProcessGroup | None = None
    """For the all-reduce of gradients of weights that all ranks hold."""
    bytes_sent: Counter[str] = field(default_factory=Counter)
    """Bytes sent by kind, since the last `take_bytes`."""
    waiting: Waiting = field(default_factory=Waiting)
    """The wait that this rank is in."""
    carrier: Carrier = field(default_factory=Carrier)
    """Sends and receives rows between stages and parts."""

    def meet(self) -> None:
        """Wait until all ranks have called this."""
        dist.barrier(self.shared)

    def take_bytes(self) -> dict[str, int]:
        """Bytes sent by kind since the last call."""
        counted = dict(self.bytes_sent)
        self.bytes_sent.clear()
        return counted


def num_groups(num_stages: int, num_parts: int) -> int:
    """Number of groups of `make_links` that a rank of a plan sends rows or gradients in."""
    if num_stages * num_parts == 1:
        return 0
    # down and up, halo and weights, and the group of all
    return 2 * (num_stages > 1) + 2 * (num_parts > 1) + 1


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
        device: device of this rank.
        num_stages: stages of the plan.
        num_parts: parts of the plan.
        timeout: time after which a wait of any group fails.
        waiting: notes what this rank waits for.
        through_host: whether rows go by way of host memory, as for `Carrier`.
    """
    # rank = stage * num_parts + part, here for 3 stages of 2 parts:
    #               part 0   part 1
    #     stage 0   rank 0   rank 1    a row is a group along PART: halo, weights
    #     stage 1   rank 2   rank 3    a column is a group along STAGE: down, up
    #     stage 2   rank 4   rank 5
    kind = "cpu" if through_host else device.type
    mesh = init_device_mesh(kind, (num_stages, num_parts), mesh_dim_names=(STAGE, PART))
    return Links(
        _along(mesh, STAGE, timeout),
        _along(mesh, STAGE, timeout),
        _along(mesh, PART, timeout),
        _along(mesh, PART, timeout),
        dist.new_group(timeout=timeout),
        waiting=waiting or Waiting(),
        carrier=Carrier(through_host, loads_lazily=kind == "cuda"),
    )


def _along(mesh: DeviceMesh, axis: str, timeout: timedelta) -> dist.ProcessGroup:
    """A new group of the ranks that differ from this one on ``axis`` alone.

    The mesh's own groups won't do: where an axis spans all ranks, they are all the same group, that of all
    ranks.
    """
    # all ranks make all groups, in the same order; each gets its own
    dim = mesh.mesh_dim_names.index(axis) if mesh.mesh_dim_names else 0
    lines = mesh.mesh.movedim(dim, -1).reshape(-1, mesh.size(dim)).tolist()
    group, _ = dist.new_subgroups_by_enumeration(lines, timeout=timeout)
    assert group is not None
    return group
