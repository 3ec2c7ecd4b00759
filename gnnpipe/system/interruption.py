"""Signals that ask a process to end, heard even while it waits in C++.

A Python signal handler runs only between bytecodes, and a rank spends its life inside collectives. Python's C
handler runs at once, in whichever thread the system picks, and writes the signal's number to a pipe; a thread
of ours reads it there:

    signal -> C handler (any thread) -> wake-up pipe -> thread "signals" -> act(number)
                                                     -> main thread, between bytecodes -> in_main(number)

Contexts nest: the innermost one hears.

    loading     `ended_at_once`: nothing would be lost, so the first signal ends the process
    training    `noted`: the epoch is finished and saved; a second signal ends the process at once
    launcher    `heard`: passes the signal on to its ranks
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
# A second signal within this time is taken for an echo: `timeout` and some launchers send each signal twice,
# to the process and to its group.
TWICE_SECONDS = 0.1
# The same for a rank, which may hear from the terminal or the batch system and then from its launcher.
ECHO_SECONDS = 2.0
# Patience with C code that doesn't return to Python, where StoppedError could be raised.
SECONDS_TO_UNWIND = 2.0


class Wish:
    """The wish that this process ends, once a signal has said so.

    Args:
        again: called with the number of a second signal, unless that is an echo of the first.
        echo: seconds after the first signal during which another one counts as its echo.
    """

    def __init__(self, again: Callable[[int], None], echo: float = ECHO_SECONDS) -> None:
        self.number = 0
        """Number of the first signal; 0 as long as there was none."""
        self._again, self._echo, self._since = again, echo, 0.0

    def hear(self, number: int) -> bool:
        """Take in a signal; return whether it is the first."""
        if not self.number:
            self.number, self._since = number, time.monotonic()
            return True
        if time.monotonic() - self._since > self._echo:
            self._again(number)
        return False


@contextmanager
def heard(act: Callable[[int], object], in_main: Callable[[int], None] | None = None) -> Iterator[None]:
    """Call ``act(number)`` for each signal of `STOPS`, from a thread, until the context ends.

    Python handles signals in the main thread only: entered from another thread, the context does nothing.

    Args:
        act: must not raise.
        in_main: called in the main thread too, as soon as that runs Python; it may raise.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def listen() -> None:
        while received := os.read(reader, 1):  # empty when the context closes the other end
            if received[0] in STOPS:
                act(received[0])
        os.close(reader)

    def handle(number: int, _: FrameType | None) -> None:
        if in_main is not None:
            in_main(number)

    setattr(handle, ENDS_PROCESS, getattr(in_main, ENDS_PROCESS, False))
    thread = threading.Thread(target=listen, daemon=True, name="signals")
    thread.start()
    before_fd = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    # SIGHUP stays ignored where nohup has asked for it. An ignored SIGINT does not: shells ignore it for
    # every process in the background, where users still expect it to work.
    numbers = [n for n in STOPS if n != signal.SIGHUP or signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            # None: the handler was set from C, and Python can't put it back
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        signal.set_wakeup_fd(before_fd, warn_on_full_buffer=False)
        os.close(writer)


@contextmanager
def ended_at_once() -> Iterator[None]:
    """Raise StoppedError in the main thread at the first signal.

    The process ends without unwinding at a second signal, or where the main thread stays in C code for more
    than `SECONDS_TO_UNWIND`.
    """
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

    setattr(in_main, ENDS_PROCESS, True)
    try:
        with heard(act, in_main):
            yield
    finally:
        over.set()


@contextmanager
def noted(at_once: Callable[[int], None]) -> Iterator[Wish]:
    """Note the first signal as a wish, which the training loop looks at once an epoch.

    Args:
        at_once: called with the number of a second signal.
    """
    wish = Wish(at_once)
    with heard(wish.hear):
        yield wish


def exit_at_once(number: int) -> None:
    """End this process, without any clean-up, with a shell's exit code for that signal."""
    os._exit(128 + number)
