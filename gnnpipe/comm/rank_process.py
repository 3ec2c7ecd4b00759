"""What a rank's process does, from its first moment to its last."""

from __future__ import annotations

import importlib
import io
import os
import pickle
import runpy
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from gnnpipe.errors import ConfigError, StoppedError
from gnnpipe.files.typed_json import json_text
from gnnpipe.files.writing import write_file
from gnnpipe.system.interruption import STOPS, exit_at_once, heard
from gnnpipe.system.streams import patient_streams

# Names of the files that ranks leave: before their number.
FAILED, TOLD_TO_END = "failed-", "told-to-end-"
# The module that a process was started with, as one that is imported again is called.
MAIN, MAIN_AGAIN = "__main__", "__mp_main__"
# Of the environment, while a rank imports the launcher's main module: its name.
IMPORTED = "GNNPIPE_IMPORTED_MAIN"


@dataclass(frozen=True)
class Task:
    """What all ranks of a launch do."""

    call: bytes
    """Function and arguments, pickled."""
    main: str | None
    """Where they need the module that the launcher was started with: its file, or its name after ``-m``."""
    folder: str
    """For what ranks say of their end, and the file through which they find each other."""
    num_ranks: int
    environment: dict[str, str]
    path: list[str]
    """Where modules are found."""
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
    ) -> Task:
        """For ``function(*arguments, store)`` as this process would call it.

        Raises:
            ConfigError: it can't be sent to another process.
        """
        buffer = io.BytesIO()
        pickler = _Pickler(buffer)
        pickler.dump((function, arguments))
        main = _main_module() if pickler.needs_main else None
        path = [entry or str(Path.cwd()) for entry in sys.path]
        return cls(buffer.getvalue(), main, str(folder), num_ranks, environment, path, str(Path.cwd()))


@dataclass(frozen=True)
class Failure:
    """What a rank says that failed, in a file of its own."""

    rank: int
    seconds: float
    """When, by the clock that all processes of a host share."""
    traceback: str


class _Pickler(pickle.Pickler):
    """Notices what other processes find only if they import the launcher's main module."""

    needs_main = False

    def reducer_override(self, item: Any) -> Any:
        if isinstance(item, (type, FunctionType)) and item.__module__ == MAIN:
            self.needs_main = True
        return NotImplemented


def _main_module() -> str:
    main = sys.modules[MAIN]
    spec = getattr(main, "__spec__", None)
    found = spec.name if spec is not None else getattr(main, "__file__", None)
    if found is None or not (spec or Path(found).is_file()):
        raise ConfigError(
            "ranks are processes of their own, which can't see what was defined in a notebook or at a "
            "prompt; put the functions and classes that the run uses into a module (a .py file) and import "
            "them"
        )
    return str(found)


def check_guard() -> None:
    """Raise ConfigError in a rank that imports a script which starts its run as soon as it is imported."""
    if IMPORTED in os.environ:
        raise ConfigError(
            f"the script '{os.environ[IMPORTED]}' starts a run whenever it is "
            "imported, and each rank imports it for the functions and classes that it defines; put what "
            'starts the run under: if __name__ == "__main__":'
        )


def be_rank(rank: int, task: Task, life: int) -> int:
    """Do what ``task`` says; return the exit code. An error is on file before sockets close.

    Args:
        rank: this process.
        task: of all ranks.
        life: a pipe that ends when the launcher does, or wants no more of this process.
    """
    folder = Path(task.folder)
    os.chdir(task.where)
    sys.path[:] = task.path
    end_with(life, folder / f"{TOLD_TO_END}{rank}")
    try:
        with patient_streams(), heard(exit_at_once):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
            if task.main is not None:
                _import_main(task.main)
            _set_environment(rank, task)
            function, arguments = pickle.loads(task.call)
            function(*arguments, str(folder / "ranks"))
    except StoppedError as error:
        return 128 + error.number
    except BaseException:
        failure = Failure(rank, time.monotonic(), traceback.format_exc())
        _leave(json_text(failure), folder / f"{FAILED}{rank}")
        return 1
    return 0


def end_with(life: int, note: Path) -> None:
    """End this process when a pipe ends, and leave a note that it was told so."""

    def watch() -> None:
        os.read(life, 1)
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


def _import_main(name: str) -> None:
    """Import the launcher's main module, under another name: it is not to do again what it did there."""
    os.environ[IMPORTED] = name
    if Path(name).is_file():
        content = runpy.run_path(name, run_name=MAIN_AGAIN)
    elif name.endswith(f".{MAIN}"):
        content = vars(importlib.import_module(name))
    else:
        content = runpy.run_module(name, run_name=MAIN_AGAIN, alter_sys=True)
    again = ModuleType(MAIN_AGAIN)
    again.__dict__.update(content)
    sys.modules[MAIN] = sys.modules[MAIN_AGAIN] = again
    del os.environ[IMPORTED]


def _leave(text: str, path: Path) -> None:
    """Write a file that is whole or absent, as the launcher may end this process meanwhile."""
    write_file(path, text)
