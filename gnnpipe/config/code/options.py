"""Arguments for the function of a model of one's own: ``--model-options [heads=8,slope=0.2]``."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from gnnpipe.config.code.place import is_code
from gnnpipe.config.run import ModelConfig
from gnnpipe.errors import ConfigError, shown
from gnnpipe.files.reading import parse_yaml

Plain = bool | int | float | str | list[Any] | None
SIZES = ("layers", "hidden", "dropout")
"""Settings that are arguments of the function, if it takes them."""
_Config = TypeVar("_Config", bound=ModelConfig)


def parse_options(entries: Iterable[str]) -> dict[str, Plain]:
    """The options by name; raises ConfigError for another form, or a name that occurs twice."""
    found: dict[str, Plain] = {}
    for entry in entries:
        for part in re.split(r",(?=\s*[A-Za-z_]\w*=)", entry):  # heads=8,slope=0.2 in one word
            name, equals, text = part.strip().partition("=")
            if not equals or not name.isidentifier():
                raise ConfigError(
                    f"model-options: '{shown(part)}' can't be used; write name=value, as in heads=8, or "
                    "[heads=8,slope=0.2] for several"
                )
            if name in found:
                raise ConfigError(f"model-options: {name} is given twice; leave one of the two out")
            found[name] = _value(name, text)
    return found


def _value(name: str, text: str) -> Plain:
    try:
        value = parse_yaml(text) if text.strip() else text
    except ValueError:
        return text
    return _checked(name, value)


def _checked(name: str, value: Any) -> Plain:
    """A plain value, which a file can hold; raises ConfigError for another one."""
    if getattr(value, "ndim", None) == 0:  # a number of numpy or torch
        value = value.item()
    if isinstance(value, list | tuple):
        return [_checked(name, entry) for entry in value]
    if value is not None and not isinstance(value, bool | int | float | str):
        raise ConfigError(
            f"model-options: {shown(name)} is a {type(value).__name__}; use numbers, words, true, false, "
            "null and lists of them, which a run's config.yaml can hold"
        )
    return value


def entries_of(options: Mapping[str, Any]) -> list[str]:
    """Options as `parse_options` reads them, each ``name=value``."""
    return [f"{name}={_text(_checked(str(name), value))}" for name, value in options.items()]


def _text(value: Plain) -> str:
    """A value as YAML reads it. A word stands as it is, unless that would read as something else."""
    if isinstance(value, str) and _value("", value) == value and "," not in value:
        return value
    return json.dumps(value)


def with_given(config: _Config, given: Collection[str]) -> _Config:
    """A config that remembers which sizes the user has given, though they are the usual ones.

    The function of a model has defaults of its own: those hold unless ``--layers`` and the like are given.

    Args:
        config: settings.
        given: names of the fields that the user has given.
    """
    if not is_code(config.model):
        return config
    named = parse_options(config.model_options)
    extra = {
        name: getattr(config, name)
        for name in SIZES
        if name in given and name not in named and getattr(config, name) == getattr(ModelConfig, name)
    }
    return replace(config, model_options=(*config.model_options, *entries_of(extra)))


def arguments_given(config: ModelConfig) -> tuple[str, ...]:
    """All arguments that the user has chosen for the function of a model, each ``name=value``."""
    named = parse_options(config.model_options)
    sizes = {
        name: getattr(config, name)
        for name in SIZES
        if name not in named and getattr(config, name) != getattr(ModelConfig, name)
    }
    return tuple(entries_of(sizes | named))


def check_options(model: str, entries: Sequence[str]) -> None:
    """Raise ConfigError for options of another form, or beside a model of the registry."""
    parse_options(entries)
    if entries and not is_code(model):
        raise ConfigError(
            f"model-options: {shown(entries[0])} says nothing about {model}, which has flags of its own; "
            "leave it out"
        )
