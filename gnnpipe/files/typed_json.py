"""Frozen dataclasses as JSON objects, and back. Whoever made the object need not have meant well.

A field stands under its name, or under the `Key` that it is annotated with; the fields of a dataclass that is
annotated with SPREAD stand among those of the object around it. A field with a default may be absent, as in
files of versions that did not have it; where that default is None or (), the field is left out when it holds
that. Other keys are ignored. Numbers stay as they are read, so that what is written again is the same text.
"""

from __future__ import annotations

import functools
import json
import sys
import types
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from gnnpipe.errors import shown

T = TypeVar("T")
_Take = Callable[[Any], Any]
"""Checks a value and returns it as its type has it; raises ValueError."""


@dataclass(frozen=True)
class Key:
    """Of a field that stands under another key than its name, as ``Annotated[int, Key("from")]``."""

    text: str


SPREAD = "spread"
"""Annotates a field that is a dataclass, or one or None."""


def from_object(kind: type[T], content: object) -> T:
    """A dataclass from what a JSON file held; raises ValueError, which names the key and what is wrong."""
    return cast(T, _take_dataclass(kind, content))


def to_object(item: Any) -> dict[str, object]:
    """The JSON object of a dataclass; dataclasses inside of it stay, as `json_text` takes them."""
    found: dict[str, object] = {}
    for part in _parts(item.__class__):
        value = getattr(item, part.name)
        if part.default in (None, ()) and value == part.default:
            continue
        if part.inner:
            found |= to_object(value)
        else:
            found[part.key] = value
    return found


def json_text(item: object, indent: int | None = None) -> str:
    """JSON of a dataclass, or of plain values that hold some; raises ValueError where a number is not
    finite."""
    return json.dumps(item, indent=indent, allow_nan=False, default=to_object)


@dataclass(frozen=True)
class _Part:
    """A field of a dataclass."""

    name: str
    key: str
    default: Any
    """MISSING if it must be there."""
    inner: frozenset[str]
    """Keys that are spread; empty for a field that has one of its own."""
    take: _Take


@functools.cache
def _parts(kind: Any) -> tuple[_Part, ...]:
    hints = get_type_hints(kind, include_extras=True)
    return tuple(_part(item.name, item.default, hints[item.name]) for item in fields(kind))


def _part(name: str, default: Any, hint: Any) -> _Part:
    note = None
    if get_origin(hint) is Annotated:
        hint, note = get_args(hint)
    inner: frozenset[str] = frozenset()
    if note == SPREAD:
        (hint,) = (option for option in get_args(hint) or (hint,) if is_dataclass(option))
        inner = frozenset(part.key for part in _parts(hint))
    return _Part(name, note.text if isinstance(note, Key) else name, default, inner, _taker(hint))


@functools.cache
def _taker(hint: Any) -> _Take:
    """Of a type."""
    origin, inner = get_origin(hint), get_args(hint)
    if is_dataclass(hint):
        return functools.partial(_take_dataclass, hint)
    if hint is float:
        return _take_number
    if origin is Literal:
        return functools.partial(_take_choice, inner)
    if origin in (Union, types.UnionType):
        return functools.partial(_take_either, tuple(_taker(option) for option in inner))
    if origin is dict:
        return functools.partial(_take_mapping, _taker(inner[1]))
    if origin is list:
        return functools.partial(_take_list, _taker(inner[0]))
    if origin is tuple:
        length = None if inner[1:] == (...,) else len(inner)
        return functools.partial(_take_tuple, _taker(inner[0]), length)
    return functools.partial(_take_plain, hint)


_NAMES = {int: "whole number", str: "text", bool: "true or false", type(None): "null"}


def _take_plain(kind: type, value: object) -> object:
    if type(value) is not kind:
        raise ValueError(f"{_quoted(value)} is no {_NAMES[kind]}")
    return value


def _take_number(value: object) -> object:
    if type(value) not in (int, float) or not abs(value) <= sys.float_info.max:  # type: ignore[arg-type]
        raise ValueError(f"{_quoted(value)} is no number")
    return value


def _take_choice(choices: tuple[str, ...], value: object) -> object:
    if value not in choices:
        raise ValueError(f"{_quoted(value)} is none of {', '.join(choices)}")
    return value


def _take_either(takers: tuple[_Take, ...], value: object) -> object:
    failure = ValueError()
    for take in takers:
        try:
            return take(value)
        except ValueError as error:
            failure = failure if failure.args else error
    raise failure


def _take_mapping(take: _Take, value: object) -> object:
    if not isinstance(value, dict):
        raise ValueError(f"{_quoted(value)} is no object")
    return {key: _named(take, key, item) for key, item in value.items()}


def _take_list(take: _Take, value: object) -> list[object]:
    if not isinstance(value, list):
        raise ValueError(f"{_quoted(value)} is no list")
    return [_named(take, index, item) for index, item in enumerate(value)]


def _take_tuple(take: _Take, length: int | None, value: object) -> object:
    found = tuple(_take_list(take, value))
    if length not in (None, len(found)):
        raise ValueError(f"{_quoted(value)} is no list of {length}")
    return found


def _take_dataclass(kind: Any, value: object) -> object:
    if not isinstance(value, dict):
        raise ValueError(f"{_quoted(value)} is no object")
    found = {}
    for part in _parts(kind):
        if part.inner and (part.default is MISSING or not part.inner.isdisjoint(value)):
            found[part.name] = part.take(value)
        elif not part.inner and part.key in value:
            found[part.name] = _named(part.take, part.key, value[part.key])
        elif part.default is MISSING:
            raise ValueError(f"{part.key} is absent")
    return kind(**found)


def _named(take: _Take, key: object, value: object) -> object:
    """Take a value; an error says which one it is about."""
    try:
        return take(value)
    except ValueError as error:
        raise ValueError(f"{shown(key)}: {error}") from None


def _quoted(value: object) -> str:
    return "null" if value is None else f"'{shown(value)}'"
