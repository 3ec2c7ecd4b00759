"""What can be said of a config without a graph. Imports nothing heavy, so that mistakes show at once."""

from __future__ import annotations

from typing import get_args

from gnnpipe.base.config import Metric, Model, RunConfig
from gnnpipe.base.errors import ConfigError, check_choice
from gnnpipe.graph.catalog import find_source, is_synthetic
from gnnpipe.plan.staleness import resolve_staleness


def check_config(config: RunConfig) -> RunConfig:
    """Resolve presets and check every number that needs no graph.

    Raises:
        ConfigError: a value that can't be used.
        DataError: an unknown data set.
    """
    if not is_synthetic(config.dataset):
        find_source(config.dataset)
    check_choice("model", config.model, get_args(Model))
    check_choice("metric", config.metric, get_args(Metric))
    least: dict[str, float] = {
        "layers": 1, "hidden": 1, "epochs": 1, "eval_every": 1, "threads": 0, "weight_decay": 0, "split": 0,
    }  # fmt: skip
    for key, minimum in least.items():
        if getattr(config, key) < minimum:
            raise ConfigError(f"{_flag(key)}: {getattr(config, key)} is too small; use {minimum} or more")
    for key in ("lr", "timeout"):
        if not getattr(config, key) > 0:
            raise ConfigError(f"{_flag(key)}: {getattr(config, key)} is not positive; use a number above 0")
    if not 0 <= config.dropout < 1:
        raise ConfigError(f"dropout: {config.dropout} is out of range; use 0 to below 1")
    resolved = resolve_staleness(config)
    _check_optimizer(resolved)
    return resolved


def _flag(key: str) -> str:
    return key.replace("_", "-")


def _check_optimizer(config: RunConfig) -> None:
    optimizer = config.optimizer
    check_choice("optimizer.name", optimizer.name, ("adam", "adamw"))
    check_choice("optimizer.schedule", optimizer.schedule, ("constant", "cosine"))
    assert optimizer.betas is not None
    assert optimizer.averaging is not None
    if any(not 0 <= beta < 1 for beta in optimizer.betas):
        raise ConfigError(f"optimizer.betas: {list(optimizer.betas)} is out of range; use 0 to below 1")
    if not 0 <= optimizer.averaging < 1:
        raise ConfigError(f"optimizer.averaging: {optimizer.averaging} is out of range; use 0 to below 1")
    for key in ("warmup", "clip"):
        if getattr(optimizer, key) < 0:
            raise ConfigError(f"optimizer.{key}: {getattr(optimizer, key)} is negative; use 0 or more")
