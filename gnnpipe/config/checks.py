"""Checks of a config that need no graph. Imports nothing heavy, so that mistakes are reported at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from gnnpipe.config.catalog import GRAPH_FILE, find_source
from gnnpipe.config.code.options import check_options
from gnnpipe.config.code.place import check_model, is_code, with_whole_path
from gnnpipe.config.commands import DevicesConfig, PlanConfig, ProfileConfig, SizesConfig, VolumeConfig
from gnnpipe.config.features import parse_features
from gnnpipe.config.importing import ImportConfig
from gnnpipe.config.presets import check_statistics, resolve
from gnnpipe.config.resolved import Resolved
from gnnpipe.config.run import (
    BALANCED,
    DENSE_ENDS,
    GROUPS,
    HEADS,
    REVERSIBLE,
    WITH_HEADS,
    GraphConfig,
    Model,
    ModelConfig,
    RunConfig,
)
from gnnpipe.errors import ConfigError, check_choice, shown

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

# Bounds below the limits of arithmetic and other libraries, and above all needs.
_SEED, _COUNT, _FLOAT, _WEIGHT = 2**62, 10**9, 1e30, 1e6
_BOUNDS: dict[str, tuple[float, float]] = {
    "split": (0, _SEED),
    "num_nodes": (1, 10**12),
    "num_edges": (0, 10**14),
    "alpha": (0, 10**6),
    "num_features": (1, 10**8),
    "num_classes": (1, 10**8),
    "layers": (1, 10**6),
    "hidden": (1, 10**8),
    "heads": (1, 10**5),
    "groups": (2, 10**5),
    "dropout": (0, 255 / 256),
    "stages": (1, 10**6),
    "parts": (1, 10**6),
    "devices": (1, 10**5),
    "epochs": (1, _COUNT),
    "lr": (1e-30, _FLOAT),
    "weight_decay": (0, _FLOAT),
    "label_smoothing": (0, 0.999),
    "seed": (0, _SEED),
    "threads": (0, 4096),
    "eval_every": (1, _COUNT),
    "patience": (0, _COUNT),
    "check_gradient": (0, _COUNT),
    "timeout": (1, 10**7),
    "keep_checkpoints": (1, 10**6),
    "max_restarts": (0, 10**6),
    "optimizer.dense_weight_decay": (0, _FLOAT),
    "optimizer.warmup": (0, _COUNT),
    "optimizer.plateau_factor": (1e-6, 1),
    "optimizer.plateau_patience": (0, _COUNT),
    "optimizer.clip": (0, _FLOAT),
    "gcnii.alpha": (0, 1),
    "gcnii.theta": (0, 1e6),
    "bandwidth": (1e-6, 10**6),
    "show": (1, 10**6),
}
# Every number of chunks is simulated, so a search allows fewer. A run checks its chunks with its graph.
_PLANNED = _BOUNDS | {"layers": (1, 10**5), "chunks": (1, 10**6)}


def check_config(config: RunConfig) -> Resolved:
    """Resolve presets and check every number that needs no graph.

    Raises:
        ConfigError: a value that can't be used.
        DataError: an unknown data set.
    """
    check_graph_config(config)
    resolved = resolve(replace(config, model=with_whole_path(config.model)))
    if resolved.graph is not None:  # a run may go on from another folder
        resolved = replace(resolved, graph=str(Path(resolved.graph).absolute()))
    if resolved.warm_start is not None:
        resolved = replace(resolved, warm_start=str(Path(resolved.warm_start).absolute()))
    check_fields(resolved)
    check_statistics(resolved, resolved.staleness)
    _check_class_weights(resolved.class_weights)
    _check_model(resolved)
    _check_contradictions(resolved)
    return resolved


def check_volume_config(config: VolumeConfig) -> VolumeConfig:
    """Check what ``gnnpipe volume`` was asked, as far as that needs no graph.

    Raises:
        ConfigError: a value that can't be used, or one that needs another one beside it.
        DataError: an unknown data set.
    """
    _check_planned(config)
    return config


def check_plan_config(config: PlanConfig) -> PlanConfig:
    """Check what ``gnnpipe plan`` was asked, as far as that needs neither a graph nor hardware.

    Raises:
        ConfigError: a value that can't be used, or one that needs another one beside it.
        DataError: an unknown data set.
    """
    _check_planned(config)
    if config.num_nodes is not None and config.num_edges is None:
        raise ConfigError(
            "num-edges: a graph that is not at hand needs its number of edges; give --num-edges"
        )
    return config


def check_profile_config(config: ProfileConfig) -> ProfileConfig:
    """Check what ``gnnpipe profile`` was asked, as far as that needs no graph.

    Raises:
        ConfigError: a value that can't be used.
        DataError: an unknown data set.
    """
    check_graph_config(config)
    check_graph_folder(config)
    for model in config.models:
        check_choice("models", model, get_args(Model))
    for key in ("models", "hidden"):
        if not getattr(config, key):
            raise ConfigError(f"{key}: nothing is to be measured; name one or more")
    for width in config.hidden:
        if not 1 <= width <= 10**5:
            raise ConfigError(f"hidden: {width} is out of range; use 1 to 1e+05")
    return config


def check_import_config(config: ImportConfig) -> ImportConfig:
    """Check what ``gnnpipe import`` was asked, as far as that needs no files.

    Raises:
        ConfigError: a value that can't be used.
    """
    check_fields(config)
    if config.features is not None:
        parse_features(config.features)
    return config


def check_graph_config(config: GraphConfig) -> None:
    """Check the graph that is asked for, as far as that needs no files.

    Raises:
        ConfigError: a value that can't be used.
        DataError: an unknown data set.
    """
    if config.features is not None:
        parse_features(config.features)
    if config.normalize_features and config.standardize_features:
        raise ConfigError(
            "normalize-features: standardize-features scales them too; leave one of the two out"
        )
    if config.graph is not None:
        _check_alone(config, config.graph)
    elif not config.is_synthetic:
        find_source(config.dataset)


def check_graph_folder(config: GraphConfig) -> None:
    """Raise ConfigError if a graph folder is named that holds no graph."""
    graph = config.graph
    if graph is not None and not (Path(graph) / GRAPH_FILE).is_file():
        raise ConfigError(
            f"graph: '{shown(graph)}' is no graph folder ({GRAPH_FILE} is absent); name its place with "
            f"--graph if it has moved, or make one: gnnpipe import SOURCE --out {shown(graph)}"
        )


def _check_alone(config: GraphConfig, graph: str) -> None:
    for key, default in (("dataset", GraphConfig.dataset), ("root", None)):
        value = getattr(config, key)
        if value != default:
            raise ConfigError(
                f"{key}: {shown(value)} says nothing about the graph folder '{shown(graph)}'; leave one of "
                "the two out"
            )


def check_fields(
    config: DataclassInstance, bounds: Mapping[str, tuple[float, float]] = _BOUNDS, prefix: str = ""
) -> None:
    """Check every word of a Literal and every number that has bounds, also in nested configs."""
    hints = get_type_hints(type(config))
    for field in fields(config):
        key, value, hint = prefix + field.name, getattr(config, field.name), hints[field.name]
        flag, words = key if prefix else key.replace("_", "-"), _words(hint)
        if is_dataclass(value) and not isinstance(value, type):
            check_fields(value, bounds, f"{key}.")
        elif value is None and NoneType in get_args(hint):
            continue
        elif key == "model":
            check_model(flag, value, get_args(Model))
        elif words:
            check_choice(flag, value, words)
        elif key in bounds:
            least, most = bounds[key]
            if not least <= value <= most:  # NaN fails every comparison, so it is refused too
                raise ConfigError(f"{flag}: {shown(value)} is out of range; use {least:g} to {most:g}")


def _words(hint: Any) -> tuple[str, ...]:
    """The words of a Literal, also an optional one; empty for another type."""
    options = [option for option in get_args(hint) if option is not NoneType]
    if get_origin(hint) is not Literal and len(options) == 1:
        hint = options[0]
    return get_args(hint) if get_origin(hint) is Literal else ()


def _check_class_weights(weights: str | tuple[float, ...] | None) -> None:
    """Refuse another word than balanced, and numbers that are no weights."""
    if weights is None or weights == BALANCED:
        return
    if isinstance(weights, str):
        raise ConfigError(
            f"class-weights: '{shown(weights)}' can't be used; write {BALANCED}, or a number for each class, "
            "as in [1,5]"
        )
    for weight in weights:
        if not 0 <= weight <= _WEIGHT:  # NaN fails every comparison
            raise ConfigError(f"class-weights: {shown(weight)} is out of range; use 0 to {_WEIGHT:g}")
    if not any(weights):
        raise ConfigError(
            f"class-weights: {shown(list(weights))} gives no class any weight; give a number for each class, "
            f"or {BALANCED}"
        )


def _check_model(config: ModelConfig) -> None:
    """Refuse what the model does not have, and heads that can't share its width."""
    check_options(config.model, config.model_options)
    _check_own(config)
    _check_reversible(config)
    heads = HEADS if config.heads is None else config.heads
    if config.model not in WITH_HEADS:
        if config.heads is None:
            return
        raise ConfigError(
            f"heads: {config.heads} says nothing about {config.model}, which has no attention; leave it out, "
            f"or use --model {' or '.join(WITH_HEADS)}"
        )
    if config.hidden % heads:
        raise ConfigError(
            f"heads: {heads} can't share --hidden {config.hidden} evenly; give --heads a divisor of it, or "
            f"--hidden a multiple of {heads}"
        )


def _check_reversible(config: ModelConfig) -> None:
    """Refuse reversible blocks of other models, of sizes that groups can't share, or with other extras."""
    if not config.reversible:
        if config.groups is not None:
            raise ConfigError(
                f"groups: {config.groups} says nothing without --reversible; give it, or leave groups out"
            )
        return
    if config.model not in REVERSIBLE:
        raise ConfigError(
            f"reversible: {shown(config.model)} has no such blocks; use --model {' or '.join(REVERSIBLE)}"
        )
    groups = config.groups or GROUPS
    for key, number in (("hidden", config.hidden), ("layers", config.layers)):
        if number % groups:
            raise ConfigError(
                f"{key}: {number} can't be shared by {groups} groups of reversible blocks evenly; use "
                f"--{key} {number + groups - number % groups}, or other --groups"
            )
    for key, value, reason in (
        ("residual", config.residual, "blocks add their input as it is"),
        ("norm", config.norm if config.norm == "batch" else None, "its statistics can't be made again"),
        ("jk", config.jk if config.jk != "none" else None, "rows of all layers would have to be kept"),
    ):
        if value is not None:
            raise ConfigError(f"{key}: {value} can't be had with --reversible, as {reason}; leave it out")


def _check_own(config: ModelConfig) -> None:
    """Refuse settings of built-in models beside a model of one's own."""
    for key in ("norm", "residual", "jk", "heads", "reversible", "groups"):
        value = getattr(config, key)
        if is_code(config.model) and value != getattr(ModelConfig, key):
            raise ConfigError(
                f"{key}: {value} says nothing about {shown(config.model)}, whose function makes the layers; "
                "give it such an argument, with --model-options"
            )


def _check_contradictions(config: Resolved) -> None:
    """Refuse values that can be used, but not together."""
    staleness, decay = config.staleness, config.optimizer.dense_weight_decay
    exact = staleness.preset == "exact"
    if config.halo == "stale" and (exact or staleness.lookahead == "exact"):
        asked = "--staleness exact" if exact else "--staleness.lookahead exact"
        raise ConfigError(
            f"halo: stale contradicts {asked}, which reads this epoch's rows alone; leave one of them out"
        )
    if exact and staleness.lookahead not in ("exact", 0):
        raise ConfigError(
            f"staleness.lookahead: {staleness.lookahead} may leave rows stale, but --staleness exact allows "
            "none; leave one of them out"
        )
    if config.reversible and config.halo == "stale":
        raise ConfigError(
            "halo: stale can't be had with --reversible, which reads rows of other parts again on the way "
            "back, and last epoch's are gone by then; leave one of them out"
        )
    check_batch_norm(config)
    if config.devices is not None and config.plan != "auto":
        raise ConfigError(
            f"devices: {config.devices} says nothing without --plan auto; give it, or use --stages and "
            "--parts"
        )
    if exact and config.plan == "auto":
        raise ConfigError(
            "plan: auto plans pipelines with stale rows, but --staleness exact allows none; leave one of the "
            "two out"
        )
    has_dense = config.model in DENSE_ENDS or config.jk != "none" or is_code(config.model)
    if decay is not None and not has_dense:
        raise ConfigError(
            f"optimizer.dense_weight_decay: {decay} says nothing about {config.model}, which has no dense "
            "layers beside its convolutions; use --weight-decay"
        )


def check_batch_norm(config: Resolved) -> None:
    """Raise ConfigError for exact training with several chunks where the norm reads all rows at once."""
    exact = config.staleness.preset == "exact"
    several = (config.chunks or 1) > 1 if exact else config.staleness.lookahead == "exact"
    if config.norm == "batch" and several:
        raise ConfigError(
            "norm: batch reads all rows of the graph at once, which one of several chunks does not have, so "
            "that no lookahead makes it exact; use --chunks 1 with --staleness exact, or --norm layer, or "
            "leave the exact setting out"
        )


def _check_planned(config: DevicesConfig) -> None:
    """Check a graph and a model that are planned for."""
    check_graph_config(config)
    check_fields(config, _PLANNED)
    _check_model(config)
    _check_sizes(config)
    check_graph_folder(config)


def _check_sizes(config: SizesConfig) -> None:
    """Refuse sizes beside a data set or a graph folder, which has its own."""
    given = f"--graph {shown(config.graph)}" if config.graph else f"--dataset {config.dataset}"
    if config.num_nodes is not None and (config.graph or config.dataset != type(config).dataset):
        raise ConfigError(
            f"num-nodes: {config.num_nodes} stands for a graph that is not at hand, but {given} was given; "
            "leave one of them out"
        )
    for key in ("num_edges", "alpha", "num_features", "num_classes"):
        if config.num_nodes is None and getattr(config, key) is not None:
            raise ConfigError(
                f"{key.replace('_', '-')}: {getattr(config, key)} says nothing about {given}, which has "
                "its own; leave it out, or give --num-nodes"
            )
