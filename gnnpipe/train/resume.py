"""Going on with a run: its settings, and which of them may change on the way."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from gnnpipe.base.config import RunConfig
from gnnpipe.base.errors import CheckpointError, ConfigError, shown
from gnnpipe.base.plain_yaml import load_yaml

# What weights, tables and records of a run are about; the files of a data set may lie elsewhere.
FIXED = (
    "dataset", "split", "make_split", "undirected", "normalize_features", "metric", "synthetic",
    "model", "layers", "hidden", "gcnii", "seed",
)  # fmt: skip
PLAN = ("stages", "parts", "chunks")


def stored_settings(folder: Path) -> dict[str, Any]:
    """The settings of a run.

    Raises:
        ConfigError: the folder holds no run.
    """
    path = folder / "config.yaml"
    try:
        settings = load_yaml(path.read_text())
    except OSError as error:
        raise ConfigError(
            f"resume: '{folder}' holds no run ({error.strerror}: '{path.name}'); name the folder of one"
        ) from None
    except ValueError as error:
        raise ConfigError(f"resume: '{path}' can't be read ({error}); bring the file back") from None
    if not isinstance(settings, dict):
        raise ConfigError(f"resume: '{path}' holds no settings; bring the file back")
    return settings


def check_resumed(config: RunConfig, before: RunConfig) -> None:
    """Refuse what would make it another run.

    Args:
        config: of the run that goes on.
        before: of the run as it was.

    Raises:
        ConfigError: another graph or another model.
    """
    for key in FIXED:
        new, old = getattr(config, key), getattr(before, key)
        if new != old:
            raise ConfigError(
                f"{key.replace('_', '-')}: {shown(new)} is not what '{config.resume}' was trained with "
                f"({shown(old)}), and "
                "that can't change on the way; leave it out, or start another run"
            )
    if config.optimizer.name != before.optimizer.name:
        raise ConfigError(
            f"optimizer.name: {config.optimizer.name} can't go on with the moments of "
            f"{before.optimizer.name}; leave it out"
        )


def changes(config: RunConfig, before: RunConfig) -> list[str]:
    """What is different from here on, for the user to see."""
    new, old = _flat(asdict(config)), _flat(asdict(before))
    keys = (key for key in new if key not in ("out", "overwrite", "resume"))
    return [
        f"{key} {shown(new[key])} (was {shown(old[key])})"
        for key in keys
        if new[key] != old[key] and (key, old[key]) != ("chunks", None)
    ]


def with_stored_plan(config: RunConfig, before: RunConfig, plan: dict[str, Any]) -> RunConfig:
    """Keep the number of chunks that the run had, unless the plan changes.

    Args:
        config: of the run that goes on.
        before: of the run as it was.
        plan: the content of its plan.json.

    Raises:
        CheckpointError: plan.json does not say.
    """
    if config.plan == "auto" or any(getattr(config, key) != getattr(before, key) for key in PLAN):
        return config
    try:
        return replace(config, chunks=int(plan["plan"]["num_chunks"]))
    except (KeyError, TypeError, ValueError):
        raise CheckpointError(
            f"resume: plan.json of '{config.resume}' does not say how many chunks there were; give --chunks"
        ) from None


def is_resumed(item: object) -> bool:
    """Whether an entry of plan.json's list of resumptions is one."""
    return isinstance(item, dict) and type(item.get("epoch")) is int and isinstance(item.get("from"), list)


def shape_of(plan: dict[str, Any]) -> list[Any]:
    """Stages, parts and chunks of the content of a plan.json."""
    return [plan["plan"].get(key) for key in ("num_stages", "num_parts", "num_chunks")]


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in values.items():
        result |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return result
