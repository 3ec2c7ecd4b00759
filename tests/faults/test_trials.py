"""The acceptance trials, a few of them; `scripts/trials` runs all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.commands import environment

TRIALS = Path(__file__).parents[2] / "scripts/trials"


@pytest.mark.slow
def test_runs_that_are_stopped_or_killed_come_to_the_same(tmp_path: Path) -> None:
    command = [sys.executable, str(TRIALS), "--terms", "1", "--kills", "1", "--epochs", "100"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SIGTERM: 1 trials, 0 epochs lost, 0 processes left, 1 with equal losses, 1 as" in done.stdout
    assert "0 processes left, 1 with equal losses, 1 as" in done.stdout.splitlines()[-1]


def test_trials_explain_themselves() -> None:
    done = subprocess.run(
        [sys.executable, str(TRIALS), "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert "--terms" in done.stdout
    assert "bit for bit" in done.stdout
