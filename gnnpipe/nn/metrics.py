"""Metrics that are fed chunk by chunk. Counts of nodes by class travel between ranks; division comes last."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from gnnpipe.config.run import Metric

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Scores:
    """A metric on each split, from 0 to 1."""

    train: float
    val: float
    test: float


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


@dataclass
class Tally:
    """Sums over the nodes of one split that were added so far."""

    counts: Tensor
    """int64 ``[3, num_classes]``: the rows of `ClassCounts`: count, correct, predicted."""
    scores: list[Tensor] = field(default_factory=list)
    """float64, for ROC AUC: logit of class 1 minus logit of class 0 of each node; a tensor for each chunk."""
    positive: list[Tensor] = field(default_factory=list)
    """bool: whether each of those nodes is of class 1."""


class SplitMetrics:
    """One metric on each of the three splits, and counts by class.

    Args:
        metric: metric to compute.
        num_classes: number of classes or labels.
    """

    def __init__(self, metric: Metric, num_classes: int) -> None:
        self.metric = metric
        self._num_classes = num_classes
        self._by_split = {name: Tally(torch.zeros(3, num_classes, dtype=torch.int64)) for name in SPLITS}

    def update(self, logits: Tensor, labels: Tensor, masks: dict[str, Tensor]) -> None:
        """Add a chunk: logits ``[n, num_classes]``, its labels and masks."""
        for name, mask in masks.items():
            if not mask.any():
                continue
            rows, truth, split = logits[mask], labels[mask], self._by_split[name]
            split.counts += _counts(rows, truth, self._num_classes).cpu()
            if self.metric == "roc_auc":
                # the difference itself: as a probability the confident ones would tie at 1
                split.scores.append((rows[:, 1].double() - rows[:, 0].double()).cpu())
                split.positive.append((truth == 1).cpu())

    def state(self) -> dict[str, Tally]:
        """The tallies by split, which travel to other ranks for `merge`."""
        return self._by_split

    def merge(self, state: dict[str, Tally]) -> None:
        """Add the tallies of another rank."""
        for name, split in self._by_split.items():
            split.counts += state[name].counts
            split.scores += state[name].scores
            split.positive += state[name].positive

    def compute(self) -> Scores:
        """The metric over all nodes that were added."""
        return Scores(**{name: self._of(split) for name, split in self._by_split.items()})

    def classes(self) -> Classes:
        """Counts by class over all nodes that were added."""
        val, test = (
            ClassCounts(*map(tuple, self._by_split[name].counts.tolist())) for name in ("val", "test")
        )
        return Classes(val, test)

    def _of(self, split: Tally) -> float:
        # per class: precision = correct / predicted, recall = correct / count,
        # F1 = 2 correct / (count + predicted)
        count, correct, predicted = split.counts.double()
        if self.metric == "roc_auc":
            return roc_auc(torch.cat(split.scores), torch.cat(split.positive)) if split.scores else 0.0
        if self.metric == "f1":
            return float(2 * correct.sum() / (count.sum() + predicted.sum()).clamp(min=1))
        if self.metric == "macro_f1":
            occurs = (count + predicted) > 0  # F1 of a class that nobody has and nobody got is undefined
            return _mean(2 * correct[occurs] / (count + predicted)[occurs])
        if self.metric == "balanced_accuracy":
            return _mean(correct[count > 0] / count[count > 0])
        return float(correct.sum() / count.sum().clamp(min=1))


def _mean(values: Tensor) -> float:
    return float(values.mean()) if values.numel() else 0.0


def _counts(logits: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """int64 ``[3, num_classes]``, as `Tally.counts`."""
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
