"""Signals, as a process hears them."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from gnnpipe.errors import StoppedError
from gnnpipe.system.interruption import STOPS, Wish, ended_at_once, heard, noted


def tell(number: int) -> None:
    os.kill(os.getpid(), number)


def test_the_same_signal_once_more_is_no_second_one_unless_it_comes_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    again: list[int] = []
    wish = Wish(again.append, echo=2.0)
    assert wish.hear(15)
    now = 101.9
    assert not wish.hear(15)
    assert not wish.hear(2)
    assert again == []
    now = 102.1
    assert not wish.hear(2)
    assert again == [2]
    assert wish.number == 15


def wait_after(number: int) -> None:
    tell(number)
    time.sleep(10)


@pytest.mark.parametrize("number", STOPS)
def test_a_wish_is_heard_while_the_main_thread_waits(number: int) -> None:
    before = signal.getsignal(number)
    heard_in: list[str] = []
    released = threading.Lock()
    released.acquire()

    def act(got: int) -> None:
        heard_in.append(threading.current_thread().name)
        assert got == number
        released.release()

    with heard(act):
        tell(number)
        assert released.acquire(timeout=10)
    assert heard_in == ["signals"]
    assert signal.getsignal(number) == before


def test_the_innermost_context_hears() -> None:
    def fail(number: int) -> None:
        raise AssertionError(number)

    with ended_at_once():
        with noted(fail) as wish:
            tell(signal.SIGTERM)
            end = time.monotonic() + 10
            while not wish.number:
                assert time.monotonic() < end
                time.sleep(0.001)
        with pytest.raises(StoppedError, match="stopped"):
            wait_after(signal.SIGTERM)


def test_nohup_keeps_hangups_away() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with noted(lambda number: None) as wish:
            tell(signal.SIGHUP)
            tell(signal.SIGUSR1)
            end = time.monotonic() + 10
            while not wish.number:
                assert time.monotonic() < end
                time.sleep(0.001)
        assert wish.number == signal.SIGUSR1
    finally:
        signal.signal(signal.SIGHUP, before)


def test_in_another_thread_nothing_changes() -> None:
    before = [signal.getsignal(number) for number in STOPS]
    found: list[object] = []

    def run() -> None:
        with heard(lambda number: None):
            found.extend(signal.getsignal(number) for number in STOPS)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == before
