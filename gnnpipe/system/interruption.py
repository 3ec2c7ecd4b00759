"""Signals that ask a process to end, heard even while it waits in C++.

A Python signal handler only runs between bytecodes, and a rank spends its life inside collectives. What runs
at once, whichever thread the system picks, is Python's C handler, which writes the signal's number to a pipe;
a thread reads it there. Contexts nest: the innermost one hears.

loading     `ended_at_once`: nothing is lost, so the first signal ends the process
training    `noted`: the epoch is finished and saved; a second signal ends the process at once
launcher    `heard`: passes the wish on to its ranks
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from gnnpipe.errors import StoppedError
from gnnpipe.system.killable import ENDS_PROCESS

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
# `timeout` and some launchers send a signal twice, to the process and to its group.
TWICE_SECONDS = 0.1
# A rank may get a signal from the terminal or the batch system and then once more from its launcher.
ECHO_SECONDS = 2.0
# For C code that doesn't come back to Python.
SECONDS_TO_UNWIND = 2.0


class Wish:
    """Whether this process was told to end.

    Args:
        again: called with the number of a second signal that is not the first one's echo.
        echo: seconds after the first signal within which another is the same wish.
    """

    def __init__(self, again: Callable[[int], None], echo: float = ECHO_SECONDS) -> None:
        self.number = 0
        """The first signal's; 0 if there was none."""
        self._again, self._echo, self._since = again, echo, 0.0

    def hear(self, number: int) -> bool:
        """Take a signal in; whether it is the first."""
        if not self.number:
            self.number, self._since = number, time.monotonic()
            return True
        if time.monotonic() - self._since > self._echo:
            self._again(number)
        return False


@contextmanager
def heard(act: Callable[[int], object], in_main: Callable[[int], None] | None = None) -> Iterator[None]:
    """Call ``act(number)`` for each signal of `STOPS`, from a thread.

    In another thread than the main one, where Python can't listen, nothing changes.

    Args:
        act: must not raise.
        in_main: called in the main thread too, as soon as that runs Python; it ends the process.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def listen() -> None:
        while received := os.read(reader, 1):
            if received[0] in STOPS:
                act(received[0])
        os.close(reader)

    def handle(number: int, _: FrameType | None) -> None:
        if in_main is not None:
            in_main(number)

    setattr(handle, ENDS_PROCESS, in_main is not None)
    thread = threading.Thread(target=listen, daemon=True, name="signals")
    thread.start()
    before_fd = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    # nohup has told this process to ignore SIGHUP, and means it; so has a shell of SIGINT if this process
    # runs in the background, where nobody would expect that
    numbers = [n for n in STOPS if n != signal.SIGHUP or signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        signal.set_wakeup_fd(before_fd, warn_on_full_buffer=False)
        os.close(writer)


@contextmanager
def ended_at_once() -> Iterator[None]:
    """The first signal raises StoppedError here. Where that takes long, as some C code doesn't come back to
    Python, or at a second signal, the process ends without it."""
    over = threading.Event()

    def leave(number: int) -> None:
        if os.environ.get("RANK", "0") == "0":
            sys.stderr.write(f"\n{StoppedError(number)}\n")
        exit_at_once(number)

    def soon(number: int) -> None:
        if not over.wait(SECONDS_TO_UNWIND):
            leave(number)

    wish = Wish(leave, TWICE_SECONDS)

    def act(number: int) -> None:
        if wish.hear(number):
            threading.Thread(target=soon, args=(number,), daemon=True).start()

    raised: list[int] = []

    def in_main(number: int) -> None:
        if not raised:
            raised.append(number)
            raise StoppedError(number)

    try:
        with heard(act, in_main):
            yield
    finally:
        over.set()


@contextmanager
def noted(at_once: Callable[[int], None]) -> Iterator[Wish]:
    """The first signal is a wish, which whoever works looks at from time to time.

    Args:
        at_once: called at a second one.
    """
    wish = Wish(at_once)
    with heard(wish.hear):
        yield wish


def exit_at_once(number: int) -> None:
    """End this process as the shell says that a signal ended it."""
    os._exit(128 + number)
