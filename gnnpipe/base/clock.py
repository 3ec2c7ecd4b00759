"""One clock for a rank: seconds that may be compared with those of other ranks."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch


class Clock:
    """Seconds since the epoch, with the resolution of the performance counter.

    The counter is anchored to the wall clock once, so that readings of several hosts are as comparable as
    their wall clocks (NTP); on one host they agree to microseconds. On CUDA a reading waits for the work
    that the current stream was given before, as otherwise it would tell when work was queued, not done. It
    does not wait for other streams: a receive that was posted ahead may need what this rank has yet to send.
    """

    def __init__(self, device: torch.device) -> None:
        self._offset = time.time() - time.perf_counter()
        self._settle: Callable[[], None] = lambda: None
        if device.type == "cuda":
            self._settle = lambda: torch.cuda.current_stream(device).synchronize()

    def glance(self) -> float:
        """Seconds since the epoch, without waiting for the device: for waits inside an action. On CUDA, where
        the host does not wait for messages, it tells only when they were asked for."""
        return time.perf_counter() + self._offset

    def now(self) -> float:
        """Seconds since the epoch, after the device has done what it was given."""
        self._settle()
        return self.glance()
