"""Running the command line as a user does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

BIN = Path(sys.executable).parent
SMALL = [
    "--synthetic.num_nodes", "600", "--synthetic.blocks_per_class", "2", "--layers", "4", "--hidden", "16",
    "--epochs", "6", "--eval-every", "3",
]  # fmt: skip


def environment() -> dict[str, str]:
    """No outer launcher's variables, loopback only."""
    kept = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    return kept | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


def gnnpipe(*arguments: str, cwd: Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run ``gnnpipe`` in a folder."""
    return run([str(BIN / "gnnpipe"), *arguments], cwd, timeout)


def run(command: list[str], cwd: Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder and keep what it prints."""
    return subprocess.run(
        command, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=timeout, check=False
    )
