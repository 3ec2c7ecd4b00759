"""Runs that are started as users do it, and what is left of them."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.cli.commands import BIN, environment

SMALL = [
    "--synthetic.num_nodes", "400", "--synthetic.blocks_per_class", "2", "--layers", "4", "--hidden", "8",
    "--threads", "1", "--eval-every", "50",
]  # fmt: skip
FOR_EVER = [*SMALL, "--epochs", "1000000"]


@contextmanager
def started(
    command: list[str], cwd: Path, environ: dict[str, str] | None = None, **options: Any
) -> Iterator[subprocess.Popen[str]]:
    """Start a command in a process group of its own; nothing of it is left at the end."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    with subprocess.Popen(
        command, cwd=cwd, env=environment() | (environ or {}), text=True, start_new_session=True, **options
    ) as process:
        try:
            yield process
        finally:
            for left in [*family(process.pid), process]:
                left.kill()


def train(*flags: str) -> list[str]:
    """The command."""
    return [str(BIN / "gnnpipe"), "train", *flags]


def family(process: int) -> list[psutil.Process]:
    """All processes that a process has started, and they in turn."""
    try:
        return psutil.Process(process).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def wait_for_epochs(folder: Path, number: int, process: subprocess.Popen[str]) -> None:
    """Until a run has so many."""
    deadline = time.monotonic() + 90
    while epochs_of(folder) < number:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, f"no {number} epochs in time"
        time.sleep(0.02)


def epochs_of(folder: Path) -> int:
    """Lines of its records."""
    try:
        return (folder / "records.jsonl").read_bytes().count(b"\n")
    except OSError:
        return 0


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that still run; one that only waits for its parent to look does not."""
    return [one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def wait_for_end(processes: list[psutil.Process], seconds: float) -> float:
    """Until none of them runs; the seconds that it took."""
    began = time.monotonic()
    while alive(processes):
        assert time.monotonic() - began < seconds, alive(processes)
        time.sleep(0.01)
    return time.monotonic() - began
