"""Metrics by name, and the figures that come of them: scores of each split, and counts by class."""

from __future__ import annotations

from dataclasses import dataclass

from gnnpipe.config.run import Metric

OF_VALUES: tuple[Metric, ...] = ("r2", "mae", "rmse")
"""Metrics of values to be predicted."""
OF_RANKS: tuple[Metric, ...] = ("roc_auc", "average_precision")
"""Metrics of the order of the scores: they compare each node with all others."""
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
    """Number of nodes of each class (its support)."""
    correct: tuple[int, ...]
    """Number of those whose class was predicted (true positives)."""
    predicted: tuple[int, ...]
    """Number of nodes for which each class was predicted."""

    def __post_init__(self) -> None:
        if not len(self.count) == len(self.correct) == len(self.predicted):
            raise ValueError("counts are not of equally many classes")

    @property
    def present(self) -> list[int]:
        """Classes that have nodes."""
        return [index for index, count in enumerate(self.count) if count]

    def precision(self, index: int) -> float | None:
        """Share of the nodes for which a class was predicted that are of it; None if it never was."""
        return self.correct[index] / self.predicted[index] if self.predicted[index] else None

    def recall(self, index: int) -> float | None:
        """Share of the nodes of a class for which it was predicted; None if it has no nodes."""
        return self.correct[index] / self.count[index] if self.count[index] else None

    def f1(self, index: int) -> float | None:
        """Harmonic mean of precision and recall; None of a class that no node has and none got."""
        both = self.count[index] + self.predicted[index]
        return 2 * self.correct[index] / both if both else None


Confusion = tuple[tuple[int, ...], ...]
"""``[class][predicted class]``: numbers of nodes."""


@dataclass(frozen=True)
class Classes:
    """Counts by class of the splits that were not trained on."""

    val: ClassCounts
    test: ClassCounts
    confusion: Confusion = ()
    """Of the split that is `reported`. Empty where a node may have several labels, with many classes, and in
    records of older versions."""

    def __post_init__(self) -> None:
        num_classes = len(self.test.count)
        if self.confusion and [len(row) for row in self.confusion] != [num_classes] * num_classes:
            raise ValueError("the confusion matrix is not of as many classes as the counts")

    @property
    def reported(self) -> str:
        """Name of the split that tables show: test, or val where test labels are hidden."""
        return "test" if any(self.test.count) else "val"

    @property
    def table(self) -> ClassCounts:
        """Counts of that split."""
        return self.test if self.reported == "test" else self.val
