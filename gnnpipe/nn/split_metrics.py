"""A metric on each split, fed chunk by chunk on every rank; sums travel between ranks, division is last."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gnnpipe.config.run import Metric
from gnnpipe.graph.data import Task
from gnnpipe.graph.prepare.prepared import GraphFacts
from gnnpipe.nn.metrics import OF_RANKS, OF_VALUES, Classes, Scores
from gnnpipe.nn.ranking import PIECE, Piece, Ranking, RankSums
from gnnpipe.nn.tallies import ClassTally, Tally, ValueTally

SPLITS = ("train", "val", "test")
# A confusion matrix of more classes would swell the records, and nobody reads it.
MOST_CONFUSED = 100


@dataclass(frozen=True)
class Measure:
    """The metric, and the kind of labels it is computed on."""

    metric: Metric
    task: Task
    num_classes: int
    """Number of classes, labels or values."""
    deviation: tuple[float, ...] = ()
    """Of each value, one standardised unit in its own units; empty for classes."""

    @classmethod
    def of(cls, metric: Metric, facts: GraphFacts) -> Measure:
        """A metric on the labels of a graph."""
        return cls(metric, facts.task, facts.num_classes, facts.value_deviation)

    @property
    def num_rankings(self) -> int:
        """Number of labels whose scores are ranked; 0 if the metric does not ask for that."""
        if self.metric not in OF_RANKS:
            return 0
        return self.num_classes if self.task == "multilabel" else 1

    def tally(self) -> Tally:
        """Sums over no nodes yet."""
        if self.metric in OF_VALUES:
            units = torch.tensor(self.deviation, dtype=torch.float64)
            return ValueTally(torch.zeros(4, self.num_classes, dtype=torch.float64), units)
        confused = 0 if self.task == "multilabel" or self.num_classes > MOST_CONFUSED else self.num_classes
        counts = torch.zeros(3, self.num_classes, dtype=torch.int64)
        return ClassTally(counts, torch.zeros(confused, confused, dtype=torch.int64))

    def ranking(self) -> Ranking:
        """No scores yet."""
        return Ranking(self.num_rankings, precision=self.metric == "average_precision")


@dataclass
class SplitSums:
    """Sums over the nodes of a split, which add up over ranks."""

    tally: Tally
    ranks: RankSums


class SplitMetrics:
    """One metric on each of the three splits, and counts by class.

    Each rank that has logits adds its nodes by `update`; then all call `rank` together, and `merge` the
    `state` of every one into a new object.
    """

    def __init__(self, measure: Measure) -> None:
        self._measure = measure
        zero = RankSums.zero(measure.num_rankings)
        self._sums = {name: SplitSums(measure.tally(), zero) for name in SPLITS}
        self._rankings = {name: measure.ranking() for name in SPLITS}

    def update(self, logits: Tensor, labels: Tensor, masks: dict[str, Tensor]) -> None:
        """Add a chunk: logits ``[n, num_classes]``, its labels and masks."""
        for name, mask in masks.items():
            if mask.any():
                chosen, truth = logits[mask], labels[mask]
                self._sums[name].tally.add(chosen, truth)
                if self._measure.num_rankings:
                    self._rankings[name].add(*_scores(chosen, truth))

    def rank(self, gather: Callable[[Any], list[Any]]) -> None:
        """Compare the scores of all ranks, if the metric asks for their order; every rank calls this.

        Args:
            gather: hands every rank's value to every rank.
        """
        if not self._measure.num_rankings:
            return
        for ranking in self._rankings.values():
            ranking.sort()  # all first: another rank may send scores of a split before this one does
        messages = _packed((name, piece) for name in SPLITS for piece in self._rankings[name].pieces())
        while any(heard := gather(next(messages, []))):
            for name, piece in (item for message in heard for item in message):
                self._rankings[name].compare(piece)
        for name, ranking in self._rankings.items():
            self._sums[name].ranks = ranking.sums()
        self._rankings.clear()

    def state(self) -> dict[str, SplitSums]:
        """The sums by split, which travel to other ranks for `merge`."""
        return self._sums

    def merge(self, state: dict[str, SplitSums]) -> None:
        """Add the sums of a rank."""
        for name, sums in self._sums.items():
            sums.tally.merge(state[name].tally)
            sums.ranks += state[name].ranks

    def compute(self) -> Scores:
        """The metric over all nodes that were added."""
        by_split = {name: self._score(sums) for name, sums in self._sums.items()}
        train, val = (by_split[name] or 0.0 for name in ("train", "val"))  # a run has nodes of both
        return Scores(train, val, by_split["test"])

    def _score(self, sums: SplitSums) -> float | None:
        metric = self._measure.metric
        if not sums.tally.num_nodes:
            return None
        if metric == "roc_auc":
            return sums.ranks.roc_auc()
        return sums.ranks.average_precision() if metric in OF_RANKS else sums.tally.score(metric)

    def classes(self) -> Classes | None:
        """Counts by class over all nodes that were added; None where labels are no classes."""
        val, test = (self._sums[name].tally.counts_by_class() for name in ("val", "test"))
        if val is None or test is None:
            return None
        reported = Classes(val, test).reported
        return Classes(val, test, self._sums[reported].tally.confusion())


def _scores(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Scores ``[n, num_labels]`` by which nodes are ranked, and whether they have the labels."""
    if labels.dim() == 2:
        return logits, labels > 0
    # the difference itself: as a probability the confident ones would tie at 1
    return (logits[:, 1:2].double() - logits[:, :1].double()), labels.unsqueeze(1) == 1


def _packed(pieces: Iterator[tuple[str, Piece]]) -> Iterator[list[tuple[str, Piece]]]:
    """Messages of about as many scores as a large piece has."""
    message: list[tuple[str, Piece]] = []
    size = 0
    for name, piece in pieces:
        message.append((name, piece))
        size += len(piece.scores)
        if size >= PIECE:
            yield message
            message, size = [], 0
    if message:
        yield message
