"""A config from Python values: the keywords of a function, or the content of a config.yaml."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar, get_type_hints

from gnnpipe.config.code.options import entries_of
from gnnpipe.config.code.place import place_of
from gnnpipe.config.values import RefusedError, Value
from gnnpipe.errors import ConfigError, did_you_mean, shown
from gnnpipe.files.reading import Content

_Config = TypeVar("_Config")

# Field that a word sets where a nested config is expected: staleness="paper" is its preset.
SHORT_FORMS = {"staleness": "preset"}


def configured(
    config: _Config, values: Mapping[str, Any], prefix: str = "", others: Sequence[str] = ()
) -> _Config:
    """A config with some fields replaced, after their types are checked.

    Args:
        config: a frozen dataclass.
        values: new values by field. A nested config is given whole, or as a mapping of the fields to change.
        prefix: stands before the fields' names in messages, as in ``optimizer.``
        others: names that a caller may have meant instead of a field.

    Raises:
        ConfigError: a name that is no field, or a value of the wrong type.
    """
    all_hints = get_type_hints(type(config))
    hints = {name: all_hints[name] for name in values_of(config)}
    changes = {}
    for name, given in values.items():
        key = f"{prefix}{shown(name)}"
        if name not in hints:
            hint = did_you_mean(str(name), [*hints, *others]) or f"; use one of {', '.join(hints)}"
            raise ConfigError(f"{key} is not known{hint}")
        now = getattr(config, name)
        changes[name] = _nested(key, now, given) if is_dataclass(now) else _value(key, hints[name], given)
    return replace(config, **changes)  # type: ignore[type-var]


def values_of(config: Any) -> Content:
    """The fields of a config that may be given, with their values."""
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
    """A value as the flag of the same name reads it. Switches take true and false, but no text."""
    if key == "model" and callable(given):
        given = place_of(given)
    elif key == "model_options" and isinstance(given, Mapping):
        given = entries_of(given)
    if isinstance(given, os.PathLike):
        given = os.fspath(given)
    elif isinstance(given, tuple):
        given = list(given)
    elif getattr(given, "ndim", None) == 0:  # a number of numpy or torch
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
