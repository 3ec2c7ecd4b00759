"""Checks that come before any rank starts, and predictions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gnnpipe.config.checks import check_config
from gnnpipe.config.run import GcniiConfig, OptimizerConfig, RunConfig, StalenessConfig
from gnnpipe.engine.tables import TableSettings
from gnnpipe.errors import ConfigError, DataError
from gnnpipe.graph.sources.datasets import load_dataset
from gnnpipe.nn.models import spec_for
from gnnpipe.run.job import plan_for, predict, prepare_graph, prepare_job
from gnnpipe.schedule.volume import Volume
from tests.graphs import random_graph


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model": "gncii"},
            "model: 'gncii' is not known; did you mean 'gcnii'\\? Choose one of gcn, sage, sage-max",
        ),
        ({"metric": "f2"}, "metric: 'f2' is not known"),
        ({"layers": 0}, "layers: 0 is out of range; use 1 to "),
        ({"seed": 10**23}, "seed: .* is out of range; use 0 to "),
        ({"split": -1}, "split: -1 is out of range"),
        ({"timeout": 1e-9}, "timeout: 1e-09 is out of range; use 1 to "),
        ({"gcnii": GcniiConfig(theta=-5)}, "gcnii.theta: -5 is out of range; use 0 to "),
        ({"model": None}, "model: 'None' is not known"),
        ({"make_split": "half"}, "make-split: 'half' is not known; choose one of random, per-class"),
        ({"eval_every": 0}, "eval-every: 0 is out of range; use 1 to "),
        ({"check_gradient": -1}, "check-gradient: -1 is out of range; use 0 to "),
        (
            {"staleness": StalenessConfig("exact", lookahead=2)},
            "staleness.lookahead: 2 may leave rows stale, but --staleness exact allows none",
        ),
        ({"weight_decay": -1.0}, "weight-decay: -1.0 is out of range"),
        ({"lr": 0.0}, "lr: 0.0 is out of range"),
        ({"lr": float("nan")}, "lr: nan is out of range"),
        ({"dropout": 1.0}, "dropout: 1.0 is out of range; use 0 to 0.996"),
        ({"optimizer": OptimizerConfig(betas=(1.0, 0.9))}, "optimizer.betas: .* is out of range"),
        ({"optimizer": OptimizerConfig(averaging=1.0)}, "optimizer.averaging: 1.0 is out of range"),
        ({"optimizer": OptimizerConfig(clip=-1.0)}, "optimizer.clip: -1.0 is out of range"),
        ({"optimizer": OptimizerConfig(name="sgd")}, "optimizer.name: 'sgd' is not known"),
    ],
)
def test_errors(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_config(RunConfig(**changes))


def test_predictions_of_a_pipeline() -> None:
    config = check_config(RunConfig(stages=4, layers=8, hidden=32, chunks=16))
    data = load_dataset(config)
    plan, spec = plan_for(config, data), spec_for(config, data)
    graph = prepare_graph(data, plan, spec)
    predicted = predict(plan, spec, graph, TableSettings.of(config.staleness, plan))
    assert predicted.volume == Volume(2 * 3 * 10_000 * 32 * 4 * 2, 0, 0)
    assert graph.facts.rival_halo is not None
    forward, backward = graph.facts.rival_halo
    weights = 64 * 32 + 32 + 8 * 32 * 32 + 32 * 10 + 10
    assert predicted.rival_bytes == 8 * (forward + backward) * 32 * 4 + 2 * 3 * (weights + 2) * 4
    assert len(predicted.memory_bytes) == 4
    assert predicted.bubble == 3 / 19


def test_roc_auc_needs_both_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = random_graph(30, 60, num_classes=2)
    one_class = replace(data, labels=torch.zeros_like(data.labels))
    monkeypatch.setattr("gnnpipe.run.job.load_dataset", lambda config, step: one_class)
    with pytest.raises(DataError, match="metric: roc_auc is undefined, as all train labels are alike; use"):
        prepare_job(check_config(RunConfig()), tmp_path, tmp_path / "out")
