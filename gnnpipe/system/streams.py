"""Standard streams that outlive their reader: ``gnnpipe train 2>&1 | head``, a closed ssh, a full disk."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

# Errors of writing to a pipe or a terminal that nobody reads any more.
NOBODY_READS = (errno.EPIPE, errno.EIO)


class PatientStream:
    """A stream that swallows all text after the first failed write, instead of raising.

    Args:
        stream: gets the text.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.failure: OSError | None = None
        """Error of the first failed write; None while text is passed on."""

    def write(self, text: str) -> int:
        """Pass the text on, unless a write has failed; return its length either way."""
        if self.failure is None:
            try:
                return self._stream.write(text)
            except OSError as error:
                self._give_up(error)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Pass the lines on, unless a write has failed."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush the stream, unless a write has failed."""
        if self.failure is None:
            try:
                self._stream.flush()
            except OSError as error:
                self._give_up(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _give_up(self, error: OSError) -> None:
        """Note the error, and lead the descriptor to the null device.

        So neither C libraries that write there nor Python, which flushes the stream as it exits, fail too.
        """
        self.failure = error
        try:
            descriptor = self._stream.fileno()
        except (OSError, ValueError, AttributeError):
            return
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, descriptor)
        os.close(null)


@contextmanager
def patient_streams() -> Iterator[None]:
    """Let no write to stdout or stderr fail while the context lasts.

    Raises:
        OSError: when the context ends, if text for stdout was lost though it has a reader (a full disk).
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
    """Open the null device for each standard stream that is closed, as after ``gnnpipe ... 2>&-``.

    Otherwise the next file that is opened would get descriptor 2, and messages would be written into it.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the system gives it the lowest free number: this one
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
