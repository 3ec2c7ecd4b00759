"""The metrics that fit each kind of labels."""

from __future__ import annotations

from gnnpipe.config.run import Metric
from gnnpipe.errors import ConfigError
from gnnpipe.graph.data import Task

DEFAULT_METRIC: dict[Task, Metric] = {
    "multilabel": "f1",
    "binary": "roc_auc",
    "multiclass": "accuracy",
    "regression": "r2",
}
_ALLOWED: dict[Task, tuple[Metric, ...]] = {
    "multilabel": ("f1", "macro_f1", "roc_auc", "average_precision"),
    "binary": ("roc_auc", "average_precision", "accuracy", "macro_f1", "balanced_accuracy"),
    "multiclass": ("accuracy", "macro_f1", "balanced_accuracy"),
    "regression": ("r2", "mae", "rmse"),
}


def resolve_metric(metric: Metric, task: Task) -> Metric:
    """The metric to report; raises ConfigError if it doesn't fit the labels."""
    if metric == "auto":
        return DEFAULT_METRIC[task]
    if metric not in _ALLOWED[task]:
        raise ConfigError(
            f"metric: '{metric}' does not fit {task} labels; use {' or '.join(_ALLOWED[task])}, or auto"
        )
    return metric
