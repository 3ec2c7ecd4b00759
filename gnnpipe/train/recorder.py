"""Writing a run's folder while it goes on, and what happens when that fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from gnnpipe.base.config import OnWriteError
from gnnpipe.base.errors import TrainingError
from gnnpipe.train.records import RunFolder


class Recorder:
    """Writes records and weights; used on rank 0.

    Args:
        folder: of the run.
        on_error: stop the run when something can't be written, or go on and try again with the next epoch.
        say: told about what could not be written.
    """

    def __init__(self, folder: RunFolder, on_error: OnWriteError, say: Callable[[str], None]) -> None:
        self._folder, self._on_error, self._say = folder, on_error, say
        self._records: list[dict[str, Any]] = []
        self._weights: dict[str, Tensor] | None = None
        self._failing = False

    def append(self, record: dict[str, Any]) -> None:
        """Add an epoch's line."""
        self._records.append(record)
        self._write()

    def model(self, weights: dict[str, Tensor]) -> None:
        """Write the best weights so far."""
        self._weights = weights
        self._write()

    def summary(self, summary: dict[str, Any]) -> None:
        """Write what came out; a run whose end can't be written has failed."""
        try:
            self._flush()
            self._folder.write_summary(summary)
        except OSError as error:
            raise self._failure(error) from None

    def failed(self, error: OSError) -> None:
        """Something else could not be written.

        Raises:
            TrainingError: if the run is to stop then.
        """
        if self._on_error == "stop":
            raise self._failure(error) from None
        if not self._failing:
            self._say(f"warning: {self._failure(error)}; training goes on")
        self._failing = True

    def _write(self) -> None:
        try:
            self._flush()
            self._failing = False
        except OSError as error:
            self.failed(error)

    def _flush(self) -> None:
        while self._records:
            self._folder.append(self._records[0])
            self._records.pop(0)
        if self._weights is not None:
            self._folder.write_model(self._weights)
            self._weights = None

    def _failure(self, error: OSError) -> TrainingError:
        path = self._folder.path
        return TrainingError(
            f"out: can't write to '{path}' ({error.strerror or error}); make room or bring the folder back, "
            f"then go on from the last checkpoint with gnnpipe train --resume {path}"
        )
