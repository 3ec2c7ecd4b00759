"""The life of a rank's process: prepare what the launcher sent, run it, report how it ended."""

from __future__ import annotations

import io
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import FunctionType
from typing import Any

from gnnpipe.errors import ConfigError, StoppedError, shown
from gnnpipe.files.typed_json import json_text
from gnnpipe.files.writing import write_file
from gnnpipe.system.interruption import STOPS, exit_at_once, heard
from gnnpipe.system.main_module import MAIN, import_main, main_module
from gnnpipe.system.streams import patient_streams

# Files that a rank leaves in the launch's folder are named by these and its number.
FAILED, TOLD_TO_END = "failed-", "told-to-end-"


@dataclass(frozen=True)
class Task:
    """A function call for all ranks of a launch, and the surroundings that it needs."""

    call: bytes
    """Function and arguments, pickled."""
    main: str | None
    """File of the launcher's main module, or its name after ``-m``; None where the call does not need it."""
    folder: str
    """Scratch folder of the launch: reports of how ranks ended, and the file for their rendezvous."""
    num_ranks: int
    """Number of ranks to start."""
    asks: bool
    """Whether rank 0 gets a connection to the launcher."""
    environment: dict[str, str]
    """Environment variables."""
    path: list[str]
    """Folders to import modules from: the launcher's ``sys.path``."""
    where: str
    """Current folder."""

    @classmethod
    def of(
        cls,
        function: Callable[..., None],
        arguments: tuple[Any, ...],
        num_ranks: int,
        folder: Path,
        environment: dict[str, str],
        *,
        asks: bool = False,
    ) -> Task:
        """The task to call ``function(*arguments, store)`` as this process would; see `launch_local`.

        Raises:
            ConfigError: it can't be sent to another process.
        """
        buffer = io.BytesIO()
        pickler = _Pickler(buffer)
        try:
            pickler.dump((function, arguments))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise ConfigError(
                f"ranks are processes of their own, and this can't be sent to them: {shown(str(error))}; "
                "define functions and classes at the top level of a module, not inside a function, and open "
                "files and connections in the rank"
            ) from None
        main = main_module() if pickler.needs_main else None
        path = [entry or str(Path.cwd()) for entry in sys.path]
        where = str(Path.cwd())
        return cls(buffer.getvalue(), main, str(folder), num_ranks, asks, environment, path, where)


@dataclass(frozen=True)
class Failure:
    """A rank's report of its error; each rank writes a file of its own."""

    rank: int
    """Number of the rank."""
    seconds: float
    """Time of the error, by the monotonic clock that all processes of a host share."""
    traceback: str
    """The traceback as Python prints it."""


class _Pickler(pickle.Pickler):
    """Pickler that notices classes and functions of the launcher's main module: ranks have to import it."""

    needs_main = False

    def reducer_override(self, item: Any) -> Any:
        if isinstance(item, (type, FunctionType)) and item.__module__ == MAIN:
            self.needs_main = True
        return NotImplemented


def be_rank(rank: int, task: Task, life: int, line: int) -> int:
    """Run the task as one of its ranks.

    An error is written to a file before this process closes its sockets: other ranks fail when those close,
    and the launcher tells by the time stamps who was first.

    Args:
        rank: number of this rank.
        task: task of all ranks.
        life: read end of a pipe, which ends when the launcher dies or tells its ranks to end.
        line: end of a connection to the launcher, which is rank 0's. Without one (`Task.asks`) any number.

    Returns:
        The exit code: 0, 1 after an error, 128 plus the signal's number where one has ended the run.
    """
    folder = Path(task.folder)
    os.chdir(task.where)
    sys.path[:] = task.path
    end_with(life, folder / f"{TOLD_TO_END}{rank}")
    lines = [_line_of(rank, line)] if task.asks else []
    try:
        with patient_streams(), heard(exit_at_once):
            # the rank server blocks these; signals that have come meanwhile are heard now
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
            if task.main is not None:
                import_main(task.main)
            _set_environment(rank, task)
            function, arguments = pickle.loads(task.call)
            function(*arguments, *lines, str(folder / "ranks"))
    except StoppedError as error:
        return 128 + error.number
    except BaseException:
        failure = Failure(rank, time.monotonic(), traceback.format_exc())
        _leave(json_text(failure), folder / f"{FAILED}{rank}")
        return 1
    return 0


def _line_of(rank: int, line: int) -> Connection | None:
    """Rank 0's connection to the launcher. The others close it, so that it ends with rank 0."""
    if rank == 0:
        return Connection(line)
    os.close(line)
    return None


def end_with(life: int, note: Path) -> None:
    """End this process when a pipe ends, and leave an empty file that says it was told to.

    Args:
        life: read end of the pipe.
        note: path of the file.
    """

    def watch() -> None:
        os.read(life, 1)  # nobody writes: it returns when the last write end is closed
        try:
            write_file(note, "")
        finally:
            os._exit(1)

    threading.Thread(target=watch, daemon=True, name="life").start()


def _set_environment(rank: int, task: Task) -> None:
    os.environ.clear()
    os.environ.update(task.environment)
    size = str(task.num_ranks)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}


def _leave(text: str, path: Path) -> None:
    """Write a file whole or not at all: the launcher may kill this process meanwhile."""
    write_file(path, text)
