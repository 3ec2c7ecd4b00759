"""What can be said of a config without a graph. Imports nothing heavy, so that mistakes show at once."""

from __future__ import annotations

from typing import Any, get_args

from gnnpipe.config.catalog import find_source, is_synthetic
from gnnpipe.config.commands import PlanConfig, ProfileConfig, VolumeConfig
from gnnpipe.config.every import parse_every
from gnnpipe.config.presets import check_statistics, resolve_staleness
from gnnpipe.config.run import (
    DENSE_ENDS,
    Device,
    HaloMode,
    Initial,
    LrSchedule,
    MakeSplit,
    Metric,
    Model,
    OnNonFinite,
    OnWriteError,
    PartBalance,
    PlanChoice,
    RunConfig,
    TableFormat,
    WireFormat,
)
from gnnpipe.errors import ConfigError, check_choice, shown

# Below what arithmetic and other libraries can hold, above what anybody needs.
_SEED, _COUNT, _FLOAT = 2**62, 10**9, 1e30
_BOUNDS: dict[str, tuple[float, float]] = {
    "split": (0, _SEED),
    "layers": (1, 10**6),
    "hidden": (1, 10**8),
    "dropout": (0, 255 / 256),
    "stages": (1, 10**6),
    "parts": (1, 10**6),
    "epochs": (1, _COUNT),
    "lr": (1e-30, _FLOAT),
    "weight_decay": (0, _FLOAT),
    "seed": (0, _SEED),
    "threads": (0, 4096),
    "eval_every": (1, _COUNT),
    "check_gradient": (0, _COUNT),
    "timeout": (1, 10**7),
    "keep_checkpoints": (1, 10**6),
    "max_restarts": (0, 10**6),
    "optimizer.warmup": (0, _COUNT),
    "optimizer.clip": (0, _FLOAT),
    "gcnii.alpha": (0, 1),
    "gcnii.theta": (0, 1e6),
}


_VOLUME_BOUNDS: dict[str, tuple[float, float]] = {
    "num_nodes": (1, 10**12),
    "alpha": (0, 10**6),
    "num_features": (1, 10**8),
    "num_classes": (1, 10**8),
    "layers": (1, 10**5),
    "hidden": (1, 10**8),
    "devices": (1, 10**5),
}
_CHOICES: dict[str, Any] = {
    "model": Model,
    "metric": Metric,
    "make_split": MakeSplit,
    "device": Device,
    "part_balance": PartBalance,
    "halo": HaloMode,
    "initial": Initial,
    "wire": WireFormat,
    "tables": TableFormat,
    "plan": PlanChoice,
    "on_nonfinite": OnNonFinite,
    "on_write_error": OnWriteError,
}


def check_config(config: RunConfig) -> RunConfig:
    """Resolve presets and check every number that needs no graph.

    Raises:
        ConfigError: a value that can't be used.
        DataError: an unknown data set.
    """
    if not is_synthetic(config.dataset):
        find_source(config.dataset)
    for key, words in _CHOICES.items():
        check_choice(_flag(key), getattr(config, key), get_args(words))
    resolved = resolve_staleness(config)
    for key, (least, most) in _BOUNDS.items():
        _check_number(resolved, key, least, most)
    check_statistics(resolved)
    if resolved.halo == "stale" and resolved.staleness.preset == "exact":
        raise ConfigError(
            "halo: stale contradicts --staleness exact, which reads this epoch's rows alone; leave one of "
            "them out"
        )
    if resolved.staleness.preset == "exact" and resolved.staleness.lookahead not in ("exact", 0):
        raise ConfigError(
            f"staleness.lookahead: {resolved.staleness.lookahead} may leave rows stale, but --staleness "
            "exact allows none; leave one of them out"
        )
    if resolved.devices is not None:
        _check_number(resolved, "devices", 1, 10**5)
        if resolved.plan != "auto":
            raise ConfigError(
                f"devices: {resolved.devices} says nothing without --plan auto; give it, or use --stages and "
                "--parts"
            )
    if resolved.plan == "auto" and resolved.staleness.preset == "exact":
        raise ConfigError(
            "plan: auto plans pipelines with stale rows, but --staleness exact allows none; leave one of the "
            "two out"
        )
    parse_every(resolved.checkpoint_every)
    _check_optimizer(resolved)
    return resolved


def check_volume_config(config: VolumeConfig) -> VolumeConfig:
    """Check what needs no graph.

    Raises:
        ConfigError: a value that can't be used, or one that needs another one beside it.
        DataError: an unknown data set.
    """
    if not is_synthetic(config.dataset):
        find_source(config.dataset)
    check_choice("model", config.model, get_args(Model))
    for key in ("part_balance", "initial", "wire", "tables"):
        check_choice(_flag(key), getattr(config, key), get_args(_CHOICES[key]))
    for key, (least, most) in _VOLUME_BOUNDS.items():
        if getattr(config, key) is not None:
            _check_number(config, key, least, most)
    _check_sizes(config, ("alpha", "num_features", "num_classes"))
    return config


_PLAN_BOUNDS: dict[str, tuple[float, float]] = {
    "num_nodes": (1, 10**12),
    "num_edges": (0, 10**14),
    "alpha": (0, 10**6),
    "num_features": (1, 10**8),
    "num_classes": (1, 10**8),
    "layers": (1, 10**5),
    "hidden": (1, 10**8),
    "devices": (1, 10**5),
    "bandwidth": (1e-6, 10**6),
    "chunks": (1, 10**6),
    "show": (1, 10**6),
}


def check_plan_config(config: PlanConfig) -> PlanConfig:
    """Check what needs neither a graph nor hardware.

    Raises:
        ConfigError: a value that can't be used, or one that needs another one beside it.
        DataError: an unknown data set.
    """
    if not is_synthetic(config.dataset):
        find_source(config.dataset)
    check_choice("model", config.model, get_args(Model))
    for key, (least, most) in _PLAN_BOUNDS.items():
        if getattr(config, key) is not None:
            _check_number(config, key, least, most)
    _check_sizes(config, ("num_edges", "alpha", "num_features", "num_classes"))
    if config.num_nodes is not None and config.num_edges is None:
        raise ConfigError(
            "num-edges: a graph that is not at hand needs its number of edges; give --num-edges"
        )
    return config


def check_profile_config(config: ProfileConfig) -> ProfileConfig:
    """Check what needs no graph.

    Raises:
        ConfigError: a value that can't be used.
        DataError: an unknown data set.
    """
    if not is_synthetic(config.dataset):
        find_source(config.dataset)
    for model in config.models:
        check_choice("models", model, get_args(Model))
    for key in ("models", "hidden"):
        if not getattr(config, key):
            raise ConfigError(f"{key}: nothing is to be measured; name one or more")
    for width in config.hidden:
        if not 1 <= width <= 10**5:
            raise ConfigError(f"hidden: {width} is out of range; use 1 to 1e+05")
    return config


def _check_sizes(config: VolumeConfig | PlanConfig, keys: tuple[str, ...]) -> None:
    """A graph is either loaded or given by its sizes."""
    if config.num_nodes is not None and config.dataset != type(config).dataset:
        raise ConfigError(
            f"num-nodes: {config.num_nodes} stands for a graph that is not at hand, but --dataset "
            f"{config.dataset} was given; leave one of them out"
        )
    for key in keys:
        if config.num_nodes is None and getattr(config, key) is not None:
            raise ConfigError(
                f"{_flag(key)}: {getattr(config, key)} says nothing about --dataset {config.dataset}, which "
                "has its own; leave it out, or give --num-nodes"
            )


def _check_optimizer(config: RunConfig) -> None:
    optimizer = config.optimizer
    check_choice("optimizer.name", optimizer.name, ("adam", "adamw"))
    check_choice("optimizer.schedule", optimizer.schedule, get_args(LrSchedule))
    if optimizer.dense_weight_decay is not None:
        _check_number(config, "optimizer.dense_weight_decay", 0, _FLOAT)
        if config.model not in DENSE_ENDS:
            raise ConfigError(
                f"optimizer.dense_weight_decay: {optimizer.dense_weight_decay} says nothing about "
                f"{config.model}, which has no dense layers beside its convolutions; use --weight-decay"
            )
    assert optimizer.betas is not None
    assert optimizer.averaging is not None
    if len(optimizer.betas) != 2 or any(not 0 <= beta < 1 for beta in optimizer.betas):
        raise ConfigError(
            f"optimizer.betas: {list(optimizer.betas)} is out of range; use two numbers from 0 to below 1"
        )
    if not 0 <= optimizer.averaging < 1:
        raise ConfigError(f"optimizer.averaging: {optimizer.averaging} is out of range; use 0 to below 1")


def _check_number(config: RunConfig | VolumeConfig | PlanConfig, key: str, least: float, most: float) -> None:
    """NaN fails every comparison, so it is refused too."""
    section, _, name = key.rpartition(".")
    value = getattr(getattr(config, section) if section else config, name)
    if not least <= value <= most:
        flag = key if section else _flag(key)
        raise ConfigError(f"{flag}: {shown(value)} is out of range; use {least:g} to {most:g}")


def _flag(key: str) -> str:
    return key.replace("_", "-")
