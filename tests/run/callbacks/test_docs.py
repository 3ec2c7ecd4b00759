"""The examples of docs/callbacks.md run as they stand there."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.cli.commands import run

PAGE = Path(__file__).parents[3] / "docs" / "callbacks.md"
EXAMPLES = [text.split("```")[0] for text in PAGE.read_text().split("```python\n")[1:]]


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=["own", "early-stopping", "optuna"])
def test_an_example(example: str, tmp_path: Path) -> None:
    if "optuna" in example and find_spec("optuna") is None:
        pytest.skip("optuna is not installed")
    done = run([sys.executable, "-c", example], tmp_path)
    assert done.returncode == 0, done.stderr
    assert [*tmp_path.glob("runs/*/records.jsonl")]
