"""The clock of a rank: its seconds are comparable with those of other ranks."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from gnnpipe.system.device import finish

Mark = float | torch.cuda.Event
"""A moment: on a CPU in seconds, on CUDA an event recorded between two pieces of the stream's work."""


class Clock:
    """Seconds since the epoch, with the resolution of the performance counter.

    The counter is anchored to the wall clock once. Readings of one host agree to microseconds, readings of
    several hosts as well as their wall clocks do (NTP).

    On CUDA the host launches work long before the device does it, and waiting after each piece would cost
    more than the piece. So moments are marked in the stream, and `seconds` converts a whole epoch's marks::

        host     launch A   mark 1   launch B   mark 2   ...           seconds([1, 2])
        stream                  AAAAAAAAAAAA 1 BBBBBBBBBBBBBBBBBB 2
    """

    def __init__(self, device: torch.device) -> None:
        self._offset = time.time() - time.perf_counter()
        self._device = device if device.type == "cuda" else None

    def glance(self) -> float:
        """Seconds since the epoch, without waiting for the device: for waits inside an action.

        On CUDA the host does not wait for messages itself; this is then the moment when it asked the stream
        to wait.
        """
        return time.perf_counter() + self._offset

    def now(self) -> float:
        """Seconds since the epoch, once the device has done all work of the current stream.

        Other streams are not waited for: a receive that was posted ahead may need a message that this rank
        has yet to send.
        """
        if self._device is not None:
            finish(self._device)
        return self.glance()

    def mark(self) -> Mark:
        """The moment when all work launched so far on the current stream is done."""
        if self._device is None:
            return self.glance()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    def seconds(self, marks: Sequence[Mark]) -> list[float]:
        """Seconds since the epoch for each mark; waits for the device once."""
        if self._device is None:
            return [mark for mark in marks if isinstance(mark, float)]
        events = [mark for mark in marks if isinstance(mark, torch.cuda.Event)]
        # events only tell the time between two of them: count back from one that ends now
        last = torch.cuda.Event(enable_timing=True)
        last.record(torch.cuda.current_stream(self._device))
        now = self.now()
        return [now - 1e-3 * event.elapsed_time(last) for event in events]  # elapsed_time is in ms
