"""Records in Weights & Biases."""

from __future__ import annotations

import os
import uuid
from typing import Any

from gnnpipe.files.writing import make_folder
from gnnpipe.records.taking import LOGS
from gnnpipe.run.callbacks.callback import RunInfo
from gnnpipe.run.callbacks.tracker import Note, Tracker, not_installed
from gnnpipe.run.callbacks.values import Plain


class WandB(Tracker):
    """Logs to W&B. A run that goes on goes on with the same run there, by the id in logs/wandb.json.

    Nothing leaves this host unless you say so: with WANDB_MODE=online, or ``mode="online"``. Else the run is
    written offline into logs/ of the run's folder, for ``wandb sync``. A run of W&B's that is open already,
    as in a sweep, is used and stays open.

    Args:
        project: name of the project.
        options: other arguments of ``wandb.init``, such as ``name``, ``entity``, ``tags`` or ``mode``.

    Raises:
        ConfigError: wandb is not installed.
    """

    def __init__(self, project: str = "gnnpipe", **options: Any) -> None:
        _package()
        self._options = {"project": project, **options}
        self._run: Any = None
        self._is_ours = False

    def begin(self, run: RunInfo, settings: dict[str, Plain]) -> None:
        """Open the run, or the one that was logged to before."""
        if self._run is not None:  # a restart
            return
        wandb = _package()
        self._is_ours = wandb.run is None
        self._run = self._open(wandb, run) if self._is_ours else wandb.run
        self._run.config.update(settings, allow_val_change=True)
        self._run.define_metric("*", step_metric="epoch")

    def _open(self, wandb: Any, run: RunInfo) -> Any:
        folder, path = run.folder / LOGS, run.folder / LOGS / "wandb.json"
        make_folder(folder)
        note = Note.read(path) if run.first_epoch else None
        own = {
            "id": note.id if note else uuid.uuid4().hex[:8],
            "resume": "allow",
            "dir": str(folder),
            "mode": os.environ.get("WANDB_MODE", "offline"),
        }
        opened = wandb.init(**{**own, **self._options})
        Note(opened.id).write(path)
        return opened

    def log(self, values: dict[str, float], epoch: int, *, complete: bool) -> None:
        """Log a part of a row; W&B writes it when the next one begins, or the run ends."""
        self._run.log({"epoch": epoch, **values}, step=epoch)

    def finish(self, values: dict[str, float], *, failed: bool) -> None:
        """Write the results into the run's summary and close the run."""
        if self._run is None:
            return
        self._run.summary.update(values)
        if self._is_ours:
            self._run.finish(exit_code=int(failed))
        self._run = None


def _package() -> Any:
    """The package; raises ConfigError where it is not installed."""
    # without this it reports errors of its own to its makers, offline too
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    try:
        import wandb
    except ImportError:
        raise not_installed("wandb") from None
    if not hasattr(wandb, "init"):  # a folder of that name, which W&B makes here and there
        raise not_installed("wandb")
    return wandb
