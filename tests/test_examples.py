"""The scripts of examples/ run, small, and say what they promise."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.cli.commands import run

EXAMPLES = Path(__file__).parents[1] / "examples"

pytestmark = pytest.mark.slow


def test_a_mesh_is_trained_exactly_by_a_pipeline(tmp_path: Path) -> None:
    small = ["--height", "30", "--width", "20", "--layers", "4", "--epochs", "4"]
    done = run([sys.executable, str(EXAMPLES / "mesh.py"), *small], tmp_path)
    assert done.returncode == 0, done.stderr
    losses = re.findall(r"last loss (\d+\.\d+)", done.stdout)
    assert len(losses) == 2
    assert losses[0] == losses[1]


def test_a_plan_is_chosen_and_trained(tmp_path: Path) -> None:
    done = run(
        [sys.executable, str(EXAMPLES / "plan_then_train.py"), "--layers", "4", "--epochs", "4"], tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("s an epoch by simulation") == 3
    assert "epoch    3  loss" in done.stdout
    assert (tmp_path / "runs" / "planned" / "summary.json").exists()


def test_every_example_is_tested() -> None:
    tested = Path(__file__).read_text()
    assert all(path.name in tested for path in EXAMPLES.glob("*.py"))
