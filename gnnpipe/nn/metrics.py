"""Metrics that are fed chunk by chunk. Sums over nodes travel between ranks; division comes last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from gnnpipe.config.run import Metric

SPLITS = ("train", "val", "test")
OF_VALUES: tuple[Metric, ...] = ("r2", "mae", "rmse")
"""Metrics of values to be predicted."""
LOWER_IS_BETTER: tuple[Metric, ...] = ("mae", "rmse")
"""Metrics that are errors; of the others the highest is the best."""


def is_better(metric: Metric, score: float, other: float) -> bool:
    """Whether a score is strictly better than another."""
    return score < other if metric in LOWER_IS_BETTER else score > other


@dataclass(frozen=True)
class Scores:
    """A metric on each split: from 0 to 1; R2 is 1 at most, and errors are 0 or more."""

    train: float
    val: float
    test: float | None
    """None where test labels are hidden."""


@dataclass(frozen=True)
class ClassCounts:
    """Numbers of nodes of a split by class; with several labels a node, the same for each label."""

    count: tuple[int, ...]
    """Number of nodes of each class."""
    correct: tuple[int, ...]
    """Number of those whose class was predicted (true positives)."""
    predicted: tuple[int, ...]
    """Number of nodes for which each class was predicted."""

    def __post_init__(self) -> None:
        if not len(self.count) == len(self.correct) == len(self.predicted):
            raise ValueError("counts are not of equally many classes")


@dataclass(frozen=True)
class Classes:
    """Counts by class of the splits that were not trained on."""

    val: ClassCounts
    test: ClassCounts


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


@dataclass
class ClassTally:
    """Counts by class, and with ``ranks`` the scores of two classes, for ROC AUC."""

    counts: Tensor
    """int64 ``[3, num_classes]``: the rows of `ClassCounts`: count, correct, predicted."""
    ranks: bool
    num_nodes: int = 0
    scores: list[Tensor] = field(default_factory=list)
    """float64: logit of class 1 minus logit of class 0 of each node; a tensor for each chunk."""
    positive: list[Tensor] = field(default_factory=list)
    """bool: whether each of those nodes is of class 1."""

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Add the nodes of a chunk."""
        self.num_nodes += len(logits)
        self.counts += _counts(logits, labels, self.counts.shape[1]).cpu()
        if self.ranks:
            # the difference itself: as a probability the confident ones would tie at 1
            self.scores.append((logits[:, 1].double() - logits[:, 0].double()).cpu())
            self.positive.append((labels == 1).cpu())

    def merge(self, other: Tally) -> None:
        """Add the nodes of another tally."""
        assert isinstance(other, ClassTally)
        self.num_nodes += other.num_nodes
        self.counts += other.counts
        self.scores += other.scores
        self.positive += other.positive

    def score(self, metric: Metric) -> float:
        """The metric over all nodes that were added."""
        # per class: precision = correct / predicted, recall = correct / count,
        # F1 = 2 correct / (count + predicted)
        count, correct, predicted = self.counts.double()
        if metric == "roc_auc":
            return roc_auc(torch.cat(self.scores), torch.cat(self.positive)) if self.scores else 0.0
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


class SplitMetrics:
    """One metric on each of the three splits, and counts by class.

    Args:
        metric: metric to compute.
        num_classes: number of classes, labels or values.
        deviation: of each value, one standardised unit in its own units; empty for classes.
    """

    def __init__(self, metric: Metric, num_classes: int, deviation: Sequence[float] = ()) -> None:
        self.metric = metric
        self._by_split = {name: _tally(metric, num_classes, deviation) for name in SPLITS}

    def update(self, logits: Tensor, labels: Tensor, masks: dict[str, Tensor]) -> None:
        """Add a chunk: logits ``[n, num_classes]``, its labels and masks."""
        for name, mask in masks.items():
            if mask.any():
                self._by_split[name].add(logits[mask], labels[mask])

    def state(self) -> dict[str, Tally]:
        """The tallies by split, which travel to other ranks for `merge`."""
        return self._by_split

    def merge(self, state: dict[str, Tally]) -> None:
        """Add the tallies of another rank."""
        for name, tally in self._by_split.items():
            tally.merge(state[name])

    def compute(self) -> Scores:
        """The metric over all nodes that were added."""
        by_split = {
            name: tally.score(self.metric) if tally.num_nodes else None
            for name, tally in self._by_split.items()
        }
        train, val = (by_split[name] or 0.0 for name in ("train", "val"))  # a run has nodes of both
        return Scores(train, val, by_split["test"])

    def classes(self) -> Classes | None:
        """Counts by class over all nodes that were added; None where labels are no classes."""
        val, test = (self._by_split[name].counts_by_class() for name in ("val", "test"))
        return None if val is None or test is None else Classes(val, test)


def _tally(metric: Metric, num_classes: int, deviation: Sequence[float]) -> Tally:
    if metric in OF_VALUES:
        units = torch.tensor(deviation, dtype=torch.float64)
        return ValueTally(torch.zeros(4, num_classes, dtype=torch.float64), units)
    return ClassTally(torch.zeros(3, num_classes, dtype=torch.int64), metric == "roc_auc")


def _mean(values: Tensor) -> float:
    return float(values.mean()) if values.numel() else 0.0


def _counts(logits: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """int64 ``[3, num_classes]``, as `ClassTally.counts`."""
    if labels.dim() == 2:
        truth, predicted = labels > 0, logits > 0
        return torch.stack([truth.sum(dim=0), (truth & predicted).sum(dim=0), predicted.sum(dim=0)])
    predicted = logits.argmax(dim=1)
    groups = (labels, labels[predicted == labels], predicted)
    return torch.stack([torch.bincount(group, minlength=num_classes) for group in groups])


def roc_auc(scores: Tensor, positive: Tensor) -> float:
    """Area under the ROC curve: the share of pairs of a positive and a negative node in which the positive
    one has the higher score; a tie counts half. Pairs are counted in whole numbers: nothing is rounded.

    Args:
        scores: ``[n]``.
        positive: bool ``[n]``.
    """
    below, above = scores[~positive].sort().values, scores[positive]
    if not len(below) or not len(above):
        return 0.0
    # negative nodes strictly below each positive one, plus those below or level: twice the score of the pairs
    doubled = torch.searchsorted(below, above) + torch.searchsorted(below, above, right=True)
    return int(doubled.sum()) / (2 * len(below) * len(above))
