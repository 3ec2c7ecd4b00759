"""Going on with a run: its settings, and which of them may change on the way."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from gnnpipe.base.config import RunConfig
from gnnpipe.base.errors import CheckpointError, ConfigError
from gnnpipe.base.failures import reason
from gnnpipe.base.reading import one_line, read_yaml_text

# What weights, tables and records of a run are about; the files of a data set may lie elsewhere.
FIXED = (
    "dataset", "split", "make_split", "undirected", "normalize_features", "metric", "synthetic",
    "model", "layers", "hidden", "gcnii", "seed",
)  # fmt: skip
PLAN = ("stages", "parts", "chunks")
ELSEWHERE = ("out", "overwrite", "resume", "config")
"""Where a run is kept is no part of its settings."""


def stored_settings(folder: Path) -> dict[str, Any]:
    """The settings of a run; raises ConfigError as `stored_config` does."""
    return stored_config(folder)[1]


def stored_config(folder: Path) -> tuple[str, dict[str, Any]]:
    """The settings of a run, as they are written and as values.

    Raises:
        ConfigError: the folder holds no run.
    """
    path = folder / "config.yaml"
    try:
        text, settings = read_yaml_text(path)
    except FileNotFoundError as error:
        raise ConfigError(
            f"resume: '{folder}' holds no run ({error.strerror}: '{path.name}'); name the folder of one"
        ) from None
    except (OSError, ValueError) as error:
        why = reason(error, str(path)) if isinstance(error, OSError) else one_line(str(error))
        raise ConfigError(f"resume: '{path}' can't be read ({why}); bring the file back") from None
    for key in ELSEWHERE:
        if key in settings:
            raise ConfigError(
                f"resume: '{path}' gives '{key}', which no run writes there; bring the file back"
            )
    return text, settings


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
            new, old = one_line(str(new)), one_line(str(old))
            raise ConfigError(
                f"{key.replace('_', '-')}: {new} is not what '{config.resume}' was trained with ({old}), and "
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
    shown = (key for key in new if key not in ("out", "overwrite", "resume"))
    return [
        f"{key} {one_line(str(new[key]))} (was {one_line(str(old[key]))})"
        for key in shown
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
