"""Exact evaluation: full-graph inference over all ranks, metrics over the parts of the last stage."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from gnnpipe.comm.stage_links import Messages
from gnnpipe.config.run import Metric
from gnnpipe.engine.stage import Stage
from gnnpipe.engine.sweep import sweep
from gnnpipe.nn.metrics import Classes, Scores, SplitMetrics

# Counts of more classes would swell the records.
MOST_CLASSES_RECORDED = 1000


@dataclass(frozen=True)
class Evaluation:
    """Scores of the weights."""

    scores: Scores
    """NaN on each split if a logit is not finite."""
    classes: Classes | None
    """Counts by class; None if there are none or too many, or a logit is not finite."""


def evaluate(
    stage: Stage,
    messages: Messages,
    metric: Metric,
    num_classes: int,
    gather: Callable[[Any], list[Any]],
    refill: int | None = None,
    deviation: Sequence[float] = (),
) -> Evaluation:
    """Compute the metric on each split with the weights that the stages hold now. All ranks get the result.

    Args:
        stage: this rank's layers.
        messages: exchange with the stages before and behind.
        metric: the metric to compute.
        num_classes: number of classes, or of labels where a node may have several.
        gather: hands every rank's value to every rank. The state of the metrics travels, and no logits.
        refill: epoch that is to read this sweep's rows as its historical ones, if any.
        deviation: of values to be predicted, as for `SplitMetrics`.
    """
    metrics = SplitMetrics(metric, num_classes, deviation)
    finite = True
    # stages but the last have neither logits nor labels, but their share of the sweep runs all the same
    for (data, logits), truth in zip(sweep(stage, messages, refill), stage.labels, strict=True):
        finite = finite and bool(torch.isfinite(logits).all())
        for tile in data.tiles:  # a metric of several labels takes many times as much as its logits
            masks = {name: mask[tile.rows] for name, mask in truth.masks.items()}
            metrics.update(logits[tile.rows], truth.labels[tile.rows], masks)
    # Each part of the last stage has counted its own nodes.
    gathered = gather((finite, metrics.state()) if stage.place.is_last else None)
    parts = [counted for counted in gathered if counted is not None]
    if not all(finite for finite, _ in parts):
        return Evaluation(Scores(math.nan, math.nan, math.nan), None)
    whole = SplitMetrics(metric, num_classes, deviation)
    for _, state in parts:
        whole.merge(state)
    return Evaluation(whole.compute(), whole.classes() if num_classes <= MOST_CLASSES_RECORDED else None)
