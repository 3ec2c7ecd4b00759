"""Exact evaluation: full-graph inference over all ranks, metrics over the parts of the last stage."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from gnnpipe.comm.stage_links import Messages
from gnnpipe.engine.stage import Stage
from gnnpipe.engine.sweep import sweep
from gnnpipe.nn.metrics import Classes, Scores
from gnnpipe.nn.split_metrics import Measure, SplitMetrics

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
    measure: Measure,
    gather: Callable[[Any], list[Any]],
    refill: int | None = None,
) -> Evaluation:
    """Compute the metric on each split with the weights that the stages hold now. All ranks get the result.

    Args:
        stage: this rank's layers.
        messages: exchange with the stages before and behind.
        measure: the metric to compute, and the kind of labels.
        gather: hands every rank's value to every rank. Sums travel; and scores, for metrics of their order.
        refill: epoch that is to read this sweep's rows as its historical ones, if any.
    """
    metrics = SplitMetrics(measure)
    finite = True
    # stages but the last have neither logits nor labels, but their share of the sweep runs all the same
    for (data, logits), truth in zip(sweep(stage, messages, refill), stage.labels, strict=True):
        finite = finite and bool(torch.isfinite(logits).all())
        for tile in data.tiles:  # a metric of several labels takes many times as much as its logits
            masks = {name: mask[tile.rows] for name, mask in truth.masks.items()}
            metrics.update(logits[tile.rows], truth.labels[tile.rows], masks)
    metrics.rank(gather)
    # Each part of the last stage has counted its own nodes.
    gathered = gather((finite, metrics.state()) if stage.place.is_last else None)
    parts = [state for state in gathered if state is not None]
    if not all(finite for finite, _ in parts):
        return Evaluation(Scores(math.nan, math.nan, math.nan), None)
    whole = SplitMetrics(measure)
    for _, state in parts:
        whole.merge(state)
    counted = measure.num_classes <= MOST_CLASSES_RECORDED
    return Evaluation(whole.compute(), whole.classes() if counted else None)
