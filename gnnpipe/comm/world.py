"""World: the processes of a run, how they join, and the control groups in which they exchange objects."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import FileStore, PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from gnnpipe.comm.groups import Links, Talk, make_links
from gnnpipe.comm.watchdog import Waiting
from gnnpipe.config.run import Device, RanksConfig
from gnnpipe.errors import ConfigError
from gnnpipe.system.resources import threads_per_rank

_T = TypeVar("_T")

# Options of mallopt, from malloc.h: the most blocks that are mapped (mmap), the size from which a block is
# mapped, and the free space at the top of the heap from which it goes back to the system.
_M_MMAP_MAX, _M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -4, -3, -1

# Where pages are huge (2 MiB), blocks of this size and more are mapped: two pages at least.
_LARGE_BLOCK = 4 * 2**20

# Seconds between a wait that times out and the end of the process by NCCL's own watchdog.
SECONDS_TO_SPEAK = 60.0

_HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@dataclass(frozen=True)
class World:
    """The processes of a run, as one of them sees them."""

    rank: int
    """Number of this process."""
    size: int
    """Number of processes."""
    device: torch.device
    """Device of this process."""
    control: Talk
    """Control group for records and decisions."""
    links: Links
    """Process groups for rows and gradients."""
    writing: Talk
    """Control group for the threads that write checkpoints beside the training."""

    def gather(self, item: _T) -> list[_T]:
        """Every rank's ``item``, in rank order, on every rank."""
        with self.links.waiting.on("what all other ranks have to say"):
            return self.control.gather(item)

    def collect(self, item: _T) -> list[_T] | None:
        """Every rank's ``item`` on rank 0, None on the others."""
        with self.links.waiting.on("what all other ranks have to say"):
            return self.control.collect(item)


def launched_by_torchrun() -> bool:
    """Whether another launcher started this process as one of several ranks."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def speaks() -> bool:
    """Whether this process shows what all ranks know; where another launcher starts them, rank 0 does."""
    return not launched_by_torchrun() or os.environ["RANK"] == "0"


def choose_device(choice: str, local_size: int, local_rank: int = 0) -> torch.device:
    """The device of a process.

    Args:
        choice: ``cpu``; ``cuda``, where processes share devices if there are too few; or ``auto``, which is
            cuda where each process gets a device of its own, and cpu elsewhere.
        local_size: number of processes on this host.
        local_rank: number of this process among them.

    Raises:
        ConfigError: ``cuda`` on a host without a CUDA device.
    """
    num_devices = _count_cuda()
    if choice == "cuda" and not num_devices:
        raise ConfigError(
            "device: cuda needs a CUDA device, but PyTorch sees none; use --device cpu, or a PyTorch that is "
            "built for this host's driver"
        )
    if choice == "cpu" or (choice == "auto" and num_devices < local_size):
        return torch.device("cpu")
    return torch.device("cuda", local_rank % num_devices)


def sharers(device: torch.device, local_size: int) -> int:
    """Largest number of processes of a host that share one CUDA device; 1 on the CPU."""
    return 1 if device.type == "cpu" else -(-local_size // _count_cuda())


def _count_cuda() -> int:
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _check_is_alone() -> None:
    if dist.is_initialized():
        raise ConfigError(
            "ranks: this process belongs to a process group already; call "
            "torch.distributed.destroy_process_group() first, or start the run elsewhere"
        )


@contextmanager
def join(
    ranks: RanksConfig,
    store: str | None,
    *,
    device: Device = "auto",
    threads: int = 0,
    timeout: float = 600.0,
) -> Iterator[World]:
    """Join the other processes of the run; leave them when the context ends without an error.

    After an error the groups stay open until the process ends. Closing them would make its peers fail of a
    closed connection before it could report its own error.

    Args:
        ranks: stages and parts.
        store: file for the rendezvous of local processes; None for the rendezvous of torchrun.
        device: choice of the device, as for `choose_device`.
        threads: threads of this process; 0 for an equal share of the host's cores.
        timeout: seconds that a process waits for another; under torchrun also for the rank that loads the
            graph.

    Raises:
        ConfigError: there is no such device, or the process belongs to a process group already.
    """
    _check_is_alone()
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    local_rank = int(os.environ.get("LOCAL_RANK", rank))
    local_size = int(os.environ.get("LOCAL_WORLD_SIZE", size))
    chosen = choose_device(device, local_size, local_rank)
    shared = sharers(chosen, local_size) > 1
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    torch.set_num_threads(threads or threads_per_rank(local_size))
    keep_freed_memory()
    limit = timedelta(seconds=timeout)
    # gloo for objects and for ranks on CPUs or shared devices, NCCL for one rank a device
    dist.init_process_group(
        "gloo" if chosen.type == "cpu" or shared else "cpu:gloo,cuda:nccl",
        timeout=limit,
        rank=rank,
        world_size=size,
        store=FileStore(store, size) if store else _store_of_launcher(rank, limit),
    )
    # a group each: a writer's thread and the training loop exchange objects at the same time
    control, writing = (Talk(rank, size, dist.new_group(backend="gloo", timeout=limit)) for _ in range(2))
    waiting = Waiting(rank, timeout)
    waiting.watch()
    # NCCL ends the process when a wait times out, without a word to users, so it gets longer than `waiting`
    longer = timedelta(seconds=timeout + SECONDS_TO_SPEAK)
    links = make_links(
        chosen,
        ranks.stages,
        ranks.parts,
        longer if chosen.type == "cuda" else limit,
        waiting,
        through_host=shared,
    )
    yield World(rank, size, chosen, control, links, writing)
    dist.destroy_process_group()


def _store_of_launcher(rank: int, limit: timedelta) -> Store:
    """Torchrun's store, in which processes find each other, under a prefix of this run's own.

    The store outlives restarts and may see several runs; it keeps the addresses of groups that are gone.
    """
    store, _, _ = next(iter(rendezvous("env://", timeout=limit)))
    start = PrefixStore(f"start-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
    return PrefixStore(f"run-{start.add(f'runs-of-{rank}', 1)}", start)


def keep_freed_memory() -> None:
    """Tell glibc to keep freed memory for the next allocation instead of handing it back.

    An epoch frees and allocates the same buffers again, and page faults on fresh memory cost as much as the
    arithmetic on it. Where pages are huge, faults are few, and large blocks are mapped after all: in the heap
    they leave gaps that nothing fits into, a fifth of its size after some epochs of one chunk. Without glibc
    nothing happens.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    if _pages_are_huge():
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK)
    else:
        mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, -1)


def _pages_are_huge() -> bool:
    """Whether PyTorch asks for huge pages (`ask_for_huge_pages`) and the system grants them."""
    try:
        enabled = "[never]" not in _HUGE_PAGES.read_text()
    except OSError:
        return False
    return enabled and os.environ.get("THP_MEM_ALLOC_ENABLE") == "1"
