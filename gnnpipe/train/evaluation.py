"""Exact evaluation: full-graph inference over all stages, metrics on the last one."""

from __future__ import annotations

from gnnpipe.base.config import Metric
from gnnpipe.model.metrics import SplitMetrics
from gnnpipe.runtime.messages import Messages
from gnnpipe.runtime.stage import Stage
from gnnpipe.runtime.sweep import sweep


def evaluate(stage: Stage, messages: Messages, metric: Metric, num_classes: int) -> dict[str, float] | None:
    """The metric on each split with the weights that the stage holds now.

    Returns:
        train, val and test on the last stage; None on the others, which compute their layers.
    """
    metrics = SplitMetrics(metric, num_classes)
    for data, logits in sweep(stage, messages):
        assert data.labels is not None
        metrics.update(logits, data.labels, data.masks)
    return metrics.compute() if stage.place.is_last else None
