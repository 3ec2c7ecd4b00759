"""Cores and memory that this process may use: its allotment, not all that the host has.

    cores    the least of: affinity (taskset, Slurm), the CPU quota of a control group, OMP_NUM_THREADS
    memory   the least of: the host's, the limit of a control group

A control group is bound by the limits of the groups around it as well; versions 1 and 2 are both read. All
other modules ask here, never the system.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

# Environment variable of a launch's ranks: the launcher's number of cores. Their OMP_NUM_THREADS is 1 at
# first, and says nothing about cores.
LAUNCHED_WITH_CORES = "GNNPIPE_CORES"

# Folder with ``proc`` and ``sys``; tests name another.
SYSTEM = Path("/")


def cores(root: Path = SYSTEM) -> int:
    """Cores that this process may use, at least 1; a fractional quota is rounded down.

    Args:
        root: folder with ``proc`` and ``sys``.
    """
    limits = [float(_affinity()), *_quotas(root)]
    wanted = _positive(os.environ.get(LAUNCHED_WITH_CORES)) or _open_mp_threads()
    return max(1, int(min([*limits, float(wanted)] if wanted else limits)))


def threads_per_rank(num_ranks: int) -> int:
    """Threads for each of ``num_ranks`` ranks that share this host's cores."""
    return max(1, cores() // num_ranks)


def total_memory(root: Path = SYSTEM) -> int:
    """Bytes that this process may use in all."""
    return min([psutil.virtual_memory().total, *(usage.limit for usage in _memory_usage(root))])


def available_memory(root: Path = SYSTEM) -> int:
    """Bytes that new processes may take together."""
    left = [max(0, usage.limit - usage.used) for usage in _memory_usage(root)]
    return min([psutil.virtual_memory().available, *left])


@dataclass(frozen=True)
class _MemoryUsage:
    """Limit and use of a control group's memory, in bytes."""

    limit: int
    used: int
    """Without cached file pages, which the kernel drops when memory runs short."""


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _open_mp_threads() -> int | None:
    """Threads that OMP_NUM_THREADS grants to all processes of this host together; None if it isn't set."""
    # a list has one number for each level of nested loops; the first is the outermost
    per_process = _positive(os.environ.get("OMP_NUM_THREADS", "").split(",")[0])
    # the variable holds for one process, and torchrun starts several
    return per_process and per_process * (_positive(os.environ.get("LOCAL_WORLD_SIZE")) or 1)


def _positive(text: str | None) -> int | None:
    """The whole number above 0 that a text spells; None for any other text."""
    digits = re.fullmatch(r"\s*\+?(\d{1,9})\s*", text or "")
    return int(digits[1]) or None if digits else None


def _quotas(root: Path) -> Iterator[float]:
    """CPU quotas of this process's control groups, in cores; a group without one yields nothing."""
    for group in _groups(root, "cgroup2"):
        quota, _, period = _read(group / "cpu.max").partition(" ")
        yield from _ratio(quota, period)
    for group in _groups(root, "cpu"):
        yield from _ratio(_read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us"))


def _ratio(quota: str, period: str) -> Iterator[float]:
    """Yield quota over period, or nothing where the quota is ``max`` or ``-1``: no limit."""
    if quota.isdigit() and period.isdigit() and int(period):
        yield int(quota) / int(period)


def _memory_usage(root: Path) -> Iterator[_MemoryUsage]:
    """Limit and use of each control group of this process that limits memory."""
    for group in _groups(root, "cgroup2"):
        texts = [_read(group / name) for name in ("memory.max", "memory.high")]
        limits = [int(text) for text in texts if text.isdigit()]
        if limits:
            yield _MemoryUsage(min(limits), _used(group, "memory.current", "inactive_file"))
    for group in _groups(root, "memory"):
        limit = _read(group / "memory.limit_in_bytes")
        if limit.isdigit():  # version 1 writes a number near 2^63 for no limit, which is harmless here
            yield _MemoryUsage(int(limit), _used(group, "memory.usage_in_bytes", "total_inactive_file"))


def _used(group: Path, usage: str, droppable: str) -> int:
    used = _read(group / usage)
    cached = re.search(rf"^{droppable} (\d+)$", _read(group / "memory.stat"), re.MULTILINE)
    return max(0, int(used) - (int(cached[1]) if cached else 0)) if used.isdigit() else 0


def _groups(root: Path, kind: str) -> Iterator[Path]:
    """Folders of the control groups that this process is in, each followed by the groups around it.

    Args:
        root: folder with ``proc`` and ``sys``.
        kind: ``cgroup2``, or a controller of version 1 such as ``memory``.
    """
    memberships = list(_memberships(root, kind))
    for mount in _mounts(root, kind):
        for path in memberships:
            # where only a part of the tree is mounted, as in a container, paths may begin above it
            inside = path.removeprefix(mount.root.rstrip("/")).strip("/")
            folder = mount.point / inside if ".." not in inside.split("/") else mount.point
            for group in (folder, *folder.parents):
                if group.is_relative_to(mount.point) and group.is_dir():
                    yield group


def _memberships(root: Path, kind: str) -> Iterator[str]:
    """Paths of this process's control groups of a kind."""
    # a line is 4:cpu,cpuacct:/jobs/17 in version 1, and 0::/jobs/17 in version 2
    for line in _read(root / "proc/self/cgroup").splitlines():
        fields = line.split(":", 2)
        if len(fields) < 3:
            continue
        hierarchy, controllers, path = fields
        is_version_2 = hierarchy == "0" and not controllers
        if (kind == "cgroup2" and is_version_2) or kind in controllers.split(","):
            yield path


@dataclass(frozen=True)
class _Mount:
    """A mounted tree of control groups."""

    root: str
    """Path of the group that stands at the mount point; ``/`` where the whole tree is mounted."""
    point: Path
    """Folder that it is mounted on."""


def _mounts(root: Path, kind: str) -> Iterator[_Mount]:
    """Mounted trees of control groups of a kind, from ``mountinfo`` (``man 5 proc``)."""
    # 36 35 0:30 /root /mount/point rw,... - cgroup2 source options
    #            [3]   [4]                    [0]     [1]    [2]
    for line in _read(root / "proc/self/mountinfo").splitlines():
        before_dash, _, behind_dash = line.partition(" - ")
        fields, about = before_dash.split(), behind_dash.split()
        if len(fields) < 5 or len(about) < 3 or not about[0].startswith("cgroup"):
            continue
        if kind in (about[0], *about[2].split(",")):
            yield _Mount(_unescaped(fields[3]), root / _unescaped(fields[4]).lstrip("/"))


def _unescaped(text: str) -> str:
    r"""Decode a path of mountinfo, where a space is written ``\040``."""
    return re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), text)


def _read(path: Path) -> str:
    """A small file's text, stripped; empty where it can't be read."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
