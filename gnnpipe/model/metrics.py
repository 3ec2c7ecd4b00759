"""Metrics that are fed chunk by chunk."""

from __future__ import annotations

import warnings
from typing import Any

import torch
import torchmetrics.classification as tm
from torch import Tensor

from gnnpipe.base.config import Metric


class SplitMetrics:
    """One metric on each of the three splits.

    Args:
        metric: accuracy, f1 (micro) or roc_auc.
        num_classes: number of classes or labels.
    """

    def __init__(self, metric: Metric, num_classes: int) -> None:
        self.metric = metric
        self._by_split = {name: _make(metric, num_classes) for name in ("train", "val", "test")}

    def update(self, logits: Tensor, labels: Tensor, masks: dict[str, Tensor]) -> None:
        """Add a chunk: logits ``[n, num_classes]``, its labels and masks."""
        scores = _scores(logits, self.metric)
        for name, mask in masks.items():
            if mask.any():
                self._by_split[name].update(scores[mask].cpu(), labels[mask].to(torch.int64).cpu())

    def state(self) -> dict[str, dict[str, Any]]:
        """What was added, in a form that `merge` takes: counts, or for ROC AUC a score for each node."""
        return {name: metric.metric_state for name, metric in self._by_split.items()}

    def merge(self, state: dict[str, dict[str, Any]]) -> None:
        """Add what another one was given; sums are added, and the division happens once."""
        for name, metric in self._by_split.items():
            metric.merge_state(state[name])

    def compute(self) -> dict[str, float]:
        """The metric of each split over everything that was added, 0 to 1."""
        with warnings.catch_warnings():
            # what was merged does not count as an update
            warnings.filterwarnings("ignore", message=".*was called before the ``update`` method")
            return {name: float(metric.compute()) for name, metric in self._by_split.items()}


def _scores(logits: Tensor, metric: Metric) -> Tensor:
    """What the metric compares. Probabilities where it would otherwise guess, chunk by chunk, whether it was
    given any; in double precision, as in single the confident ones would tie."""
    if metric == "roc_auc":
        return torch.sigmoid((logits[:, 1] - logits[:, 0]).double())
    return torch.sigmoid(logits) if metric == "f1" else logits


def _make(metric: Metric, num_classes: int) -> Any:
    """States are merged by hand, so that no metric may wait for other ranks (sync_on_compute)."""
    if metric == "roc_auc":
        return tm.BinaryAUROC(validate_args=False, sync_on_compute=False)
    if metric == "f1":
        return tm.MultilabelF1Score(
            num_labels=num_classes, average="micro", validate_args=False, sync_on_compute=False
        )
    return tm.MulticlassAccuracy(
        num_classes=num_classes, average="micro", validate_args=False, sync_on_compute=False
    )
