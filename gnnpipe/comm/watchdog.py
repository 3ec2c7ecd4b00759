"""What a rank waits for: said aloud when it takes long, and named when it never comes."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from gnnpipe.errors import LostRankError

# A rank says what it waits for after this share of the timeout, and each time as much has passed again.
SHARE_OF_TIMEOUT = 0.1
LEAST_SECONDS = 5.0


class WaitTimeoutError(LostRankError):
    """Another rank gave no answer within the timeout."""


class Waiting:
    """The wait that a rank is in, if any.

    Args:
        rank: whose.
        timeout: seconds after which a wait fails; the process groups see to that.
    """

    def __init__(self, rank: int = 0, timeout: float = 600.0) -> None:
        self._rank, self._timeout = rank, timeout
        self._what: tuple[str, float] | None = None

    @contextmanager
    def on(self, what: str) -> Iterator[None]:
        """Wait for something; ``what`` says which rank it comes from.

        Raises:
            WaitTimeoutError: it did not come in time.
        """
        self._what = what, time.monotonic()
        try:
            yield
        except RuntimeError as error:
            if "timed out" not in str(error).lower():
                raise
            raise WaitTimeoutError(
                f"rank {self._rank} waited {self._timeout:g} s (--timeout) in vain for {what}"
            ) from error
        finally:
            self._what = None

    def watch(self) -> None:
        """Say what is waited for from time to time, from a thread that ends with the process."""
        threading.Thread(target=self._watch, daemon=True, name="watchdog").start()

    def _watch(self) -> None:
        patience = max(LEAST_SECONDS, SHARE_OF_TIMEOUT * self._timeout)
        said = 0.0
        while True:
            time.sleep(min(patience, 1.0))
            waited = self._what
            if waited is None:
                continue
            what, since = waited
            now = time.monotonic()
            if now - max(since, said) >= patience:
                said = now
                sys.stderr.write(f"rank {self._rank} has waited {now - since:.0f} s for {what}\n")
                sys.stderr.flush()
