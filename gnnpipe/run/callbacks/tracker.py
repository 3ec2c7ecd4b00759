"""The base class of trackers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from gnnpipe.errors import ConfigError
from gnnpipe.files.reading import Content, read_json
from gnnpipe.files.typed_json import from_object, json_text
from gnnpipe.files.writing import make_folder, write_file
from gnnpipe.run.callbacks.callback import Callback, RunInfo
from gnnpipe.run.callbacks.values import Plain, hyperparameters, measured, results, scored


class Tracker(Callback, ABC):
    """Hands a run's settings, the numbers of its epochs and its results to a tracker."""

    metric = ""
    """Metric of the run."""

    def on_train_start(self, run: RunInfo) -> None:
        """Open the tracker's run, or go on with it."""
        self.metric = run.metric
        self.begin(run, hyperparameters(run))

    def on_epoch_end(self, record: Content) -> None:
        """Log the epoch's numbers, but for its scores."""
        self.log(measured(record), record["epoch"], complete=record.get("val") is None)

    def on_evaluate(self, record: Content) -> None:
        """Log the epoch's scores."""
        self.log(scored(record, self.metric), record["epoch"], complete=True)

    def on_train_end(self, summary: Content) -> None:
        """Log the results and close the tracker's run."""
        self.finish(results(summary), failed=False)

    def on_exception(self, error: BaseException) -> None:
        """Close the tracker's run as failed."""
        self.finish({}, failed=True)

    @abstractmethod
    def begin(self, run: RunInfo, settings: dict[str, Plain]) -> None:
        """Open the tracker's run, unless it is open; if the run goes on, go on with it."""

    @abstractmethod
    def log(self, values: dict[str, float], epoch: int, *, complete: bool) -> None:
        """Log numbers of an epoch.

        Args:
            values: numbers by name.
            epoch: counted from 0.
            complete: whether no more of this epoch follow.
        """

    @abstractmethod
    def finish(self, values: dict[str, float], *, failed: bool) -> None:
        """Log results and close the tracker's run, if it is open."""


def not_installed(package: str) -> ConfigError:
    """The error for a package that is not installed."""
    return ConfigError(f"callbacks: {package} is not installed; pip install 'gnnpipe[{package}]'")


@dataclass(frozen=True)
class Note:
    """How a tracker knows a run: a file of the run's folder, by which a run that goes on finds it again."""

    id: str
    store: str = ""
    """Where it is; empty where the id says that."""

    @classmethod
    def read(cls, path: Path) -> Note | None:
        """The note in a file; None if there is none, or it is damaged."""
        try:
            return from_object(cls, read_json(path))
        except (OSError, ValueError):
            return None

    def write(self, path: Path) -> None:
        """Write the file."""
        make_folder(path.parent)
        write_file(path, json_text(self) + "\n")
