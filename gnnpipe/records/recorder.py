"""Writing records and weights during a run, and going on when that fails."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Sequence

from torch import Tensor

from gnnpipe.config.run import OnWriteError
from gnnpipe.errors import TrainingError
from gnnpipe.records.folder import RunFolder
from gnnpipe.records.record import EpochRecord, Summary
from gnnpipe.system.failures import advice, reason


class Recorder:
    """Writes records and weights; used on rank 0.

    Args:
        folder: of the run.
        on_error: stop the run when something can't be written, or go on and try again with the next epoch.
        warn: shows the user a failure after which the run goes on.
    """

    def __init__(self, folder: RunFolder, on_error: OnWriteError, warn: Callable[[str], None]) -> None:
        self._folder, self._on_error, self._warn = folder, on_error, warn
        self._records: list[EpochRecord] = []
        self._weights: tuple[dict[str, Tensor], dict[str, str]] | None = None
        self._failing = False

    def append(self, record: EpochRecord) -> None:
        """Add an epoch's line."""
        self._records.append(record)
        self._write()

    def model(self, shares: Iterable[dict[str, Tensor]], about: dict[str, str]) -> None:
        """Write the best weights so far.

        Args:
            shares: weights by name, of each rank's layers.
            about: metadata of the file.
        """
        self._weights = {name: tensor for share in shares for name, tensor in share.items()}, about
        self._write()

    def summary(self, summary: Summary, class_names: Sequence[str] = ()) -> None:
        """Write the summary, with tables by class. If that fails the run has failed, whatever ``on_error``
        says."""
        try:
            self._flush()
            self._folder.write_summary(summary, class_names)
        except OSError as error:
            raise self._failure(error) from None

    def failed(self, error: OSError) -> None:
        """Stop or warn after a failure to write, also of something that is written elsewhere.

        Raises:
            TrainingError: ``on_error`` is stop.
        """
        if self._on_error == "stop":
            raise self._failure(error) from None
        if not self._failing:
            self._warn(f"{self._failure(error)}; training goes on")
        self._failing = True

    def _write(self) -> None:
        try:
            self._flush()
            self._failing = False
        except OSError as error:
            self.failed(error)

    def _flush(self) -> None:
        """Write what earlier failures have left unwritten, and what is new; raises OSError."""
        failure: OSError | None = None
        while self._records and failure is None:
            try:
                self._folder.append(self._records[0])
                self._records.pop(0)
            except OSError as error:
                failure = error
        # Tried even if a record has failed: a disk may have room for the one and not for the other.
        if self._weights is not None:
            self._folder.write_model(*self._weights)
            self._weights = None
        if failure is not None:
            raise failure

    def _failure(self, error: OSError) -> TrainingError:
        path = self._folder.path
        in_the_way = error.errno in (errno.EISDIR, errno.ELOOP, errno.EINVAL, errno.ENOTDIR, errno.EEXIST)
        why = reason(error, str(path)) if in_the_way else error.strerror or error
        cure = advice(error) if in_the_way else "make room or bring the folder back"
        return TrainingError(
            f"out: can't write to '{path}' ({why}); {cure}, "
            f"then go on from the last checkpoint with gnnpipe train --resume {path}"
        )
