"""Records in TensorBoard's event files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from gnnpipe.files.writing import make_folder
from gnnpipe.records.taking import LOGS
from gnnpipe.run.callbacks.callback import RunInfo
from gnnpipe.run.callbacks.tracker import Tracker, not_installed
from gnnpipe.run.callbacks.values import Plain


class TensorBoard(Tracker):
    """Writes event files, which ``tensorboard --logdir runs`` shows. A step is an epoch, counted from 0.

    A run that goes on writes a file of its own there, which hides older events from its first epoch on.

    Args:
        folder: for the files; by default logs/tensorboard in the run's folder.

    Raises:
        ConfigError: tensorboard is not installed.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        _package()
        self._given = None if folder is None else Path(folder)
        self._writer: Any = None
        self._outcome: Any = None  # the event that ends the list of hyperparameters

    def begin(self, run: RunInfo, settings: dict[str, Plain]) -> None:
        """Open an event file and write the settings, as hyperparameters and as a text."""
        self.finish({}, failed=True)
        tensorboard = _package()
        folder = self._given or run.folder / LOGS / "tensorboard"
        if not self._given:
            make_folder(folder)  # refuses a link
        # events of the same steps, from before the run went on, are hidden
        self._writer = tensorboard.SummaryWriter(str(folder), purge_step=run.first_epoch or None)
        table = "\n".join(f"|{key}|{value}|" for key, value in settings.items())
        self._writer.add_text("settings", f"|setting|value|\n|---|---|\n{table}", run.first_epoch)
        metrics = {"train/loss": 0.0, f"val/{run.metric}": 0.0, f"test/{run.metric}": 0.0}
        *begin, self._outcome = tensorboard.summary.hparams(settings, metrics)
        for event in begin:
            self._writer.file_writer.add_summary(event)

    def log(self, values: dict[str, float], epoch: int, *, complete: bool) -> None:
        """Write a scalar for each number."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, epoch)
        if complete:
            self._writer.flush()

    def finish(self, values: dict[str, float], *, failed: bool) -> None:
        """Write the results as ``summary/...`` and close the file."""
        if self._writer is None:
            return
        for name, value in values.items():
            self._writer.add_scalar(f"summary/{name}", value)
        if not failed:
            self._writer.file_writer.add_summary(self._outcome)
        self._writer.close()
        self._writer = None


def _package() -> Any:
    """PyTorch's module that writes event files; raises ConfigError where TensorBoard is not installed."""
    try:
        from torch.utils import tensorboard
    except ImportError:
        raise not_installed("tensorboard") from None
    return tensorboard
