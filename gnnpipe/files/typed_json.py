"""Frozen dataclasses as JSON objects, and back; objects that are read may be anybody's, and are checked.

    @dataclass(frozen=True)
    class Example:
        start: Annotated[int, Key("from")]       {"from": 3,
        size: Annotated[Size, SPREAD]             "rows": 4, "columns": 5,     the fields of Size
        note: str | None = None                   "note": "..."}               left out where it is None

A field stands under its name, or under the `Key` that it is annotated with. A field with a default may be
absent, as in files of versions that did not have it; one whose default is None or () is not written while it
holds that. Unknown keys are ignored. Numbers keep the type they are read with, so that writing them again
gives the same text.
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
"""Checks a value from JSON and converts it to a field's type; raises ValueError."""


@dataclass(frozen=True)
class Key:
    """Annotation of a field that stands under another key than its name: ``Annotated[int, Key("from")]``."""

    text: str
    """The key."""


SPREAD = "spread"
"""Annotation of a field that holds a dataclass, or None: its fields stand among those around it."""


def from_object(kind: type[T], content: object) -> T:
    """A dataclass from a JSON object; raises ValueError, which names the key and the fault."""
    return cast(T, _take_dataclass(kind, content))


def to_object(item: Any) -> dict[str, object]:
    """The JSON object of a dataclass; nested dataclasses stay as they are, for `json_text` to convert."""
    content: dict[str, object] = {}
    for entry in _fields_of(item.__class__):
        value = getattr(item, entry.name)
        if entry.default in (None, ()) and value == entry.default:
            continue
        if entry.inner:
            content |= to_object(value)
        else:
            content[entry.key] = value
    return content


def json_text(item: object, indent: int | None = None) -> str:
    """JSON of a dataclass, or of plain values that hold dataclasses.

    Raises:
        ValueError: a number is not finite.
    """
    return json.dumps(item, indent=indent, allow_nan=False, default=to_object)


def to_plain(item: object) -> dict[str, object]:
    """Plain values of a dataclass that holds dataclasses, as YAML can hold them too; raises ValueError."""
    plain: dict[str, object] = json.loads(json_text(item))
    return plain


@dataclass(frozen=True)
class _Field:
    """A field of a dataclass, and its form in JSON."""

    name: str
    """Its name in the dataclass."""
    key: str
    """Its key in the JSON object, unless it is spread."""
    default: Any
    """Its default; MISSING if the key must be present."""
    inner: frozenset[str]
    """Keys of a field that is spread; empty for a field with a key of its own."""
    take: _Take
    """Reads its value."""


@functools.cache
def _fields_of(kind: Any) -> tuple[_Field, ...]:
    hints = get_type_hints(kind, include_extras=True)
    return tuple(_field_of(item.name, item.default, hints[item.name]) for item in fields(kind))


def _field_of(name: str, default: Any, hint: Any) -> _Field:
    note = None
    if get_origin(hint) is Annotated:
        hint, note = get_args(hint)
    inner: frozenset[str] = frozenset()
    if note == SPREAD:
        (hint,) = (option for option in get_args(hint) or (hint,) if is_dataclass(option))
        inner = frozenset(entry.key for entry in _fields_of(hint))
    return _Field(name, note.text if isinstance(note, Key) else name, default, inner, _taker(hint))


@functools.cache
def _taker(hint: Any) -> _Take:
    """The function that reads values of a type."""
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
    items = tuple(_take_list(take, value))
    if length not in (None, len(items)):
        raise ValueError(f"{_quoted(value)} is no list of {length}")
    return items


def _take_dataclass(kind: Any, value: object) -> object:
    if not isinstance(value, dict):
        raise ValueError(f"{_quoted(value)} is no object")
    arguments = {}
    for entry in _fields_of(kind):
        # a field that is spread reads the whole object, if that has any of its keys
        if entry.inner and (entry.default is MISSING or not entry.inner.isdisjoint(value)):
            arguments[entry.name] = entry.take(value)
        elif not entry.inner and entry.key in value:
            arguments[entry.name] = _named(entry.take, entry.key, value[entry.key])
        elif entry.default is MISSING:
            raise ValueError(f"{entry.key} is absent")
    return kind(**arguments)


def _named(take: _Take, key: object, value: object) -> object:
    """Read a value; put its key in front of an error."""
    try:
        return take(value)
    except ValueError as error:
        raise ValueError(f"{shown(key)}: {error}") from None


def _quoted(value: object) -> str:
    return "null" if value is None else f"'{shown(value)}'"
