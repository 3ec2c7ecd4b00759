"""Rank 0 asks the launcher, which answers in the thread that waits."""

from __future__ import annotations

import multiprocessing
import os
import threading
from multiprocessing.connection import Connection

import pytest

from gnnpipe.comm.launch import _Line, launch_local
from gnnpipe.errors import LostRankError


class Echo:
    """Answers with what it was told before, and keeps the threads in which it did."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.threads: set[int] = set()

    def answer(self, message: bytes) -> bytes:
        self.heard.append(message)
        self.threads.add(threading.get_ident())
        return b" ".join(self.heard)

    def interrupt(self, number: int) -> None:
        pass


def _ask(times: int, line: Connection | None, store: str) -> None:
    rank = int(os.environ["RANK"])
    assert (line is not None) == (rank == 0)
    if line is None:
        return
    expected = b""
    for number in range(times):
        message = str(number).encode() * 70_000  # more than a socket holds
        line.send_bytes(message)
        expected = b" ".join([expected, message]) if number else message
        assert line.recv_bytes() == expected


def _ask_and_die(line: Connection | None, store: str) -> None:
    if line is not None:
        line.send_bytes(b"last words")
        os._exit(7)


def test_rank_0_has_a_line_and_the_others_have_none() -> None:
    echo = Echo()
    launch_local(_ask, (3,), 3, answerer=echo)
    assert [message[:1] for message in echo.heard] == [b"0", b"1", b"2"]
    assert echo.threads == {threading.get_ident()}


def test_an_answer_to_a_rank_that_is_gone_is_lost() -> None:
    with pytest.raises(LostRankError, match="rank 0 failed first"):
        launch_local(_ask_and_die, (), 2, answerer=Echo())


def test_the_end_of_rank_0_is_the_end_of_the_line() -> None:
    ours, theirs = multiprocessing.Pipe()
    with ours:
        line = _Line(Echo(), ours, theirs)
        theirs.send_bytes(b"hello")
        assert line.serve()
        assert theirs.recv_bytes() == b"hello"
        theirs.close()
        assert not line.serve()
