"""Runs on CUDA devices: of one process, and of several, which share them where there are too few."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.cli.commands import SMALL, gnnpipe

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
PLANS = {
    "one process": [],
    "chunks": ["--chunks", "3"],
    "pipeline": ["--stages", "2", "--chunks", "3"],
    "graph": ["--parts", "2"],
    "hybrid": ["--stages", "2", "--parts", "2", "--chunks", "3", "--wire", "int8", "--initial", "recompute"],
}
# Sums in another order, over some epochs.
TOLERANCE = 1e-3


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "records.jsonl").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["gcn", "sage", "gcnii", "resgcn"])
@pytest.mark.parametrize("plan", PLANS)
def test_losses_are_those_of_the_cpu(plan: str, model: str, tmp_path: Path) -> None:
    """Masks are a function of nodes and columns, so the same numbers come out, but for rounding."""
    found = []
    for device in ("cpu", "cuda"):
        flags = [*SMALL, "--model", model, *PLANS[plan], "--epochs", "4", "--device", device, "--out", device]
        done = gnnpipe("train", *flags, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        found.append(losses(tmp_path / device))
    assert found[1] == pytest.approx(found[0], rel=TOLERANCE)
    hardware = json.loads((tmp_path / "cuda" / "summary.json").read_text())["hardware"]
    assert hardware["device"] != "cpu"
