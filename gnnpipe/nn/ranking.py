"""ROC AUC and average precision over the nodes of several ranks, exactly, in pieces of bounded size.

Both ask of each positive node i (one that has the label) how many nodes have a score as high as its own:

    ROC AUC            share of pairs of a positive and a negative node in which the positive one is higher;
                       a tie counts half
    average precision  mean over the positive nodes i of  P_i / (P_i + N_i), with P_i and N_i the numbers of
                       positive and negative nodes whose score is at least that of i

Such numbers add up over any pieces of the nodes. So no rank needs all scores: each keeps its own, sorted, and
every rank's go round piece by piece to be counted against the positive nodes that each holds.

    rank 0   own scores | piece of rank 0, piece of rank 1 | next pieces ...      sums of its positive nodes
    rank 1   own scores | piece of rank 0, piece of rank 1 | next pieces ...      sums of its positive nodes

Pairs are counted in whole numbers, and nothing is rounded before the last division.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import torch
from torch import Tensor

# Most scores of one message; 8 MiB in float64.
PIECE = 1 << 20


@dataclass(frozen=True)
class Piece:
    """Some scores, in order, that are to be counted against all positive nodes."""

    label: int
    positive: bool
    """Whether their nodes have the label."""
    scores: Tensor


@dataclass(frozen=True)
class RankSums:
    """Sums from which both metrics follow, label by label."""

    positive: Tensor
    """int64 ``[num_labels]``: number of nodes with the label."""
    negative: Tensor
    """The same without it."""
    pairs: Tensor
    """int64 ``[num_labels]``: twice the number of pairs in order, plus the ties."""
    precision: Tensor
    """float64 ``[num_labels]``: sum over positive nodes, for average precision; else 0."""

    @classmethod
    def zero(cls, num_labels: int) -> RankSums:
        """Sums over no nodes."""
        positive, negative, pairs = torch.zeros(3, num_labels, dtype=torch.int64)
        return cls(positive, negative, pairs, torch.zeros(num_labels, dtype=torch.float64))

    def __add__(self, other: RankSums) -> RankSums:
        return RankSums(*(getattr(self, item.name) + getattr(other, item.name) for item in fields(self)))

    def roc_auc(self) -> float:
        """Mean over the labels that some nodes have and some don't; 0 if there are none."""
        return self._mean(self.pairs.double() / (2 * self.positive * self.negative))

    def average_precision(self) -> float:
        """Mean over the same labels."""
        return self._mean(self.precision / self.positive)

    def _mean(self, by_label: Tensor) -> float:
        both = (self.positive > 0) & (self.negative > 0)
        return float(by_label[both].mean()) if both.any() else 0.0


class Ranking:
    """Scores of one rank's nodes, label by label, and how they lie among those of all ranks.

    First `add` all nodes and `sort` them, then `compare` every rank's `pieces`, then take the `sums`.

    Args:
        num_labels: number of labels; 1 for two classes.
        precision: whether average precision is asked for.
    """

    def __init__(self, num_labels: int, *, precision: bool) -> None:
        self._num_labels, self._precision = num_labels, precision
        self._added: list[tuple[Tensor, Tensor]] = []
        self._nodes: list[_OfLabel] = []

    def add(self, scores: Tensor, positive: Tensor) -> None:
        """Add the nodes of a chunk: scores ``[n, num_labels]``, and bool, whether they have the labels."""
        # columns, as they are read label by label
        self._added.append((scores.T.contiguous().cpu(), positive.T.contiguous().cpu()))

    def sort(self) -> None:
        """Bring the scores that were added into order, label by label."""
        if not self._added:
            return
        for label in range(self._num_labels):  # one after the other: all joined would be a third copy
            scores, positive = (
                torch.cat([block[label] for block in blocks]) for blocks in zip(*self._added, strict=True)
            )
            self._nodes.append(_OfLabel(scores, positive, precision=self._precision))
        self._added.clear()

    def pieces(self) -> Iterator[Piece]:
        """All scores that are held here."""
        for label, nodes in enumerate(self._nodes):
            for scores in nodes.negative.split(PIECE):
                yield Piece(label, False, scores)
            if self._precision:
                for scores in nodes.positive.split(PIECE):
                    yield Piece(label, True, scores)

    def compare(self, piece: Piece) -> None:
        """Count scores of any rank against the positive nodes that are held here."""
        if self._nodes:
            self._nodes[piece.label].compare(piece)

    def sums(self) -> RankSums:
        """Sums over the positive nodes that are held here."""
        if not self._nodes:
            return RankSums.zero(self._num_labels)
        counts = [(len(of.positive), len(of.negative), of.pairs) for of in self._nodes]
        precision = torch.tensor([of.precision() for of in self._nodes], dtype=torch.float64)
        positive, negative, pairs = torch.tensor(counts, dtype=torch.int64).T
        return RankSums(positive, negative, pairs, precision)


class _OfLabel:
    """The nodes with and without one label."""

    def __init__(self, scores: Tensor, has_label: Tensor, *, precision: bool) -> None:
        self.positive = scores[has_label].sort().values
        self.negative = scores[~has_label].sort().values
        self.pairs = 0
        # [kind of the other node][i]: number of nodes whose score is at least that of positive node i
        shape = (2, len(self.positive)) if precision else (2, 0)
        self._as_high = torch.zeros(shape, dtype=torch.int64)

    def compare(self, piece: Piece) -> None:
        # of the piece's scores: those lower than each positive node's, and those lower or level
        lower = torch.searchsorted(piece.scores, self.positive)
        if not piece.positive:
            level = torch.searchsorted(piece.scores, self.positive, right=True)
            self.pairs += int(lower.sum()) + int(level.sum())
        if self._as_high.numel():
            self._as_high[int(piece.positive)] += len(piece.scores) - lower

    def precision(self) -> float:
        """Sum over the positive nodes of the precision among nodes that are as high."""
        negative, positive = self._as_high
        return float((positive.double() / (positive + negative)).sum())
