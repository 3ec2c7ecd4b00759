"""A run uses what it was allotted, and says so."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands import BIN, SMALL, environment
from tests.system.test_resources import quota_group


def hardware_of(folder: Path, *flags: str, begin: Callable[[], object], **variables: str) -> dict[str, Any]:
    """The hardware in the summary of a run that ``begin`` was called in front of."""
    kept = {key: value for key, value in environment().items() if key != "OMP_NUM_THREADS"}
    command = [str(BIN / "gnnpipe"), "train", *SMALL, *flags, "--epochs", "1", "--out", "run", "--overwrite"]
    subprocess.run(command, cwd=folder, env=kept | variables, preexec_fn=begin, check=True, timeout=120)
    found: dict[str, Any] = json.loads((folder / "run" / "summary.json").read_text())["hardware"]
    return found


@pytest.mark.slow
def test_a_run_on_one_core_uses_one_thread(tmp_path: Path) -> None:
    found = hardware_of(tmp_path, begin=lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}))
    assert (found["cores"], found["threads_per_rank"]) == (1, 1)


@pytest.mark.slow
def test_a_run_in_a_group_with_a_quota_of_one_core_uses_one_thread(tmp_path: Path) -> None:
    with quota_group(100_000) as group:
        found = hardware_of(tmp_path, begin=lambda: (group / "cgroup.procs").write_text(str(os.getpid())))
    assert (found["cores"], found["threads_per_rank"]) == (1, 1)


@pytest.mark.slow
def test_a_run_shares_all_of_its_cores_out_and_no_more(tmp_path: Path) -> None:
    cores = len(os.sched_getaffinity(0))
    found = hardware_of(tmp_path, begin=lambda: None)
    assert (found["cores"], found["threads_per_rank"]) == (cores, cores)
    found = hardware_of(tmp_path, "--stages", "2", begin=lambda: None)
    assert (found["cores"], found["threads_per_rank"]) == (cores, max(1, cores // 2))
    found = hardware_of(tmp_path, begin=lambda: None, OMP_NUM_THREADS="1")
    assert (found["cores"], found["threads_per_rank"]) == (1, 1)
