"""C code that holds Python's lock for long, such as METIS: meanwhile no handler of ours can run."""

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
    """Let the system end this process at a signal, at once and without a word, where our handlers would have
    ended it anyway. Never that of a prompt or a notebook, which has more to lose."""
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
