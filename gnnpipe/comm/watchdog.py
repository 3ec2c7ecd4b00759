"""The waits of a rank: printed when they take long, and named in the error when they time out.

    rank 2 has waited 60 s for rows of stage 0 (rank 0)
    rank 2 waited 600 s (--timeout) in vain for rows of stage 0 (rank 0)

A rank that others wait for, and that prints no such line itself, is the straggler.

With NCCL the host does not wait for a message: it tells the device to, and goes on. So such a wait is noted
with a mark in the device's work, and the host looks at the marks before it waits for the device itself::

    host     wait for rows: mark 1   launch A   ...   settle: mark 1? ... mark 1!   read the loss
    device                (rows are late)                  rows, mark 1, A
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from gnnpipe.errors import LostRankError
from gnnpipe.system import device as devices

# A rank prints its wait after this share of the timeout, and again each time that as much has passed.
SHARE_OF_TIMEOUT = 0.1
# Never sooner than after this.
LEAST_SECONDS = 5.0
# Between two looks at a mark in a device's work.
SECONDS_BETWEEN_LOOKS = 0.0002


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
        self._marks: deque[tuple[str, torch.cuda.Event]] = deque()
        """Messages that the device waits for, in words, and what happens when they have come."""

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

    def later(self, awaited: str, device: torch.device) -> None:
        """Note that the device, and not the host, waits for a message from here on; on a CPU do nothing.

        Args:
            awaited: as for `on`.
            device: the device.
        """
        event = devices.mark(device)
        if event is not None:
            self._marks.append((awaited, event))

    def settle(self) -> None:
        """Wait until the device has all messages that it waits for.

        To be called before the host waits for the device, as it would wait there for ever, and for no one.

        Raises:
            WaitTimeoutError: one did not come in time.
        """
        while self._marks:
            awaited, event = self._marks[0]
            with self.on(awaited):
                self._poll(event)
            self._marks.popleft()

    def _poll(self, event: torch.cuda.Event) -> None:
        """Wait for an event; raises RuntimeError, as gloo does, if it does not happen in time."""
        deadline = time.monotonic() + self._timeout
        while not event.query():
            if time.monotonic() > deadline:
                raise RuntimeError("timed out")
            time.sleep(SECONDS_BETWEEN_LOOKS)

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
