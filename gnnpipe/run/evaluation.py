"""Exact evaluation: full-graph inference over all ranks, metrics over the parts of the last stage."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from gnnpipe.comm.stage_links import Messages
from gnnpipe.config.run import Metric
from gnnpipe.engine.stage import Stage
from gnnpipe.engine.sweep import sweep
from gnnpipe.nn.metrics import SplitMetrics

# Counts of more classes would swell the records.
MOST_CLASSES_RECORDED = 1000


def evaluate(
    stage: Stage,
    messages: Messages,
    metric: Metric,
    num_classes: int,
    gather: Callable[[Any], list[Any]],
    refill: int | None = None,
) -> dict[str, Any]:
    """The metric on each split with the weights that the stages hold now.

    Args:
        stage: this rank's.
        messages: to the stages around it.
        metric: which.
        num_classes: classes or labels.
        gather: hands every rank's item to every rank; see `SplitMetrics.state` for what travels.
        refill: epoch whose historical rows are to be those of this sweep, if any.

    Returns:
        train, val and test, the same on every rank; all NaN if a logit is not finite. Also, as ``classes``,
        counts of val and test by class, see `SplitMetrics.by_class`.
    """
    metrics = SplitMetrics(metric, num_classes)
    finite = True
    for data, logits in sweep(stage, messages, refill):
        finite = finite and bool(torch.isfinite(logits).all())
        assert data.labels is not None
        for tile in data.tiles:  # a metric of several labels takes many times as much as its logits
            masks = {name: mask[tile.rows] for name, mask in data.masks.items()}
            metrics.update(logits[tile.rows], data.labels[tile.rows], masks)
    found = gather((finite, metrics.state()) if stage.place.is_last else None)
    parts = [item for item in found if item is not None]
    if not all(finite for finite, _ in parts):
        return dict.fromkeys(("train", "val", "test"), math.nan)
    whole = SplitMetrics(metric, num_classes)
    for _, state in parts:
        whole.merge(state)
    classes = {name: whole.by_class(name) for name in ("val", "test")}
    return {**whole.compute(), **({"classes": classes} if num_classes <= MOST_CLASSES_RECORDED else {})}
