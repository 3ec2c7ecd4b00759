"""The waits of a rank: printed when they take long, and named in the error when they time out.

    rank 2 has waited 60 s for rows of stage 0 (rank 0)
    rank 2 waited 600 s (--timeout) in vain for rows of stage 0 (rank 0)

A rank that others wait for, and that prints no such line itself, is the straggler.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from gnnpipe.errors import LostRankError

# A rank prints its wait after this share of the timeout, and again each time that as much has passed.
SHARE_OF_TIMEOUT = 0.1
# Never sooner than after this.
LEAST_SECONDS = 5.0


class WaitTimeoutError(LostRankError):
    """Another rank gave no answer within the timeout."""


class Waiting:
    """The wait that a rank is in, if any.

    Args:
        rank: number of the rank.
        timeout: seconds after which a wait fails; the process groups enforce it.
    """

    def __init__(self, rank: int = 0, timeout: float = 600.0) -> None:
        self._rank, self._timeout = rank, timeout
        self._current: tuple[str, float] | None = None
        """The awaited message in words, and the monotonic time when the wait began."""

    @contextmanager
    def on(self, awaited: str) -> Iterator[None]:
        """Note a wait while the context lasts.

        Args:
            awaited: the message in words, with its sender.

        Raises:
            WaitTimeoutError: it did not come in time.
        """
        self._current = awaited, time.monotonic()
        try:
            yield
        except RuntimeError as error:
            # gloo's timeouts are plain RuntimeErrors
            if "timed out" not in str(error).lower():
                raise
            raise WaitTimeoutError(
                f"rank {self._rank} waited {self._timeout:g} s (--timeout) in vain for {awaited}"
            ) from error
        finally:
            self._current = None

    def watch(self) -> None:
        """Print long waits from a thread that ends with the process."""
        threading.Thread(target=self._watch, daemon=True, name="watchdog").start()

    def _watch(self) -> None:
        patience = max(LEAST_SECONDS, SHARE_OF_TIMEOUT * self._timeout)
        printed = 0.0
        while True:
            time.sleep(min(patience, 1.0))
            current = self._current  # read once: the main thread replaces it at any time
            if current is None:
                continue
            awaited, since = current
            now = time.monotonic()
            if now - max(since, printed) >= patience:
                printed = now
                sys.stderr.write(f"rank {self._rank} has waited {now - since:.0f} s for {awaited}\n")
                sys.stderr.flush()
