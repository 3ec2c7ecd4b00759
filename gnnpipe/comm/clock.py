"""One clock for a rank: seconds that may be compared with those of other ranks."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

Mark = float | torch.cuda.Event
"""A moment: on a CPU its seconds, on CUDA an event between two pieces of the stream's work."""


class Clock:
    """Seconds since the epoch, with the resolution of the performance counter.

    The counter is anchored to the wall clock once, so that readings of several hosts are as comparable as
    their wall clocks (NTP); on one host they agree to microseconds.

    On CUDA the host asks for work long before it is done, and waiting to see when would cost more than the
    work. So moments are marked in the stream, and `seconds` turns an epoch's marks into seconds at once.
    """

    def __init__(self, device: torch.device) -> None:
        self._offset = time.time() - time.perf_counter()
        self._device = device if device.type == "cuda" else None

    def glance(self) -> float:
        """Seconds since the epoch, without waiting for the device: for waits inside an action. On CUDA, where
        the host does not wait for messages, it tells only when they were asked for."""
        return time.perf_counter() + self._offset

    def now(self) -> float:
        """Seconds since the epoch, after the device has done what the current stream was given. It does not
        wait for other streams: a receive that was posted ahead may need what this rank has yet to send."""
        if self._device is not None:
            torch.cuda.current_stream(self._device).synchronize()
        return self.glance()

    def mark(self) -> Mark:
        """The moment when all that was asked for up to here is done."""
        if self._device is None:
            return self.glance()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    def seconds(self, marks: Sequence[Mark]) -> list[float]:
        """Seconds since the epoch of each mark; waits for the device once."""
        if self._device is None:
            return [mark for mark in marks if isinstance(mark, float)]
        events = [mark for mark in marks if isinstance(mark, torch.cuda.Event)]
        last = torch.cuda.Event(enable_timing=True)
        last.record(torch.cuda.current_stream(self._device))
        now = self.now()
        return [now - 1e-3 * event.elapsed_time(last) for event in events]
