"""Standard streams whose reader may go away: ``gnnpipe train 2>&1 | head``, a closed ssh, a full disk."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

# What is written to a pipe or a terminal that nobody reads any more.
NOBODY_READS = (errno.EPIPE, errno.EIO)


class PatientStream:
    """A stream that takes what it can't pass on, and says nothing more.

    Args:
        stream: what is written to.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.failure: OSError | None = None
        """Why nothing is passed on any more."""

    def write(self, text: str) -> int:
        """Pass on, if that is possible."""
        if self.failure is None:
            try:
                return self._stream.write(text)
            except OSError as error:
                self._give_up(error)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Pass on, if that is possible."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Pass on what was kept, if that is possible."""
        if self.failure is None:
            try:
                self._stream.flush()
            except OSError as error:
                self._give_up(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _give_up(self, error: OSError) -> None:
        """What else writes there, and Python itself as it ends, shall not fail either."""
        self.failure = error
        try:
            descriptor = self._stream.fileno()
        except (OSError, ValueError, AttributeError):
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)


@contextmanager
def patient_streams() -> Iterator[None]:
    """Write to stdout and stderr without ever failing.

    Raises:
        OSError: at the end, if somebody reads stdout but some of it could not be written.
    """
    _open_closed_ones()
    kept = sys.stdout, sys.stderr
    patient = [PatientStream(stream) for stream in kept]
    sys.stdout, sys.stderr = (cast(TextIO, stream) for stream in patient)
    try:
        yield
    finally:
        for stream in patient:
            stream.flush()
        sys.stdout, sys.stderr = kept
    failure = patient[0].failure
    if failure is not None and failure.errno not in NOBODY_READS:
        raise failure


def _open_closed_ones() -> None:
    """``gnnpipe ... 2>&-``: the next file that is opened would become stderr, and be written to."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
