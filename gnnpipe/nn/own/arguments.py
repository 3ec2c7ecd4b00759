"""The arguments that the function of a model of one's own is called with."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gnnpipe.config.code.options import SIZES, parse_options
from gnnpipe.config.run import ModelConfig
from gnnpipe.errors import ConfigError, did_you_mean

ALIASES = {"layers": "depth"}
"""Other names of settings among a function's arguments."""
OF_THE_GRAPH = ("num_features", "num_classes", "edge_dim", "num_edge_types")


@dataclass(frozen=True)
class OwnModel:
    """All that a model of one's own is made from; it makes the same layers on every rank."""

    model: str
    """Place of its function."""
    checksum: str
    """Hash of the function's file."""
    arguments: tuple[str, ...]
    """Arguments that the user has chosen, each ``name=value``."""
    num_features: int
    num_classes: int
    edge_dim: int = 0
    num_edge_types: int = 0
    sparse_features: bool = False

    @property
    def name(self) -> str:
        """The place without the folders of its file, for messages."""
        return f"{Path(self.model.rpartition(':')[0]).name}:{self.model.rpartition(':')[2]}"

    def item(self, number: int, about: str = "") -> str:
        """Words for a layer of the list, which a message begins with."""
        return f"model: item {number} of {self.name}{f' ({about})' if about else ''}"


Arguments = dict[str, Any]
"""Values of arguments, by their names."""


def arguments_of(function: Callable[..., Any], own: OwnModel) -> Arguments:
    """The arguments of a model's function: sizes of the graph and of the settings, and the user's options.

    Raises:
        ConfigError: it does not take the number of features and of classes, an option is none of its
            arguments, or an argument has no value.
    """
    parameters = inspect.signature(function).parameters
    _check_takes_sizes(own, parameters)
    anything = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    given = _renamed(own, parameters)
    values: Arguments = {name: getattr(own, name) for name in OF_THE_GRAPH if name in parameters}
    for name in SIZES:
        argument = name if name in parameters else ALIASES.get(name, name)
        if argument in parameters and parameters[argument].default is inspect.Parameter.empty:
            values[argument] = getattr(ModelConfig, name)
    for name, value in given.items():
        if name in parameters or anything:
            values[name] = value
        elif name != "dropout":  # the rate of layers that have none of their own
            raise ConfigError(_unknown(own, name, parameters))
    missing = [
        name
        for name, parameter in parameters.items()
        if name not in values
        and parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    ]
    if missing:
        raise ConfigError(
            f"model-options: {own.name} needs {', '.join(missing)}; give --model-options "
            f"[{','.join(f'{name}=...' for name in missing)}], or a default in def"
        )
    return values


def _check_takes_sizes(own: OwnModel, parameters: Mapping[str, inspect.Parameter]) -> None:
    """Raise ConfigError for a function that can't make layers that fit, which therefore is another one.

    No other function is ever called: a config of somebody else may name any.
    """
    for name in ("num_features", "num_classes"):
        if name not in parameters:
            raise ConfigError(
                f"model: {own.name} takes no argument {name}; write def layers(num_features, num_classes, "
                "...), whose first layer reads rows of num_features columns and whose last one makes "
                "num_classes"
            )


def _renamed(own: OwnModel, parameters: Mapping[str, inspect.Parameter]) -> Arguments:
    """The user's options by the names that the function has for them."""
    given: Arguments = {}
    for name, value in parse_options(own.arguments).items():
        if name in OF_THE_GRAPH:
            raise ConfigError(f"model-options: {name} is that of the graph; leave it out")
        alias = ALIASES.get(name, name)
        given[alias if name not in parameters and alias in parameters else name] = value
    return given


def _unknown(own: OwnModel, name: str, parameters: Mapping[str, inspect.Parameter]) -> str:
    others = [other for other in parameters if other not in OF_THE_GRAPH]
    key = name if name in SIZES else "model-options"
    takes = f"it takes {', '.join(others)}" if others else "it takes no other arguments"
    hint = did_you_mean(name, others) or f"; {takes}"
    return f"{key}: {own.name} has no argument {name}{hint}"
