"""Starting the ranks of a run on this host, and ending them.

launcher           rank server             ranks
warm_up ---------> imports torch           .
launch_local ----> forks ----------------> be_rank
a signal --------> passes it on ---------> finish the epoch, save, end
`ended` <--------- rank, exit code         .
closes `life` ---------------------------> end at once (a pipe that every rank watches)
"""

from __future__ import annotations

import atexit
import math
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol

import torch

from gnnpipe.comm.rank_process import FAILED, TOLD_TO_END, Failure, Task
from gnnpipe.comm.rank_server import ENDED, send
from gnnpipe.comm.watchdog import WaitTimeoutError
from gnnpipe.errors import CheckpointError, ConfigError, LostRankError, StoppedError, TrainingError
from gnnpipe.files.reading import read_json
from gnnpipe.files.scratch import scratch_folder
from gnnpipe.files.typed_json import from_object
from gnnpipe.system.interruption import STOPS, TWICE_SECONDS, Wish, heard
from gnnpipe.system.main_module import MAIN, check_guard
from gnnpipe.system.resources import LAUNCHED_WITH_CORES, cores

# Modules that the rank server imports before it forks: they take seconds. PyTorch imports the last one at the
# first step of an optimiser, which would take each rank a second and 50 MB of its own.
PRELOADED = ("torch", "torch.distributed", "torch._dynamo")

# Errors with a message for the user; any other error is shown with its traceback.
OUR_ERRORS = tuple(
    error.__name__ for error in (TrainingError, CheckpointError, WaitTimeoutError, ConfigError)
)
# In a rank's traceback: it only failed because its peer was gone.
SIGNS_OF_A_LOST_PEER = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "Timed out waiting",
)
# After a rank has failed, others get this long to fail as well: the cause is the first among all reports.
SECONDS_TO_FAIL = 1.0
# A rank that is told to end does so at once; one that does not is stopped (SIGSTOP), and is killed.
SECONDS_TO_OBEY = 5.0
# After a rank has ended well, others may still write results, perhaps to a slow disk.
SECONDS_AFTER_THE_FIRST = 600.0
SECONDS_BETWEEN_LOOKS = 0.1
# Exit codes of ranks that a signal has ended in good order.
TOLD = tuple(128 + number for number in STOPS)


class Answerer(Protocol):
    """Answers the messages of rank 0, in the thread that launches."""

    def answer(self, message: bytes) -> bytes:
        """The answer to a message; must not raise."""

    def interrupt(self, number: int) -> None:
        """A signal tells this process to end; raises what is to interrupt an answer that is under way."""


class RankServer:
    """The launcher's handle of its rank server, the process that ranks are forked from (`rank_server`).

    Args:
        items: function and arguments of the task to come; their modules are imported before any fork.
    """

    def __init__(self, items: Iterable[Any]) -> None:
        modules = {item.__module__ for item in items if hasattr(item, "__module__")}
        preload = [*PRELOADED, *sorted(modules - {MAIN})]
        ours, theirs = socket.socketpair()
        with theirs:
            start = (
                f"import sys; sys.path[:] = {sys.path!r}; from gnnpipe.comm.rank_server import serve; "
                f"serve({theirs.fileno()}, {os.getpid()}, {preload!r})"
            )
            self._process = subprocess.Popen(
                [sys.executable, "-c", start],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=_local_environment(),
            )
        self._connection, self._owner, self._lock = ours, os.getpid(), threading.Lock()
        atexit.register(self.close)

    @property
    def usable(self) -> bool:
        """Whether the server lives and belongs to this process, not to one that this was forked from."""
        return self._owner == os.getpid() and self._process.poll() is None

    @property
    def connection(self) -> socket.socket:
        """Readable when `ended` has something to say."""
        return self._connection

    def start(self, task: Task, life: int, kept: tuple[int, ...]) -> None:
        """Start the ranks of a task.

        Args:
            task: the task.
            life: open read end of a pipe; ranks end when it does.
            kept: open files that ranks hold as long as they live; the first is rank 0's connection to this
                process, if it has one.
        """
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        self._send(task, [0, 1, 2, life, *kept])

    def signal(self, number: int) -> None:
        """Send all ranks a signal."""
        self._send(number)

    def _send(self, message: Any, files: list[int] | None = None) -> None:
        with self._lock, suppress(ConnectionError):  # `ended` reports a server that is gone
            send(self._connection, message, files)

    def ended(self) -> tuple[int, int]:
        """Wait for a rank to end; return its number and exit code.

        Raises:
            LostRankError: the server is gone, and the ranks with it.
        """
        content = b""
        with suppress(ConnectionError):
            content = self._connection.recv(ENDED.size, socket.MSG_WAITALL)
        if len(content) < ENDED.size:
            raise LostRankError(
                "the process that starts the ranks ended, and they with it; somebody killed it, or the "
                "system did because memory ran out"
            )
        rank, code = ENDED.unpack(content)
        return rank, code

    def close(self) -> None:
        """End the server, and its ranks with it."""
        atexit.unregister(self.close)
        self._connection.close()
        if self._owner == os.getpid():  # a forked copy of this process only closes its end
            self._process.kill()
            self._process.wait()


# Servers without a task. A launch takes one out, so two threads that launch never share one.
_idle: list[RankServer] = []


def warm_up(function: Callable[..., None], *arguments: Any) -> None:
    """Start a rank server, which imports modules while this process loads the graph.

    Args:
        function: function that the ranks will call, as for `launch_local`.
        arguments: those of its arguments that are known already.
    """
    check_guard()
    torch.set_num_threads(cores())  # of this process, which loads and cuts the graph
    if not any(server.usable for server in _idle):
        _idle.append(RankServer((function, *arguments)))


@contextmanager
def _server(items: Iterable[Any]) -> Iterator[RankServer]:
    """A server for this launch alone; it is kept for the next one unless something goes wrong."""
    while _idle:
        server = _idle.pop()
        if server.usable:
            break
        server.close()
    else:
        server = RankServer(items)
    try:
        yield server
    except BaseException:
        server.close()
        raise
    _idle.append(server)


def launch_local(
    function: Callable[..., None],
    arguments: tuple[Any, ...],
    num_ranks: int,
    kept: tuple[int, ...] = (),
    answerer: Answerer | None = None,
    ending: str = "ranks end as soon as their epoch is saved; a second signal ends them at once",
) -> None:
    """Run ``function(*arguments, store)`` in ``num_ranks`` processes of this host; with an answerer,
    ``function(*arguments, line, store)``.

    ``store`` is the file for their rendezvous; all traffic stays on the loopback interface. A signal that
    tells this process to end is passed on to the ranks; a second one kills them. ``line`` is a connection to
    this process on rank 0, and None on the others: rank 0 sends a message and gets its answer.

    Args:
        function: function that every rank calls.
        arguments: its arguments, but for the last.
        num_ranks: number of ranks.
        kept: open files that ranks hold as long as they live, such as a lock.
        answerer: answers rank 0; None if it asks nothing.
        ending: tells the user how ranks end when a signal comes.

    Raises:
        TrainingError: a rank failed; the message says which failed first and why.
        LostRankError: the same, where a process died or gave no answer.
        StoppedError: a signal told this process or a rank to end, and all ranks have ended.
        ConfigError: the function or an argument can't be sent to another process.
    """
    check_guard()
    with scratch_folder() as folder:
        asks = answerer is not None
        task = Task.of(function, arguments, num_ranks, folder, _local_environment(), asks=asks)
        with _server((function, *arguments)) as server:
            wish = Wish(lambda _: server.signal(signal.SIGKILL), TWICE_SECONDS)
            interrupt = answerer.interrupt if answerer else None
            hears = heard(lambda number: _pass_on(number, wish, server, ending), interrupt)
            with hears, _lines(answerer) as lines:
                codes = _wait(server, task, kept, wish, lines)
        if any(codes.values()):
            raise _outcome(codes, wish, folder)


def _pass_on(number: int, wish: Wish, server: RankServer, words: str) -> None:
    """Tell the user and the ranks of a first signal; ``wish`` acts on a second one."""
    if wish.hear(number):
        name = signal.Signals(number).name
        sys.stderr.write(f"\n{name}: {words}\n")
        sys.stderr.flush()
        server.signal(number)


class _Line:
    """The launcher's end of the connection to rank 0."""

    def __init__(self, answerer: Answerer, ours: Connection, theirs: Connection) -> None:
        self._answerer = answerer
        self.ours, self.theirs = ours, theirs

    def serve(self) -> bool:
        """Answer a message; return False if rank 0 is gone."""
        try:
            self.ours.send_bytes(self._answerer.answer(self.ours.recv_bytes()))
        except (EOFError, OSError):
            return False
        return True


@contextmanager
def _lines(answerer: Answerer | None) -> Iterator[list[_Line]]:
    """A connection for rank 0, if there is somebody to answer it."""
    if answerer is None:
        yield []
        return
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs:
        yield [_Line(answerer, ours, theirs)]


@contextmanager
def _started(
    server: RankServer, task: Task, kept: tuple[int, ...], lines: list[_Line]
) -> Iterator[Connection]:
    """Start the ranks; yields the end of a pipe which tells them to end when it is closed."""
    reader, life = multiprocessing.Pipe(duplex=False)
    with life:
        server.start(task, reader.fileno(), (*(line.theirs.fileno() for line in lines), *kept))
        # ranks have copies; one here would keep the pipe, or the connection, open
        for end in (reader, *(line.theirs for line in lines)):
            end.close()
        yield life


def _wait(
    server: RankServer, task: Task, kept: tuple[int, ...], wish: Wish, lines: list[_Line]
) -> dict[int, int]:
    """Start the ranks, answer rank 0, and wait until all have ended; return the exit code of each rank."""
    # What happens to the others once a rank has ended:
    #     it failed        SECONDS_TO_FAIL          `life` is closed, which tells them to end
    #     it ended well    SECONDS_AFTER_THE_FIRST  the same
    #     then             SECONDS_TO_OBEY          they are killed
    codes: dict[int, int] = {}
    with _started(server, task, kept, lines) as life:
        if wish.number:  # the signal came before there were ranks to pass it on to
            server.signal(wish.number)
        deadline = math.inf
        while len(codes) < task.num_ranks:
            ready = wait([server.connection, *(line.ours for line in lines)], SECONDS_BETWEEN_LOOKS)
            lines = [line for line in lines if line.ours not in ready or line.serve()]
            if server.connection in ready:
                rank, code = server.ended()
                codes[rank] = code
                patience = SECONDS_AFTER_THE_FIRST if code in (0, *TOLD) else SECONDS_TO_FAIL
                # after `life` is closed the deadline is that of the kill, and stands
                deadline = deadline if life.closed else min(deadline, time.monotonic() + patience)
            if time.monotonic() > deadline:
                deadline = time.monotonic() + SECONDS_TO_OBEY
                server.signal(signal.SIGKILL) if life.closed else life.close()
    return codes


def _outcome(codes: dict[int, int], wish: Wish, folder: Path) -> StoppedError | TrainingError:
    """The error that says why the ranks have ended.

    A rank that a signal has ended makes its peers fail. Their errors count only if they have other causes.
    """
    number = wish.number or next((code - 128 for code in codes.values() if code in TOLD), 0)
    failures = [from_object(Failure, read_json(path)) for path in folder.glob(f"{FAILED}*")]
    if number and all(_is_echo(failure) or _is_late(failure) for failure in failures):
        return StoppedError(number)
    told = {int(path.name.removeprefix(TOLD_TO_END)) for path in folder.glob(f"{TOLD_TO_END}*")}
    # neither told to end nor ended well: these have failed, with or without a report
    well = {rank for rank, code in codes.items() if code in (0, *TOLD)}
    return _first_failure(failures, set(codes) - told - well)


def _local_environment() -> dict[str, str]:
    """The environment of ranks: sockets on loopback only, and one thread at first.

    A rank sets its own number of threads later, from this process's cores.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", LAUNCHED_WITH_CORES: str(cores())}
    loopback = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), None)
    if loopback:  # replaces the interfaces that a cluster sets for runs over several hosts
        environment |= {"GLOO_SOCKET_IFNAME": loopback, "NCCL_SOCKET_IFNAME": loopback}
    return environment


def _first_failure(failures: list[Failure], failed: set[int]) -> TrainingError:
    """The error of the rank that failed first.

    A rank that gives no answer, or is gone, makes all that wait for it fail. So every rank leaves a report,
    and reports that blame a peer count only if there are no others:

        causes    own errors            the first of these is the error
        late      waits that timed out  the first of these, with the name of a rank that left no report
        silent    no report             killed from outside
        echoes    the peer was gone     the first of these

    Args:
        failures: reports of ranks.
        failed: ranks that failed, with or without a report.
    """
    failures = sorted(failures, key=lambda failure: failure.seconds)
    late = [failure for failure in failures if _is_late(failure)]
    causes = [failure for failure in failures if not _is_echo(failure) and not _is_late(failure)]
    silent = sorted(failed - {failure.rank for failure in failures})
    if causes:
        return _as_error(causes[0])
    if late:
        mute = f"; nothing was heard of rank {silent[0]}, which is stopped or cut off" if silent else ""
        return LostRankError(_words(late[0].traceback) + mute)
    if silent:
        return LostRankError(
            f"rank {silent[0]} failed first: it ended without a word; somebody killed it, or the system did "
            "because memory ran out"
        )
    return _as_error(failures[0])


def _as_error(failure: Failure) -> TrainingError:
    """One line for an error that was raised on purpose, the whole traceback for any other."""
    text = failure.traceback.strip()
    ours = any(f"{error}: " in text for error in OUR_ERRORS)
    return TrainingError(_words(text) if ours else f"rank {failure.rank} failed first:\n{text}")


def _words(text: str) -> str:
    """The message of an error of ours, without its traceback."""
    text = text.strip()
    return max((text.rsplit(f"{error}: ", 1) for error in OUR_ERRORS), key=len)[-1]


def _is_late(failure: Failure) -> bool:
    """Whether a rank failed because a wait for another one timed out."""
    return WaitTimeoutError.__name__ in failure.traceback


def _is_echo(failure: Failure) -> bool:
    """Whether a rank only failed because its peer was gone."""
    return any(sign in failure.traceback for sign in SIGNS_OF_A_LOST_PEER)
