"""Checks that come before any rank starts, and predictions."""

from __future__ import annotations

from typing import Any

import pytest

from gnnpipe.base.config import OptimizerConfig, RunConfig
from gnnpipe.base.errors import ConfigError
from gnnpipe.graph.datasets import load_dataset
from gnnpipe.train.checks import check_config
from gnnpipe.train.job import plan_for, predict, prepare_graph, spec_for


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model": "gncii"},
            "model: 'gncii' is not known; choose one of gcn, sage, gcnii, resgcn; did you mean",
        ),
        ({"metric": "f2"}, "metric: 'f2' is not known"),
        ({"layers": 0}, "layers: 0 is too small; use 1 or more"),
        ({"eval_every": 0}, "eval-every: 0 is too small; use 1 or more"),
        ({"weight_decay": -1.0}, "weight-decay: -1.0 is too small"),
        ({"lr": 0.0}, "lr: 0.0 is not positive"),
        ({"lr": float("nan")}, "lr: nan is not positive"),
        ({"dropout": 1.0}, "dropout: 1.0 is out of range; use 0 to below 1"),
        ({"optimizer": OptimizerConfig(betas=(1.0, 0.9))}, "optimizer.betas: .* is out of range"),
        ({"optimizer": OptimizerConfig(averaging=1.0)}, "optimizer.averaging: 1.0 is out of range"),
        ({"optimizer": OptimizerConfig(clip=-1.0)}, "optimizer.clip: -1.0 is negative"),
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
    graph = prepare_graph(config, data, plan, spec)
    predicted = predict(config, plan, spec, graph)
    assert predicted.bytes_per_epoch == 2 * 3 * 10_000 * 32 * 4 * 2
    assert graph.facts.graph_parallel_alpha is not None
    assert predicted.graph_parallel_bytes_per_epoch == pytest.approx(
        2 * 8 * graph.facts.graph_parallel_alpha * 10_000 * 32 * 4
    )
    assert len(predicted.memory_bytes) == 4
    assert predicted.bubble == 3 / 19
