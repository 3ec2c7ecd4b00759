"""The learning-rate schedule. Imports nothing heavy."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gnnpipe.config.resolved import OptimizerSettings


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


@dataclass
class Rates:
    """The learning rates of a run's epochs."""

    config: OptimizerSettings
    lr: float
    """The rate that the schedule begins with, after its warm-up."""
    epochs: int
    """Number of epochs of the whole run, over which a cosine is stretched."""
    plateau: Plateau
    """Of the validation score."""
    reductions: int = 0
    """How often the rate was reduced, as the score did not improve."""

    def of(self, epoch: int) -> float:
        """The rate of an epoch (counted from 0), once the evaluations of all epochs before are added."""
        return self.lr * rate_factor(self.config, self.epochs, epoch, self.reductions)

    def add(self, epoch: int, score: float) -> None:
        """Take the validation score of an epoch, by which a plateau is seen; other schedules need none."""
        # As torch's ReduceLROnPlateau with a threshold of 0: it lets ``patience`` epochs pass, reduces the
        # rate at the next evaluation, and counts anew from there.
        if self.config.schedule != "plateau":
            return
        if self.plateau.add(epoch, score) > self.config.plateau_patience:
            self.reductions += 1
            self.plateau.begin = epoch


def rate_factor(config: OptimizerSettings, epochs: int, epoch: int, reductions: int = 0) -> float:
    """Factor on the learning rate in an epoch: a linear warm-up, then 1, a cosine down to 0, or steps down.

    Args:
        config: schedule and warm-up.
        epochs: of the whole run, over which the cosine is stretched.
        epoch: counted from 0.
        reductions: steps down so far; 0 unless the schedule is plateau.
    """
    steps = float(config.plateau_factor**reductions)
    if epoch < config.warmup:
        return steps * (epoch + 1) / (config.warmup + 1)
    if config.schedule != "cosine":
        return steps
    done = (epoch - config.warmup) / max(1, epochs - config.warmup)
    return 0.5 * (1.0 + math.cos(math.pi * min(done, 1.0)))
