"""The module that a process was started with, and scripts that are imported again under another name."""

from __future__ import annotations

import importlib
import os
import runpy
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from gnnpipe.errors import ConfigError

# Name of the module that a process was started with, and its name in a rank, which imports it again. The
# second is multiprocessing's, so that scripts that know of that name behave.
MAIN, MAIN_AGAIN = "__main__", "__mp_main__"
# Environment variable with the name of a script, set while that is imported.
IMPORTED = "GNNPIPE_IMPORTED_MAIN"


def main_module() -> str:
    """The main module's name after ``-m``, or its file; raises ConfigError for a notebook or a prompt."""
    main = sys.modules[MAIN]
    spec = getattr(main, "__spec__", None)
    name = spec.name if spec is not None else getattr(main, "__file__", None)
    if name is None or not (spec or Path(name).is_file()):
        raise ConfigError(
            "ranks are processes of their own, which can't see what was defined in a notebook or at a "
            "prompt; put the functions and classes that the run uses into a module (a .py file) and import "
            "them"
        )
    return str(name)


def check_guard() -> None:
    """Raise ConfigError where a script without a ``__main__`` guard is imported.

    Such a script starts its run when it is imported, and each rank would start ranks of its own.
    """
    if IMPORTED in os.environ:
        raise ConfigError(
            f"the script '{os.environ[IMPORTED]}' starts a run whenever it is "
            "imported, and each rank imports it for the functions and classes that it defines; put what "
            'starts the run under: if __name__ == "__main__":'
        )


@contextmanager
def importing(name: str) -> Iterator[None]:
    """Say that a script is imported now, which is to start no run."""
    before = os.environ.get(IMPORTED)
    os.environ[IMPORTED] = name
    try:
        yield
    finally:
        del os.environ[IMPORTED]
        if before is not None:
            os.environ[IMPORTED] = before


def import_main(name: str) -> None:
    """Import the launcher's main module under another name, so that its ``__main__`` guard holds here."""
    with importing(name):
        if Path(name).is_file():
            content = runpy.run_path(name, run_name=MAIN_AGAIN)
        elif name.endswith(f".{MAIN}"):  # python -m package: runpy takes package.__main__ for a package
            content = vars(importlib.import_module(name))
        else:
            content = runpy.run_module(name, run_name=MAIN_AGAIN, alter_sys=True)
        # pickles of the launcher name the module __main__
        again = ModuleType(MAIN_AGAIN)
        again.__dict__.update(content)
        sys.modules[MAIN] = sys.modules[MAIN_AGAIN] = again
