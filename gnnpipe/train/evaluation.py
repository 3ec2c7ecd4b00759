"""Exact evaluation: full-graph inference over all stages, metrics on the last one."""

from __future__ import annotations

import math

import torch

from gnnpipe.base.config import Metric
from gnnpipe.model.metrics import SplitMetrics
from gnnpipe.runtime.messages import Messages
from gnnpipe.runtime.stage import Stage
from gnnpipe.runtime.sweep import sweep


def evaluate(stage: Stage, messages: Messages, metric: Metric, num_classes: int) -> dict[str, float] | None:
    """The metric on each split with the weights that the stage holds now.

    Returns:
        train, val and test on the last stage, all NaN if a logit is not finite; None on the other stages.
    """
    metrics = SplitMetrics(metric, num_classes)
    finite = True
    for data, logits in sweep(stage, messages):
        finite = finite and bool(torch.isfinite(logits).all())
        assert data.labels is not None
        metrics.update(logits, data.labels, data.masks)
    if not stage.place.is_last:
        return None
    return metrics.compute() if finite else dict.fromkeys(("train", "val", "test"), math.nan)
