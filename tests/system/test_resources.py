"""Cores and memory as allotted: affinity, control groups of both versions, OMP_NUM_THREADS."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from gnnpipe.system.resources import available_memory, cores, threads_per_rank, total_memory
from tests.test_house import PACKAGE

V1 = Path("/sys/fs/cgroup/cpu")
SAY = "from gnnpipe.system.resources import cores; print(cores())"


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host with eight cores, and nothing in the environment."""
    for name in ("OMP_NUM_THREADS", "GNNPIPE_CORES", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def system(root: Path, group: str, mounts: str, **files: str) -> Path:
    """A ``/proc`` and ``/sys``: the group of this process, what is mounted, and the groups' files by their
    names, in which ``__`` stands for a slash and ``_DOT_`` for a full stop."""
    proc = root / "proc/self"
    proc.mkdir(parents=True)
    (proc / "cgroup").write_text(group)
    (proc / "mountinfo").write_text(mounts)
    for name, content in files.items():
        path = root / "sys/fs/cgroup" / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")
    return root


def version_2(root: Path, **files: str) -> Path:
    """A process in /job/step."""
    mounts = "31 23 0:28 / /sys/fs/cgroup rw,relatime shared:9 - cgroup2 cgroup2 rw\n"
    (root / "sys/fs/cgroup/job/step").mkdir(parents=True)
    return system(root, "0::/job/step\n", mounts, **files)


def version_1(root: Path, group: str = "/job/step", top: str = "/", **files: str) -> Path:
    """A process in a group of each controller; ``top`` is the group that is mounted."""
    mounts = (
        f"32 31 0:29 {top} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
        f"33 31 0:30 {top} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    )
    for name in ("cpu,cpuacct", "memory"):
        (root / "sys/fs/cgroup" / name / "job/step").mkdir(parents=True)
    return system(root, f"4:memory:{group}\n2:cpu,cpuacct:{group}\n0::/\n", mounts, **files)


def test_affinity_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cores(tmp_path) == 8
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    assert cores(tmp_path) == 1


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("150000 100000", 1), ("50000 100000", 1), ("300000 100000", 3), ("max 100000", 8), ("990000 10000", 8)],
)
def test_a_quota_rounds_down_to_one_core_at_least(tmp_path: Path, quota: str, expected: int) -> None:
    assert cores(version_2(tmp_path, job__step__cpu_DOT_max=quota)) == expected


@pytest.mark.parametrize("where", ["job__step__", "job__", ""])
def test_quotas_of_the_groups_around_hold_too(tmp_path: Path, where: str) -> None:
    assert cores(version_2(tmp_path, **{f"{where}cpu_DOT_max": "200000 100000"})) == 2


def test_the_least_quota_holds(tmp_path: Path) -> None:
    root = version_2(
        tmp_path, job__step__cpu_DOT_max="500000 100000", job__cpu_DOT_max="400000 100000",
        cpu_DOT_max="max 100000",
    )  # fmt: skip
    assert cores(root) == 4


@pytest.mark.parametrize("where", ["job__step__", "job__", ""])
def test_quotas_of_version_1(tmp_path: Path, where: str) -> None:
    files = {
        f"cpu,cpuacct__{where}cpu_DOT_cfs_quota_us": "250000",
        f"cpu,cpuacct__{where}cpu_DOT_cfs_period_us": "100000",
    }
    assert cores(version_1(tmp_path, **files)) == 2


def test_no_quota_of_version_1(tmp_path: Path) -> None:
    files = {"cpu,cpuacct__cpu_DOT_cfs_quota_us": "-1", "cpu,cpuacct__cpu_DOT_cfs_period_us": "100000"}
    assert cores(version_1(tmp_path, **files)) == 8


@pytest.mark.parametrize(
    ("group", "top"), [("/docker/abc", "/docker/abc"), ("/docker/abc", "/"), ("/..", "/")]
)
def test_a_container_that_sees_its_own_group_as_the_top(tmp_path: Path, group: str, top: str) -> None:
    files = {
        "cpu,cpuacct__cpu_DOT_cfs_quota_us": "100000",
        "cpu,cpuacct__cpu_DOT_cfs_period_us": "100000",
        "memory__memory_DOT_limit_in_bytes": "1000",
    }
    root = version_1(tmp_path, group, top, **files)
    assert cores(root) == 1
    assert total_memory(root) == 1000


@pytest.mark.parametrize(
    ("value", "expected"),
    [("1", 1), ("3", 3), (" 4,2", 4), ("64", 8), ("0", 8), ("-1", 8), ("", 8), ("many", 8), ("1.5", 8)],
)
def test_omp_num_threads_counts_where_it_is_a_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, expected: int
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert cores(tmp_path) == expected


def test_omp_num_threads_is_of_each_process_that_torchrun_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    assert cores(tmp_path) == 6


def test_ranks_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gnnpipe.system.resources._quotas", lambda _: iter([7.5]))
    assert [threads_per_rank(ranks) for ranks in (1, 2, 3, 4, 9)] == [7, 3, 2, 1, 1]


def test_memory_limits_of_version_2(tmp_path: Path) -> None:
    root = version_2(
        tmp_path, job__step__memory_DOT_max="max", job__memory_DOT_max="5000", job__memory_DOT_high="4000",
        job__memory_DOT_current="1500", job__memory_DOT_stat="anon 900\ninactive_file 500\nactive_file 100",
    )  # fmt: skip
    assert total_memory(root) == 4000
    assert available_memory(root) == 4000 - 1500 + 500  # files' pages that nobody uses make room


def test_memory_limits_of_version_1(tmp_path: Path) -> None:
    root = version_1(
        tmp_path, memory__job__memory_DOT_limit_in_bytes="3000",
        memory__job__memory_DOT_usage_in_bytes="1000",
        memory__memory_DOT_limit_in_bytes="9223372036854771712",
        memory__memory_DOT_usage_in_bytes="123456789",
    )  # fmt: skip
    assert total_memory(root) == 3000
    assert available_memory(root) == 2000


def test_a_group_that_is_over_its_limit_leaves_nothing(tmp_path: Path) -> None:
    root = version_2(tmp_path, job__memory_DOT_high="100", job__memory_DOT_current="300")
    assert available_memory(root) == 0


def test_without_limits_memory_is_the_hosts(tmp_path: Path) -> None:
    assert total_memory(tmp_path) == psutil.virtual_memory().total
    assert 0 < available_memory(tmp_path) < total_memory(tmp_path)


def test_nobody_else_asks_the_system() -> None:
    asking = {"cpu_count", "process_cpu_count", "virtual_memory", "sched_getaffinity", "cpu_affinity"}
    for path in PACKAGE.rglob("*.py"):
        nodes = ast.walk(ast.parse(path.read_text()))
        names = {getattr(node, "attr", getattr(node, "id", "")) for node in nodes}
        assert path.name == "resources.py" or not names & asking, path


@contextmanager
def quota_group(quota: int) -> Iterator[Path]:
    """A control group of version 1 that may run for so many microseconds of 100,000; skips where none can be
    made."""
    path = V1 / f"gnnpipe-test-{os.getpid()}"
    try:
        path.mkdir()
        (path / "cpu.cfs_period_us").write_text("100000")
        (path / "cpu.cfs_quota_us").write_text(str(quota))
    except OSError as error:
        pytest.skip(f"control groups can't be made here: {error}")
    try:
        yield path
    finally:
        deadline = time.monotonic() + 10
        while (path / "cgroup.procs").read_text() and time.monotonic() < deadline:
            time.sleep(0.05)  # a server that ranks are forked from ends a little later
        path.rmdir()


def test_a_process_in_a_group_with_a_quota_uses_that() -> None:
    with quota_group(150_000) as group:
        inside = f"import os; open({str(group / 'cgroup.procs')!r}, 'w').write(str(os.getpid())); {SAY}"
        found = subprocess.run([sys.executable, "-c", inside], capture_output=True, text=True)
    assert found.stdout == "1\n"


def test_a_process_on_one_core_uses_one() -> None:
    inside = f"import os; os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}}); {SAY}"
    found = subprocess.run([sys.executable, "-c", inside], capture_output=True, text=True)
    assert found.stdout == "1\n"
