"""Stopping a run that gets no better."""

from __future__ import annotations

import math
from typing import Literal

from gnnpipe.errors import ConfigError, check_choice, shown
from gnnpipe.files.reading import Content
from gnnpipe.run.callbacks.callback import STOP, Callback, RunInfo, Stop

SCORES = ("val", "train", "test")
MONITORED = (*SCORES, "loss")


class EarlyStopping(Callback):
    """Stops a run when a number has not improved for too long; the run then is finished.

    ``gnnpipe train --patience N`` does the same for the validation score. This class can watch other numbers,
    and ask for an improvement by more than a little.

    Args:
        monitor: key of the record: ``val``, ``train`` and ``test`` are scores of evaluated epochs; ``loss``
            is every epoch's.
        patience: number of epochs without improvement after which the run ends. They are counted from the
            best epoch, and looked at when there is a number.
        min_delta: an improvement is more than this.
        mode: whether less (``min``) or more (``max``) is better; ``auto`` knows.

    Raises:
        ConfigError: a value that can't be used.
    """

    def __init__(
        self,
        monitor: str = "val",
        patience: int = 20,
        min_delta: float = 0.0,
        mode: Literal["auto", "min", "max"] = "auto",
    ) -> None:
        check_choice("EarlyStopping.monitor", monitor, MONITORED)
        check_choice("EarlyStopping.mode", mode, ("auto", "min", "max"))
        for key, value, least in (("patience", patience, 1), ("min_delta", min_delta, 0)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not value >= least:
                raise ConfigError(
                    f"EarlyStopping.{key}: '{shown(value)}' can't be used; use a number from {least} on"
                )
        self.monitor, self.patience, self.min_delta, self.mode = monitor, patience, min_delta, mode
        self._lower = True
        self._best: float | None = None
        self._best_epoch = 0

    def on_train_start(self, run: RunInfo) -> None:
        """Begin anew, or where the run goes on, at what its epochs so far have reached."""
        automatic = run.lower_is_better or self.monitor not in SCORES
        self._lower = automatic if self.mode == "auto" else self.mode == "min"
        self._best = None
        for record in run.records:
            self._waited(record)

    def on_epoch_end(self, record: Content) -> Stop | None:
        """Stop if the patience is over."""
        return self._stop(record) if self.monitor == "loss" else None

    def on_evaluate(self, record: Content) -> Stop | None:
        """Stop if the patience is over."""
        return self._stop(record) if self.monitor in SCORES else None

    def _stop(self, record: Content) -> Stop | None:
        waited = self._waited(record)
        if waited < self.patience:
            return None
        best, epoch = self._best, self._best_epoch + 1
        return STOP(f"{self.monitor} has not improved for {waited} epochs, since {best:.4g} in epoch {epoch}")

    def _waited(self, record: Content) -> int:
        """Number of epochs since the best one; 0 where the epoch does not have the number."""
        value, epoch = record.get(self.monitor), record["epoch"]
        if value is None:
            return 0
        gain = math.inf if self._best is None else (self._best - value) * (1 if self._lower else -1)
        if gain > self.min_delta:
            self._best, self._best_epoch = value, epoch
        return int(epoch - self._best_epoch)
