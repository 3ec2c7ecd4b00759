"""A run's settings, plan and records as the flat names and numbers that trackers take."""

from __future__ import annotations

from collections.abc import Iterator

from gnnpipe.files.reading import Content
from gnnpipe.run.callbacks.callback import RunInfo

Plain = bool | int | float | str
SPLITS = ("train", "val", "test")


def measured(record: Content) -> dict[str, float]:
    """An epoch's numbers but for its scores, by stable names. Those that it does not have are absent.

    train/loss           mean loss of the training nodes
    lr, seconds, elapsed
    bytes_sent/all       sum over all ranks; by kind as bytes_sent/weights
    table_error          error of stale rows that a refresh replaced, of all layers
    gradient/cosine, gradient/relative_error, gradient/norm_ratio    if the gradient was checked
    """
    sent = record["bytes_sent"]
    estimate = (record.get("estimate") or {}).get("all") or {}
    values = {
        "train/loss": record["loss"],
        "lr": record["lr"],
        "seconds": record["seconds"],
        "elapsed": record.get("elapsed"),
        "bytes_sent/all": sum(sent.values()),
        **{f"bytes_sent/{kind}": count for kind, count in sent.items()},
        "table_error": (record.get("table_error") or {}).get("all"),
        **{f"gradient/{key}": estimate.get(key) for key in ("cosine", "relative_error", "norm_ratio")},
    }
    return {name: value for name, value in values.items() if value is not None}


def scored(record: Content, metric: str) -> dict[str, float]:
    """An epoch's scores as ``train/METRIC``, ``val/METRIC`` and ``test/METRIC``; hidden ones are absent."""
    return {f"{split}/{metric}": record[split] for split in SPLITS if record.get(split) is not None}


def results(summary: Content) -> dict[str, float]:
    """The numbers of a finished run: best scores, speed, bytes and the largest peak memory of a rank."""
    names = ("best_val", "test_at_best_val", "best_epoch", "epochs", "median_epoch_seconds")
    values = {name: summary.get(name) for name in names}
    values["bytes_per_epoch"] = sum(summary["bytes_per_epoch"].values())
    values["peak_memory_bytes"] = max(summary["peak_memory_bytes"])
    return {name: value for name, value in values.items() if value is not None}


def hyperparameters(run: RunInfo) -> dict[str, Plain]:
    """The settings by dotted names, and the plan's under ``plan.``, ``graph.`` and ``predictions.``; those
    that are open (None) are absent, and lists are texts."""
    plan = {f"plan.{key}": value for key, value in _flat(run.plan.get("plan") or {})}
    for section in ("graph", "predictions"):
        entries = _flat(run.plan.get(section) or {})
        plan |= {f"{section}.{key}": value for key, value in entries if not isinstance(value, list)}
    values = {**dict(_flat(run.config)), **plan, "metric": run.metric}
    return {
        key: value if isinstance(value, Plain) else str(value)
        for key, value in values.items()
        if value is not None and value != []
    }


def _flat(values: Content, prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
