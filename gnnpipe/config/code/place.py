"""Places of code: ``my_model.py:layers`` or ``package.module:layers``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gnnpipe.errors import ConfigError, not_known, shown
from gnnpipe.system.main_module import MAIN

FORM = "my_model.py:layers, or package.module:layers"
TO_A_FILE = (
    "write it to a file (in a notebook, with %%writefile my_model.py at the top of the cell) and give "
    'model="my_model.py:layers"'
)


@dataclass(frozen=True)
class CodePlace:
    """The place of a function."""

    module: str
    """Path of a Python file, or a module's name with its packages."""
    function: str
    """Name of the function in it."""

    @classmethod
    def parse(cls, text: str) -> CodePlace:
        """Read ``module:function``; raises ConfigError for another form."""
        module, _, function = text.rpartition(":")
        is_name = all(part.isidentifier() for part in module.split("."))
        if not function.isidentifier() or not (is_name or module.endswith(".py")):
            example = f"{text}:layers" if text.endswith(".py") else FORM
            raise ConfigError(f"model: '{shown(text)}' names no function; write {shown(example)}")
        return cls(module, function)

    @property
    def is_file(self) -> bool:
        """Whether the module is named by its file."""
        return self.module.endswith(".py")

    @property
    def name(self) -> str:
        """A short name, for folders of runs: ``my_model``."""
        return Path(self.module).stem if self.is_file else self.module.rpartition(".")[2]

    def __str__(self) -> str:
        return f"{self.module}:{self.function}"


def is_code(model: str) -> bool:
    """Whether a model is one's own, and not a name of the registry."""
    return isinstance(model, str) and (":" in model or model.endswith(".py"))


def short_name(model: str) -> str:
    """The name of a model in names of folders."""
    return CodePlace.parse(model).name if is_code(model) else model


def check_model(key: str, model: str, choices: Iterable[str]) -> None:
    """Raise ConfigError unless a model is one of the registry or the place of a function."""
    known = list(choices)
    if is_code(model):
        CodePlace.parse(model)
    elif model not in known:
        raise ConfigError(f"{key}: {not_known(model, known, 'choose')}, or name a function: {FORM}")


def with_whole_path(model: str) -> str:
    """The same model with the whole path of its file, as a run may go on from another folder."""
    if not is_code(model) or not CodePlace.parse(model).is_file:
        return model
    place = CodePlace.parse(model)
    return str(CodePlace(str(Path(place.module).absolute()), place.function))


def place_of(function: Callable[..., Any]) -> str:
    """The place of a function that a script has at hand.

    A function of the script itself gets the script's file, which each rank imports again under another name.

    Raises:
        ConfigError: it has no place from which another process could import it.
    """
    name, module = getattr(function, "__qualname__", ""), getattr(function, "__module__", None) or ""
    if not name.isidentifier():
        raise ConfigError(
            f"model: '{shown(name or type(function).__name__)}' can't be imported by the processes of a run; "
            "define the function at the top level of a module, with def, and give arguments of its own as "
            "model_options"
        )
    return f"{_module_of(module, name)}:{name}"


def _module_of(module: str, function: str) -> str:
    """The file of a module that is in no package, or its name."""
    found = sys.modules.get(module)
    file, spec = getattr(found, "__file__", None), getattr(found, "__spec__", None)
    if module == MAIN and spec is not None:  # python -m
        return str(spec.name)
    is_file = file is not None and file.endswith(".py") and Path(file).is_file()
    if not is_file and (module == MAIN or found is None):
        raise ConfigError(
            f"model: {function} was defined in a notebook or at a prompt, which the processes of a run can't "
            f"import; {TO_A_FILE}"
        )
    return str(Path(file).absolute()) if is_file and file and "." not in module else module
