"""The settings of a run that goes on: reading them, and which of them may change."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from gnnpipe.config.code.place import is_code
from gnnpipe.config.rates import Plateau, Rates
from gnnpipe.config.resolved import OptimizerSettings, Resolved
from gnnpipe.errors import ConfigError, shown
from gnnpipe.files.reading import Content, read_yaml_text
from gnnpipe.system.failures import reason

# Settings that weights, tables and records depend on. The root of a data set, and the folder of a graph, are
# none: their files may have moved. So may the file of a model of one's own.
FIXED = (
    "dataset", "split", "make_split", "undirected", "task", "features", "normalize_features",
    "standardize_features", "metric", "loss", "class_weights", "label_smoothing", "synthetic",
    "model", "model_options", "layers", "hidden", "norm", "residual", "jk", "heads", "reversible", "groups",
    "gcnii", "seed", "warm_start",
)  # fmt: skip
PLAN = ("stages", "parts", "chunks")
OF_RATES = ("schedule", "warmup", "plateau_factor", "plateau_patience")
"""Settings of the optimiser that the learning rate of an epoch depends on."""
ELSEWHERE = ("out", "overwrite", "resume", "config", "cache")
"""Keys that say where a run and its graph are kept, and so are no part of its config.yaml."""

Scores = Sequence[tuple[int, float]]
"""Epochs, counted from 0, with their validation scores."""


def stored_settings(folder: Path) -> Content:
    """The settings of a run; raises ConfigError as `stored_config` does."""
    return stored_config(folder)[1]


def stored_config(folder: Path) -> tuple[str, Content]:
    """The text of a run's config.yaml, and its values.

    Raises:
        ConfigError: the folder holds no run.
    """
    path = folder / "config.yaml"
    try:
        text, settings = read_yaml_text(path)
    except FileNotFoundError as error:
        inside = sorted(folder.glob(f"*/{path.name}"))  # several seeds, or plans that were compared
        which = f", such as '{inside[0].parent}'" if inside else ""
        raise ConfigError(
            f"resume: '{folder}' holds no run ({error.strerror}: '{path.name}'); name the folder of one"
            + which
        ) from None
    except (OSError, ValueError) as error:
        why = reason(error, str(path)) if isinstance(error, OSError) else shown(str(error))
        raise ConfigError(f"resume: '{path}' can't be read ({why}); bring the file back") from None
    for key in ELSEWHERE:
        if key in settings:
            raise ConfigError(
                f"resume: '{path}' gives '{key}', which no run writes there; bring the file back"
            )
    return text, settings


def check_resumed(config: Resolved, before: Resolved) -> None:
    """Refuse changes that would make it another run.

    Args:
        config: of the run that goes on.
        before: of the run as it was.

    Raises:
        ConfigError: another graph or another model.
    """
    for key in FIXED:
        new, old = getattr(config, key), getattr(before, key)
        if new != old and not (key == "model" and is_code(new) and is_code(old)):
            raise ConfigError(
                f"{key.replace('_', '-')}: {shown(new)} is not what '{config.resume}' was trained with "
                f"({shown(old)}), and "
                "that can't change on the way; leave it out, or start another run"
            )
    if (config.graph is None) != (before.graph is None):
        trained_on = f"the graph folder '{shown(before.graph)}'" if before.graph else before.dataset
        raise ConfigError(
            f"graph: '{config.resume}' was trained on {trained_on}, and that can't change on the way; leave "
            "it out, or start another run"
        )
    if config.optimizer.name != before.optimizer.name:
        raise ConfigError(
            f"optimizer.name: {config.optimizer.name} can't go on with the moments of "
            f"{before.optimizer.name}; leave it out"
        )


def changes(config: Resolved, before: Resolved) -> list[str]:
    """The settings that change when a run goes on, one a line, for the user."""
    new, old = _flat(asdict(config)), _flat(asdict(before))
    keys = (key for key in new if key not in ("out", "overwrite", "resume", "cache"))
    return [
        f"{key} {shown(new[key])} (was {shown(old[key])})"
        for key in keys
        if new[key] != old[key] and (key, old[key]) != ("chunks", None)
    ]


def with_stored_plan(config: Resolved, before: Resolved, num_chunks: int) -> Resolved:
    """Keep the number of chunks that the run had, unless the plan changes.

    Args:
        config: of the run that goes on.
        before: of the run as it was.
        num_chunks: of its plan.
    """
    if config.plan == "auto" or any(getattr(config, key) != getattr(before, key) for key in PLAN):
        return config
    return replace(config, chunks=num_chunks)


def continued(
    config: Resolved, before: Content, epochs: int, scores: Scores = (), plateau: Plateau | None = None
) -> list[str]:
    """Consequences of going on that the changed settings don't show, one a line, for the user.

    Args:
        config: of the run that goes on.
        before: the content of its config.yaml until now.
        epochs: number of epochs that are done.
        scores: epoch and validation score of each evaluation so far.
        plateau: of a run with these scores, before the first.
    """
    lines = [_rate_change(config, before, epochs, scores, plateau or Plateau(lower_is_better=False))]
    new, old = _flat(asdict(config)), _flat(before)
    averages, averaged = new["optimizer.averaging"], old.get("optimizer.averaging", 0.0)
    if averages and not averaged:
        lines.append(f"optimizer.averaging: averages begin at the weights of epoch {epochs}")
    if averaged and not averages:
        lines.append("optimizer.averaging: the averages so far are dropped, and the weights are evaluated")
    if new["staleness.history"] != old.get("staleness.history", new["staleness.history"]):
        lines.append(
            f"staleness.history: an exact sweep makes {new['staleness.history']} rows for chunks to read, "
            f"and gradients of epoch {epochs} count 0"
        )
    return [line for line in lines if line]


def _rate_change(config: Resolved, before: Content, epochs: int, scores: Scores, plateau: Plateau) -> str:
    """A line if the learning rate jumps, as where more epochs stretch a cosine; empty if it does not."""
    optimizer = before.get("optimizer") or {}
    known = {key: optimizer[key] for key in OF_RATES if optimizer.get(key) is not None}
    old = replace(config.optimizer, **known)
    old_epochs, old_lr = int(before.get("epochs", config.epochs)), float(before.get("lr", config.lr))

    def rate_of(epoch: int, settings: OptimizerSettings, lr: float, num_epochs: int) -> float:
        rates = Rates(settings, lr, num_epochs, replace(plateau))
        for evaluated, score in scores:
            if evaluated < epoch:
                rates.add(evaluated, score)
        return rates.of(epoch)

    planned = rate_of(epochs, old, old_lr, old_epochs)
    rate = rate_of(epochs, config.optimizer, config.lr, config.epochs)
    if math.isclose(rate, planned, rel_tol=1e-6):
        return ""
    last = rate_of(epochs - 1, old, old_lr, old_epochs)
    reasons = [
        f"{name} {new} (was {was})"
        for name, new, was in (
            ("epochs", config.epochs, old_epochs),
            ("lr", config.lr, old_lr),
            *((f"optimizer.{key}", getattr(config.optimizer, key), getattr(old, key)) for key in OF_RATES),
        )
        if new != was
    ]
    return (
        f"learning rate: {last:.3g} in epoch {epochs}, {rate:.3g} from epoch {epochs + 1} on, by "
        f"{', '.join(reasons)}; to stay at the last rate, resume with --lr {last:.3g} "
        "--optimizer.schedule constant --optimizer.warmup 0"
    )


def _flat(values: Content, prefix: str = "") -> Content:
    """Nested values in one mapping, by dotted keys."""
    result: Content = {}
    for key, value in values.items():
        result |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return result
