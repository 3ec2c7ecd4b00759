"""The fork server of a launcher: a process that has imported torch, has no threads, and forks into ranks.

    launcher --- socket pair ---> server --- fork ---> ranks
        \\________ a pipe that ends with the launcher _______/

    launcher -> server    a task: fork its ranks; a number: send all ranks that signal
    server -> launcher    (rank, exit code), for each rank that ends

A socket pair has no address, so no other process can ask the server for a process. Ranks never outlive their
launcher, whichever way it ends: the server reads the end of its socket and kills them, each rank reads the
end of the pipe, and on Linux the system kills the ranks of a server that is gone.
"""

from __future__ import annotations

import array
import importlib
import os
import pickle
import selectors
import signal
import socket
import struct
import sys
from contextlib import suppress
from typing import Any

from gnnpipe.comm.rank_process import Task, be_rank
from gnnpipe.system.interruption import STOPS
from gnnpipe.system.parent import SECONDS_BETWEEN_LOOKS, be_killed_with, ended_with

# The launcher sends a length, then a pickle of that length; open files travel with the length.
LENGTH = struct.Struct("q")
# The server sends a rank's number and its exit code, which is minus the number of a signal that killed it.
ENDED = struct.Struct("qq")
MOST_FILES = 16
# A task's open files are stdin, stdout and stderr, then the pipe that ends with the launcher, then rank 0's
# connection to the launcher if it has one, then files that ranks only have to keep open, such as a lock.
STANDARD = 3


def send(connection: socket.socket, message: Any, files: list[int] | None = None) -> None:
    """Send a pickled message, with copies of open files."""
    content = pickle.dumps(message)
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))] if files else []
    connection.sendmsg([LENGTH.pack(len(content))], ancillary)
    connection.sendall(content)


def serve(descriptor: int, launcher: int, preload: list[str]) -> None:
    """Fork ranks and report their ends, for as long as the launcher lives.

    Args:
        descriptor: the server's end of the socket pair.
        launcher: process id of the launcher.
        preload: modules to import first.
    """
    # Ctrl-C reaches every process of the terminal, but ranks hear of it from the launcher. They inherit the
    # mask, so that a signal that comes before they listen stays pending until they do.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    # the thread of `ended_with` has to be gone before the first fork
    with ended_with(launcher):
        for name in preload:
            with suppress(ImportError):  # a rank that needs it says so in its report
                importlib.import_module(name)
    with socket.socket(fileno=descriptor) as connection:
        _Server(connection, launcher).run()


class _Server:
    """The loop of the process."""

    def __init__(self, connection: socket.socket, launcher: int) -> None:
        self._connection, self._launcher = connection, launcher
        self._ranks: dict[int, int] = {}  # process id -> rank, of those that live

    def run(self) -> None:
        """Serve until the launcher is gone, then kill all ranks."""
        # The end of a child writes to a pipe (the wake-up descriptor), so that one `select` waits for the
        # launcher and for children.
        woken, waker = os.pipe()
        os.set_blocking(woken, False)
        os.set_blocking(waker, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        with selectors.DefaultSelector() as selector:
            selector.register(self._connection, selectors.EVENT_READ)
            selector.register(woken, selectors.EVENT_READ)
            try:
                while os.getppid() == self._launcher:
                    ready = [key.fileobj for key, _ in selector.select(SECONDS_BETWEEN_LOOKS)]
                    if woken in ready:
                        os.read(woken, 65536)
                        self._report_ends()
                    if self._connection in ready and not self._obey():
                        break
            except ConnectionError:  # the launcher is gone
                pass
            finally:
                self._signal(signal.SIGKILL)

    def _obey(self) -> bool:
        """Carry out one request of the launcher; False if it is gone."""
        header, files, _, _ = socket.recv_fds(self._connection, LENGTH.size, MOST_FILES)
        if not header:
            return False
        request = pickle.loads(_receive(self._connection, LENGTH.unpack(header)[0]))
        if isinstance(request, int):
            self._signal(request)
        else:
            for rank in range(request.num_ranks):
                self._start(rank, request, files)
            # ranks have copies; the pipe must end for them when the launcher closes it
            for file in files:
                os.close(file)
        return True

    def _start(self, rank: int, task: Task, files: list[int]) -> None:
        """Fork a rank. The child never returns from here."""
        server = os.getpid()
        process = os.fork()
        if process:
            self._ranks[process] = rank
            return
        code = 1
        try:
            be_killed_with(server)
            # undo what is the server's, and take the launcher's standard streams
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._connection.close()
            for descriptor, file in enumerate(files[:STANDARD]):
                os.dup2(file, descriptor)
            code = be_rank(rank, task, files[STANDARD], files[STANDARD + 1] if task.asks else -1)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _report_ends(self) -> None:
        # several children may have ended for one wake-up
        while self._ranks:
            process, status = os.waitpid(-1, os.WNOHANG)
            if not process:
                return
            rank = self._ranks.pop(process)
            self._connection.sendall(ENDED.pack(rank, os.waitstatus_to_exitcode(status)))

    def _signal(self, number: int) -> None:
        for process in self._ranks:  # none has been waited for, so the system can't have reused their ids
            os.kill(process, number)


def _receive(connection: socket.socket, length: int) -> bytes:
    """Exactly ``length`` bytes; raises ConnectionError where the other side is gone."""
    content = bytearray()
    while len(content) < length:
        block = connection.recv(length - len(content))
        if not block:
            raise ConnectionError
        content += block
    return bytes(content)
