"""Importing the function of a model of one's own."""

from __future__ import annotations

import functools
import hashlib
import importlib
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from gnnpipe.config.code.place import CodePlace
from gnnpipe.errors import ConfigError, UserError, did_you_mean, shown
from gnnpipe.files.reading import MIB, read_bytes
from gnnpipe.system.failures import reason
from gnnpipe.system.main_module import importing

MOST_BYTES = 16 * MIB
"""Largest file of code that is read."""


def checksum_of(model: str) -> str:
    """Hash of the file of a model's function; raises ConfigError where there is none."""
    place = CodePlace.parse(model)
    return _digest(_content(model, _file_of(place)))


def load_function(model: str, checksum: str = "") -> Callable[..., Any]:
    """Import the function that a model's place names. A file is imported anew when its content has changed.

    Args:
        model: its place.
        checksum: hash that the file must have, as of `checksum_of`; empty for any.

    Raises:
        ConfigError: it can't be imported, its file has changed, or there is no such function.
    """
    place = CodePlace.parse(model)
    file = _file_of(place)
    content = _content(model, file)
    if checksum and _digest(content) != checksum:
        raise ConfigError(
            f"model: '{file}' has changed while the run was starting, or is another one on this host; give "
            "all processes the same file, and start again"
        )
    module = _module(str(file), content) if place.is_file else importlib.import_module(place.module)
    function = getattr(module, place.function, None)
    if function is not None and not callable(function):
        raise ConfigError(
            f"model: {place.function} of '{place.module}' is no function ({type(function).__name__}); "
            "name one that yields the layers, as in def layers(num_features, num_classes)"
        )
    if function is None:
        hint = did_you_mean(place.function, (name for name in vars(module) if not name.startswith("_")))
        raise ConfigError(
            f"model: '{place.module}' has no function {place.function}"
            f"{hint or '; write def layers(...) there'}"
        )
    return function


def _file_of(place: CodePlace) -> Path:
    """The file of a function's module; a module is imported for that."""
    if place.is_file:
        return Path(place.module)
    # the console script knows nothing of the folder that the user works in, other than python -m
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)
    try:
        with importing(place.module):
            module = importlib.import_module(place.module)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigError(f"model: {place.module} can't be imported ({_told(error, '')})") from error
    if module.__file__ is None:
        raise ConfigError(f"model: {place.module} is a folder without code; name a module in it")
    return Path(module.__file__)


def _content(model: str, file: Path) -> bytes:
    try:
        return read_bytes(file, MOST_BYTES, link=True)
    except OSError as error:
        others = [path.name for path in file.parent.glob("*.py")] if file.parent.is_dir() else []
        hint = did_you_mean(file.name, others)
        raise ConfigError(
            f"model: '{shown(model)}' can't be read ({reason(error, str(file))})"
            f"{hint or '; name a Python file with --model FILE.py:FUNCTION'}"
        ) from None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@functools.lru_cache(maxsize=8)
def _module(file: str, content: bytes) -> ModuleType:
    """Run a file as a module of its own, which other modules of its folder may be imported from.

    The name has a hash of the content: torch_geometric imports classes by the names of their modules.
    """
    stem = re.sub(r"\W", "_", Path(file).stem)
    module = ModuleType(f"{stem}_{_digest(file.encode() + content)[:12]}")
    module.__file__ = file
    folder = str(Path(file).parent)
    if folder not in sys.path:
        sys.path.append(folder)
    sys.modules[module.__name__] = module  # dataclasses, and torch_geometric, look their classes up there
    try:
        with importing(file):
            exec(compile(content, file, "exec"), module.__dict__)
    except BaseException as error:
        del sys.modules[module.__name__]
        # SystemExit: a script that reads its arguments without "if __name__ ==" ends here
        if isinstance(error, UserError) or not isinstance(error, Exception | SystemExit):
            raise
        raise ConfigError(f"model: '{file}' can't be imported ({_told(error, file)})") from error
    return module


def _told(error: BaseException, file: str) -> str:
    """An error of a user's code in one line, with the last line of that file that it went through."""
    text = f"{type(error).__name__}: {shown(str(error))}"
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: {type(error).__name__}: {shown(error.msg)}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f"line {lines[-1]}: {text}" if lines else text


def told(error: Exception, function: Callable[..., Any]) -> str:
    """An error that a model's function, or a layer of its, has raised, in one line."""
    code = getattr(function, "__code__", None)
    return _told(error, code.co_filename if code is not None else "")
