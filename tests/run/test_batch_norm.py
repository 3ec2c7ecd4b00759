"""Runs with batch norm: its statistics are part of a run as weights are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import gnnpipe
from gnnpipe.config.checks import check_config
from gnnpipe.config.keywords import configured
from gnnpipe.config.run import RunConfig
from gnnpipe.errors import ConfigError

SMALL: dict[str, Any] = {
    "synthetic": {"num_nodes": 300, "avg_degree": 6, "num_features": 8, "num_classes": 3},
    "layers": 3, "hidden": 8, "threads": 1, "device": "cpu", "eval_every": 3, "checkpoint_every": 3,
}  # fmt: skip


def losses(folder: Path) -> list[float]:
    lines = (folder / "records.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


@pytest.mark.slow
@pytest.mark.parametrize("chunks", [1, 3])
def test_a_run_that_goes_on_is_the_same_bit_for_bit(chunks: int, tmp_path: Path) -> None:
    options = {**SMALL, "model": "gcn", "norm": "batch", "residual": "linear", "jk": "sum", "chunks": chunks}
    gnnpipe.train(**options, epochs=6, out=tmp_path / "whole")
    gnnpipe.train(**options, epochs=3, out=tmp_path / "half")
    gnnpipe.resume(tmp_path / "half", epochs=6)
    assert losses(tmp_path / "half") == losses(tmp_path / "whole")
    whole, half = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "half"))
    assert whole.keys() == half.keys()
    assert all(torch.equal(whole[name], half[name]) for name in whole)
    assert any(name.endswith("running_mean") and tensor.any() for name, tensor in whole.items())


@pytest.mark.slow
def test_predictions_and_warm_starts_have_its_statistics(tmp_path: Path) -> None:
    options = {**SMALL, "model": "resgcn", "norm": "batch", "chunks": 3}
    run = gnnpipe.train(**options, epochs=4, out=tmp_path / "run")
    data = gnnpipe.load("synthetic", synthetic=SMALL["synthetic"])
    classes = run.predict().classes
    assert classes is not None
    right = torch.from_numpy(classes) == data.labels
    accuracy = float(right[data.test_mask].float().mean())
    assert accuracy == pytest.approx(run.summary["test_at_best_val"], abs=1e-6)
    again = gnnpipe.train(**options, epochs=1, lr=1e-30, warm_start=tmp_path / "run", out=tmp_path / "again")
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("run", "again"))
    assert before.keys() == after.keys()
    # no step was taken to speak of, so that the averages move towards the same statistics, and little
    moved = [name for name in before if name.endswith("running_var")]
    assert moved
    for name in moved:
        assert not torch.equal(before[name], torch.ones_like(before[name]))
        torch.testing.assert_close(after[name], before[name], rtol=0.5, atol=0.1)
    assert again.finished


@pytest.mark.parametrize(
    "settings",
    [
        {"staleness": "exact", "chunks": 4, "stages": 2},
        {"staleness": {"lookahead": "exact"}, "stages": 2},
    ],
)
def test_no_lookahead_makes_chunks_exact(settings: dict[str, Any]) -> None:
    config = configured(RunConfig(), {"model": "gcn", "norm": "batch", **settings})
    with pytest.raises(ConfigError, match=r"norm: batch reads all rows .* use --chunks 1 with --staleness"):
        check_config(config)
    check_config(configured(RunConfig(), {"model": "gcn", "norm": "batch", "staleness": "exact"}))


def test_heads_share_the_width_of_models_that_have_any() -> None:
    with pytest.raises(ConfigError, match=r"heads: 2 says nothing about gcn.*--model gat or gatv2"):
        check_config(configured(RunConfig(), {"model": "gcn", "heads": 2}))
    with pytest.raises(ConfigError, match=r"heads: 4 can't share --hidden 30 evenly; give --heads a divisor"):
        check_config(configured(RunConfig(), {"model": "gat", "hidden": 30}))
