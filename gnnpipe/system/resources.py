"""How many cores and how much memory this process may use: what it was allotted, not what the host has.

    cores    the least of: affinity (taskset, Slurm), the CPU quota of a control group, OMP_NUM_THREADS
    memory   the least of: the host's, the limit of a control group

Limits of the groups around a group hold too, and both versions of control groups are read. Nobody else in the
package asks the system.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

# Set in the ranks of a launch, which start with one thread each: the cores of the process that launched them.
LAUNCHED_WITH_CORES = "GNNPIPE_CORES"

SYSTEM = Path("/")


def cores(root: Path = SYSTEM) -> int:
    """Cores that may be used; of a quota that is no whole number the whole cores, but one at least.

    Args:
        root: where ``proc`` and ``sys`` are.
    """
    limits = [float(_affinity()), *_quotas(root)]
    asked = _positive(os.environ.get(LAUNCHED_WITH_CORES)) or _open_mp_threads()
    return max(1, int(min([*limits, float(asked)] if asked else limits)))


def threads_per_rank(num_ranks: int) -> int:
    """Threads of each of the ranks that share this host's cores."""
    return max(1, cores() // num_ranks)


def total_memory(root: Path = SYSTEM) -> int:
    """Bytes that may be used in all."""
    return min([psutil.virtual_memory().total, *(usage.limit for usage in _memory_usage(root))])


def available_memory(root: Path = SYSTEM) -> int:
    """Bytes that new processes may take together."""
    left = [max(0, usage.limit - usage.used) for usage in _memory_usage(root)]
    return min([psutil.virtual_memory().available, *left])


@dataclass(frozen=True)
class _MemoryUsage:
    """Of a control group, in bytes."""

    limit: int
    used: int
    """Without files' pages that the kernel may drop."""


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _open_mp_threads() -> int | None:
    """OMP_NUM_THREADS is of a process, and a launcher such as torchrun starts several; of a list for nested
    loops the first number counts."""
    asked = _positive(os.environ.get("OMP_NUM_THREADS", "").split(",")[0])
    return asked and asked * (_positive(os.environ.get("LOCAL_WORLD_SIZE")) or 1)


def _positive(text: str | None) -> int | None:
    """The number that a text is; None for anything else."""
    found = re.fullmatch(r"\s*\+?(\d{1,9})\s*", text or "")
    return int(found[1]) or None if found else None


def _quotas(root: Path) -> Iterator[float]:
    """CPU quotas of this process's control groups, in cores."""
    for group in _groups(root, "cgroup2"):
        quota, _, period = _read(group / "cpu.max").partition(" ")
        yield from _ratio(quota, period)
    for group in _groups(root, "cpu"):
        yield from _ratio(_read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us"))


def _ratio(quota: str, period: str) -> Iterator[float]:
    """Nothing where there is no quota: ``max`` or ``-1``."""
    if quota.isdigit() and period.isdigit() and int(period):
        yield int(quota) / int(period)


def _memory_usage(root: Path) -> Iterator[_MemoryUsage]:
    """Limits of this process's control groups that are any, with what is used of them."""
    for group in _groups(root, "cgroup2"):
        found = [_read(group / name) for name in ("memory.max", "memory.high")]
        limits = [int(limit) for limit in found if limit.isdigit()]
        if limits:
            yield _MemoryUsage(min(limits), _used(group, "memory.current", "inactive_file"))
    for group in _groups(root, "memory"):
        limit = _read(group / "memory.limit_in_bytes")
        if limit.isdigit():  # a number near 2^63 where there is none
            yield _MemoryUsage(int(limit), _used(group, "memory.usage_in_bytes", "total_inactive_file"))


def _used(group: Path, usage: str, droppable: str) -> int:
    used = _read(group / usage)
    dropped = re.search(rf"^{droppable} (\d+)$", _read(group / "memory.stat"), re.MULTILINE)
    return max(0, int(used) - (int(dropped[1]) if dropped else 0)) if used.isdigit() else 0


def _groups(root: Path, kind: str) -> Iterator[Path]:
    """Folders of the control group that this process is in, and of those around it.

    Args:
        root: where ``proc`` and ``sys`` are.
        kind: cgroup2, or a controller of version 1.
    """
    memberships = [line.split(":", 2) for line in _read(root / "proc/self/cgroup").splitlines()]
    mine = [
        path
        for number, names, path in (item for item in memberships if len(item) == 3)
        if (kind == "cgroup2" and number == "0" and not names) or kind in names.split(",")
    ]
    for mount in _mounts(root, kind):
        for path in mine:
            # where only a part of the tree is mounted, as in a container, paths may begin above it
            inside = path.removeprefix(mount.root.rstrip("/")).strip("/")
            folder = mount.point / inside if ".." not in inside.split("/") else mount.point
            for group in [folder, *folder.parents]:
                if group.is_dir():
                    yield group
                if group == mount.point:
                    break


@dataclass(frozen=True)
class _Mount:
    """A file system of control groups."""

    root: str
    """Group that its top is."""
    point: Path


def _mounts(root: Path, kind: str) -> Iterator[_Mount]:
    """See ``man 5 proc`` on mountinfo: the fields behind `` - `` are type, source and options."""
    for line in _read(root / "proc/self/mountinfo").splitlines():
        place, _, rest = line.partition(" - ")
        fields, about = place.split(), rest.split()
        if len(fields) < 5 or len(about) < 3 or not about[0].startswith("cgroup"):
            continue
        if kind in (about[0], *about[2].split(",")):
            yield _Mount(_unescaped(fields[3]), root / _unescaped(fields[4]).lstrip("/"))


def _unescaped(text: str) -> str:
    """A path as mountinfo writes it, with spaces as octal numbers."""
    return re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), text)


def _read(path: Path) -> str:
    """A small file's text without the line's end; empty where it can't be read."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
