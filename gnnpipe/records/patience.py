"""Ending a run that gets no better."""

from __future__ import annotations

from dataclasses import dataclass, field

from gnnpipe.config.rates import Plateau
from gnnpipe.config.run import Metric
from gnnpipe.nn.metrics import LOWER_IS_BETTER
from gnnpipe.records.record import EpochRecord, StoppedEarly


@dataclass
class Patience:
    """Says when the validation score has not improved for too long. It follows from the records alone: every
    rank, and a run that goes on and replays them, comes to the same."""

    epochs: int
    """Number of epochs without a better score after which the run ends; 0: never. They are counted from the
    best epoch, and looked at when an epoch was evaluated."""
    metric: Metric
    """Metric of the scores; it says which of two is better."""
    plateau: Plateau = field(init=False)

    def __post_init__(self) -> None:
        self.plateau = Plateau(self.metric in LOWER_IS_BETTER)

    def add(self, record: EpochRecord) -> StoppedEarly | None:
        """Take an epoch's record; return why the run ends with it, or None. Takes all records, in order."""
        if record.scores is None:
            return None
        waited = self.plateau.add(record.epoch, record.scores.val)
        if not self.epochs or waited < self.epochs:
            return None
        best = f"{self.plateau.best:.4f} in epoch {self.plateau.begin + 1}"
        return StoppedEarly(
            record.epoch,
            f"validation {self.metric} has not improved for {waited} epochs, since {best} "
            f"(patience {self.epochs})",
        )
