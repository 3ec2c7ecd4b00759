"""Sums over nodes from which metrics follow. They are fed chunk by chunk, and add up over ranks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from gnnpipe.config.run import Metric
from gnnpipe.nn.metrics import ClassCounts, Confusion


class Tally(Protocol):
    """Sums over the nodes of one split that were added so far."""

    num_nodes: int
    """Number of those nodes."""

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Add the nodes of a chunk: logits ``[n, num_classes]`` and labels."""

    def merge(self, other: Tally) -> None:
        """Add the nodes of another tally."""

    def score(self, metric: Metric) -> float:
        """The metric over all nodes that were added."""

    def counts_by_class(self) -> ClassCounts | None:
        """Numbers of nodes by class; None where labels are no classes."""

    def confusion(self) -> Confusion:
        """Numbers of nodes by class and predicted class; empty where they are not counted."""


@dataclass
class ClassTally:
    """Counts by class."""

    counts: Tensor
    """int64 ``[3, num_classes]``: the rows of `ClassCounts`: count, correct, predicted."""
    pairs: Tensor
    """int64 ``[num_classes, num_classes]``: nodes by class and predicted class; ``[0, 0]`` if not counted."""
    num_nodes: int = 0

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Add the nodes of a chunk."""
        self.num_nodes += len(logits)
        num_classes = self.counts.shape[1]
        if labels.dim() == 2:
            truth, found = labels > 0, logits > 0
            groups = [truth.sum(dim=0), (truth & found).sum(dim=0), found.sum(dim=0)]
            self.counts += torch.stack(groups).cpu()
            return
        predicted = logits.argmax(dim=1)
        groups = [labels, labels[predicted == labels], predicted]
        self.counts += torch.stack([group.bincount(minlength=num_classes) for group in groups]).cpu()
        if len(self.pairs):
            found = (labels * num_classes + predicted).bincount(minlength=num_classes**2)
            self.pairs += found.view_as(self.pairs).cpu()

    def merge(self, other: Tally) -> None:
        """Add the nodes of another tally."""
        assert isinstance(other, ClassTally)
        self.num_nodes += other.num_nodes
        self.counts += other.counts
        self.pairs += other.pairs

    def score(self, metric: Metric) -> float:
        """The metric over all nodes that were added."""
        # per class: precision = correct / predicted, recall = correct / count,
        # F1 = 2 correct / (count + predicted)
        count, correct, predicted = self.counts.double()
        if metric == "f1":
            return float(2 * correct.sum() / (count.sum() + predicted.sum()).clamp(min=1))
        if metric == "macro_f1":
            occurs = (count + predicted) > 0  # F1 of a class that nobody has and nobody got is undefined
            return _mean(2 * correct[occurs] / (count + predicted)[occurs])
        if metric == "balanced_accuracy":
            return _mean(correct[count > 0] / count[count > 0])
        return float(correct.sum() / count.sum().clamp(min=1))

    def counts_by_class(self) -> ClassCounts | None:
        """Numbers of nodes by class."""
        return ClassCounts(*map(tuple, self.counts.tolist()))

    def confusion(self) -> Confusion:
        """Numbers of nodes by class and predicted class."""
        return tuple(map(tuple, self.pairs.tolist()))


@dataclass
class ValueTally:
    """Sums from which R2 and mean errors follow, of values that are standardised."""

    sums: Tensor
    """float64 ``[4, num_values]``: of the values y, of y^2, of (prediction - y)^2 and of |prediction - y|."""
    deviation: Tensor
    """float64 ``[num_values]``: one standardised unit in the units of the values."""
    num_nodes: int = 0

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Add the nodes of a chunk."""
        self.num_nodes += len(logits)
        truth = labels.double()
        off = logits.double() - truth
        sums = [part.sum(dim=0) for part in (truth, truth.square(), off.square(), off.abs())]
        self.sums += torch.stack(sums).cpu()

    def merge(self, other: Tally) -> None:
        """Add the nodes of another tally."""
        assert isinstance(other, ValueTally)
        self.num_nodes += other.num_nodes
        self.sums += other.sums

    def score(self, metric: Metric) -> float:
        """The metric over all nodes that were added: its mean over the values of a node."""
        total, squares, squared_errors, errors = self.sums
        if metric == "mae":
            return float((errors / self.num_nodes * self.deviation).mean())
        if metric == "rmse":
            return float(((squared_errors / self.num_nodes).sqrt() * self.deviation).mean())
        spread = squares - total.square() / self.num_nodes
        # R2 of values that are all alike is 1 where they are predicted, else 0, by convention
        alike = spread <= 1e-12 * squares
        r2 = 1 - squared_errors / spread.masked_fill(alike, 1.0)
        return float(r2.where(~alike, (squared_errors == 0).double()).mean())

    def counts_by_class(self) -> ClassCounts | None:
        """None: values are no classes."""
        return None

    def confusion(self) -> Confusion:
        """Empty: values are no classes."""
        return ()


def _mean(values: Tensor) -> float:
    return float(values.mean()) if values.numel() else 0.0
