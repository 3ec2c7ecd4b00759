"""Runs of earlier versions are shown, compared, and gone on with.

tests/data/runs-2026-11 was written by commit 02a9e64, by ``gnnpipe train`` with these flags:

    --synthetic.num_nodes 120 --synthetic.avg_degree 6 --synthetic.num_features 6 --synthetic.num_classes 3
    --synthetic.blocks_per_class 2 --hidden 8 --epochs 4 --checkpoint-every 2 --keep-checkpoints 1 --threads 1
    --eval-every 2, and
    --model gcnii --layers 5 --stages 2 --chunks 4 --staleness.lookahead 1
    --model resgcn --layers 4 --parts 2 --tables bf16 --check-gradient 2

NAME-resumed.jsonl holds the records of epochs 4 and 5 when that commit went on with them to six epochs.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands import gnnpipe

pytestmark = pytest.mark.slow

RUNS = Path(__file__).parents[1] / "data" / "runs-2026-11"
# Lines of config.yaml that later versions have added.
ADDED = {
    "graph: null", "task: auto", "features: null", "standardize_features: false", "compute: fp32",
    "loss: auto", "class_weights: null", "label_smoothing: 0.0", "patience: 0", "warm_start: null",
    "  plateau_factor: 0.1", "  plateau_patience: 10", "log: []",
    "norm: null", "residual: null", "jk: none", "heads: null", "  kind: blocks",
    "reversible: false", "groups: null",
}  # fmt: skip
# Between processors sums differ in the last digits of float32, which rounding to bf16 makes larger.
TOLERANCE = {"gcnii": 1e-4, "resgcn": 1e-2}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy that may be written to."""
    shutil.copytree(RUNS, tmp_path / "runs")
    return tmp_path / "runs"


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("name", TOLERANCE)
def test_an_old_run_goes_on_as_its_own_version_did(folder: Path, name: str) -> None:
    done = gnnpipe("train", "--resume", str(folder / name), "--epochs", "6", cwd=folder)
    assert done.returncode == 0, done.stderr
    before, expected = lines_of(RUNS / name / "records.jsonl"), lines_of(RUNS / f"{name}-resumed.jsonl")
    found = lines_of(folder / name / "records.jsonl")
    assert found[:4] == before
    for new, old in zip(found[4:], expected, strict=True):
        assert new.keys() == old.keys()
        assert new["loss"] == pytest.approx(old["loss"], rel=TOLERANCE[name])
        for key in ("epoch", "lr", "bytes_sent", "bytes_sent_by_rank", "fresh", "age"):
            assert new[key] == old[key], key


def test_old_runs_are_shown_and_compared(folder: Path) -> None:
    shown = gnnpipe("show", str(folder / "gcnii"), "--json", cwd=folder)
    assert json.loads(shown.stdout) == json.loads((RUNS / "gcnii" / "summary.json").read_text())
    compared = gnnpipe("compare", "gcnii", "resgcn", "--json", cwd=folder)
    assert compared.returncode == 0, compared.stderr
    assert "gcnii" in compared.stdout
    assert "resgcn" in compared.stdout


def test_their_configs_still_mean_the_same(folder: Path) -> None:
    """A config that a run of today writes for the same settings is the same text, but for added keys."""
    config = RUNS / "gcnii" / "config.yaml"
    done = gnnpipe("train", "--config", str(config), "--out", "again", cwd=folder)
    assert done.returncode == 0, done.stderr
    written = (folder / "again" / "config.yaml").read_text().splitlines()
    assert [line for line in written if line not in ADDED] == config.read_text().splitlines()
    assert set(written) >= ADDED
    again, before = lines_of(folder / "again" / "records.jsonl"), lines_of(RUNS / "gcnii" / "records.jsonl")
    for new, old in zip(again, before, strict=True):
        assert new["loss"] == pytest.approx(old["loss"], rel=TOLERANCE["gcnii"])
        assert list(new) == list(old)
