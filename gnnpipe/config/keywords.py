"""A config from Python values: the keywords of a function, or the content of a config.yaml."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar, get_type_hints

from gnnpipe.config.values import RefusedError, Value
from gnnpipe.errors import ConfigError, did_you_mean, shown

_Config = TypeVar("_Config")

# What a word stands for where a nested config is asked for, as on the command line.
SHORT_FORMS = {"staleness": "preset"}


def configured(config: _Config, values: Mapping[str, Any], prefix: str = "") -> _Config:
    """A config with some values replaced, each of which is checked for its type.

    Args:
        config: a frozen dataclass.
        values: by the names of its fields. A nested config is given as one, or as a mapping of some fields.
        prefix: of the keys in messages.

    Raises:
        ConfigError: a name that is no field, or a value of the wrong type.
    """
    hints = {name: get_type_hints(type(config))[name] for name in values_of(config)}
    found = {}
    for name, given in values.items():
        key = f"{prefix}{shown(name)}"
        if name not in hints:
            hint = did_you_mean(str(name), hints) or f"; use one of {', '.join(hints)}"
            raise ConfigError(f"{key} is not known{hint}")
        now = getattr(config, name)
        found[name] = _nested(key, now, given) if is_dataclass(now) else _value(key, hints[name], given)
    return replace(config, **found)  # type: ignore[type-var]


def values_of(config: Any) -> dict[str, Any]:
    """What a config says, by the names of the fields that may be given."""
    return {item.name: getattr(config, item.name) for item in fields(config) if item.init}


def _nested(key: str, now: Any, given: Any) -> Any:
    if isinstance(given, type(now)):
        given = values_of(given)
    elif isinstance(given, str) and key in SHORT_FORMS:
        given = {SHORT_FORMS[key]: given}
    if not isinstance(given, Mapping):
        first = fields(now)[0].name
        raise ConfigError(
            f"{key}: '{shown(given)}' must be written with its fields, as in {{'{first}': ...}}"
        )
    return configured(now, given, f"{key}.")


def _value(key: str, hint: Any, given: Any) -> Any:
    """What a flag with such a text would be, but for switches, which are true or false."""
    if isinstance(given, os.PathLike):
        given = os.fspath(given)
    elif isinstance(given, tuple):
        given = list(given)
    elif getattr(given, "ndim", None) == 0:  # a number of numpy's or torch's
        given = given.item()
    if hint is bool:
        if isinstance(given, bool):
            return given
        raise ConfigError(f"{key}: '{shown(given)}' can't be used; expected true or false")
    try:
        value = Value(key, hint)(given)
    except RefusedError as error:
        raise ConfigError(str(error)) from None
    return tuple(value) if isinstance(value, list) else value
