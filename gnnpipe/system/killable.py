"""C code that holds Python's global lock for long, such as METIS: no handler of ours can run meanwhile."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# Set on handlers that only end the process: see `gnnpipe.system.interruption.ended_at_once`.
ENDS_PROCESS = "ends_process"


@contextmanager
def killable() -> Iterator[None]:
    """Let a signal kill this process at once, where our handler would only have ended it anyway.

    A prompt or a notebook is never killed: it holds more than this run.
    """
    interactive = sys.flags.interactive or hasattr(sys, "ps1")
    numbers: list[signal.Signals] = []
    if threading.current_thread() is threading.main_thread() and not interactive:
        known = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
        numbers = [number for number in known if getattr(signal.getsignal(number), ENDS_PROCESS, False)]
    before = {number: signal.signal(number, signal.SIG_DFL) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
