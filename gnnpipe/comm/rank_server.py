"""The process that ranks are forked from: it has imported what takes seconds, and has no threads.

    launcher --- socket pair ---> server --- fork ---> ranks
        \\________ a pipe that ends with the launcher _______/

There is no address in the file system or the network where anybody else could ask for a process. Ranks never
outlive their launcher, however it ends: the server then reads the end of the socket and kills them, each rank
reads the end of a pipe, and on Linux the system kills the ranks of a server that is gone.
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
from typing import Any

from gnnpipe.comm.rank_process import Task, be_rank
from gnnpipe.system.interruption import STOPS
from gnnpipe.system.parent import SECONDS_BETWEEN_LOOKS, be_killed_with, ended_with

# A message is its length and what was pickled; files that are sent along come with the length.
LENGTH = struct.Struct("q")
# What is told about a rank that has ended: which one, and its exit code, negative for a signal's number.
ENDED = struct.Struct("qq")
MOST_FILES = 16
# stdin, stdout and stderr stand first among the files of a launch, then the pipe that ends with the launcher.
STANDARD = 3


def send(connection: socket.socket, message: Any, files: list[int] | None = None) -> None:
    """Send a message, and open files with it."""
    content = pickle.dumps(message)
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))] if files else []
    connection.sendmsg([LENGTH.pack(len(content))], ancillary)
    connection.sendall(content)


def serve(descriptor: int, launcher: int, preload: list[str]) -> None:
    """Start processes and tell of their ends, for as long as the launcher lives.

    Args:
        descriptor: our end of the socket pair.
        launcher: its process id.
        preload: modules to import first.
    """
    # The launcher passes on what ranks are to hear. They inherit this, so that what is sent before they
    # listen waits for them.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    with ended_with(launcher):
        for name in preload:
            importlib.import_module(name)
    with socket.socket(fileno=descriptor) as connection:
        _Server(connection, launcher).run()


class _Server:
    """The loop of the process."""

    def __init__(self, connection: socket.socket, launcher: int) -> None:
        self._connection, self._launcher = connection, launcher
        self._ranks: dict[int, int] = {}  # of a process

    def run(self) -> None:
        """Serve until the launcher is gone; then so are its ranks."""
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
                        self._tell_of_ends()
                    if self._connection in ready and not self._obey():
                        break
            except ConnectionError:  # the launcher is gone
                pass
            finally:
                self._signal(signal.SIGKILL)

    def _obey(self) -> bool:
        """Do what the launcher says; False if it is gone."""
        header, files, _, _ = socket.recv_fds(self._connection, LENGTH.size, MOST_FILES)
        if not header:
            return False
        message = pickle.loads(_receive(self._connection, LENGTH.unpack(header)[0]))
        if isinstance(message, int):
            self._signal(message)
        else:
            for rank in range(message.num_ranks):
                self._start(rank, message, files)
            for file in files:
                os.close(file)
        return True

    def _start(self, rank: int, task: Task, files: list[int]) -> None:
        server = os.getpid()
        process = os.fork()
        if process:
            self._ranks[process] = rank
            return
        code = 1
        try:
            be_killed_with(server)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._connection.close()
            for number, file in enumerate(files[:STANDARD]):
                os.dup2(file, number)
            code = be_rank(rank, task, files[STANDARD])
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _tell_of_ends(self) -> None:
        while self._ranks:
            process, status = os.waitpid(-1, os.WNOHANG)
            if not process:
                return
            rank = self._ranks.pop(process)
            self._connection.sendall(ENDED.pack(rank, os.waitstatus_to_exitcode(status)))

    def _signal(self, number: int) -> None:
        for process in self._ranks:  # none of them has been waited for, so the numbers are theirs
            os.kill(process, number)


def _receive(connection: socket.socket, length: int) -> bytes:
    content = bytearray()
    while len(content) < length:
        block = connection.recv(length - len(content))
        if not block:
            raise ConnectionError
        content += block
    return bytes(content)
