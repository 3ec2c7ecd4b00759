"""How long a score has not improved. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Plateau:
    """Follows the scores of a run's evaluations. It is a pure function of them, so that every rank, and a run
    that goes on and replays its records, comes to the same."""

    lower_is_better: bool
    """Whether the score is an error."""
    best: float | None = None
    """The best score so far; None before the first."""
    begin: int = 0
    """Epoch, counted from 0, that had it first."""

    def add(self, epoch: int, score: float) -> int:
        """Take the score of an evaluation; return the number of epochs since the best one, 0 if it is this.

        Args:
            epoch: counted from 0.
            score: only a strictly better one ends the plateau.
        """
        is_better = self.best is None or (score < self.best if self.lower_is_better else score > self.best)
        if is_better:
            self.best, self.begin = score, epoch
        return epoch - self.begin
