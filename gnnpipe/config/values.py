"""Reading one flag's value, from a command line, a file or Python."""

from __future__ import annotations

from dataclasses import dataclass
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from gnnpipe.errors import shown
from gnnpipe.files.reading import parse_yaml

MOST_BYTES_OF_A_NAME, MOST_BYTES_OF_A_PATH = 255, 4000
_NAMES: dict[Any, tuple[str, str]] = {
    bool: ("bool", "true or false"),
    int: ("int", "a whole number"),
    float: ("float", "a number"),
    str: ("str", "a word"),
    type(None): ("null", "null"),
}


class RefusedError(Exception):
    """A value that a flag can't have. It is no ValueError, for which argparse and jsonargparse would put
    words of their own."""


@dataclass(frozen=True, repr=False)
class Value:
    """Reads the values of one flag. The parser calls it, and shows it in the help as the flag's type.

    Args:
        flag: its name without dashes.
        hint: type of the field.
    """

    flag: str
    hint: Any

    def __repr__(self) -> str:
        return " | ".join(_NAMES[kind][0] if kind in _NAMES else "list" for kind in self.kinds)

    @property
    def kinds(self) -> tuple[Any, ...]:
        """Types that will do. A Literal counts as str: `gnnpipe.config.checks` compares its words."""
        options = get_args(self.hint) if get_origin(self.hint) in (Union, UnionType) else (self.hint,)
        return tuple(dict.fromkeys(str if get_origin(kind) is Literal else kind for kind in options))

    def __call__(self, given: Any) -> Any:
        value = _loaded(given) if isinstance(given, str) and self.kinds != (str,) else given
        if value is None and type(None) in self.kinds:
            return None
        found = next((found for kind in self.kinds if (found := _as_kind(kind, value)) is not None), None)
        if found is None and str in self.kinds and isinstance(given, str):
            found = given  # such as [a]: YAML reads a list, but no list is asked for, so it is a word
        if found is None:
            raise RefusedError(f"{self.flag}: {_told(given)} can't be used; expected {self._expected()}")
        return self._word(found) if isinstance(found, str) else found

    def _expected(self) -> str:
        return " or ".join(_NAMES[kind][1] if kind in _NAMES else _example(kind) for kind in self.kinds)

    def _word(self, word: str) -> str:
        """Check a word that may name a file: no system takes longer ones, or a NUL."""
        longest = max(len(part.encode()) for part in word.split("/"))
        if "\0" in word or longest > MOST_BYTES_OF_A_NAME or len(word.encode()) > MOST_BYTES_OF_A_PATH:
            raise RefusedError(
                f"{self.flag}: '{shown(word)}' can't be used; a name has {MOST_BYTES_OF_A_NAME} bytes at "
                f"most, a path {MOST_BYTES_OF_A_PATH}, and neither has a NUL"
            )
        return word


def _loaded(text: str) -> Any:
    """A word of a command line as YAML reads it; itself if it is no YAML, or an empty value."""
    try:
        value = parse_yaml(text)
    except ValueError:
        return text
    return text if value is None and text != "null" else value


def _told(given: object) -> str:
    """A value as a message repeats it. An object's kind is named, as its text may look like a word."""
    plain = isinstance(given, bool | int | float | str | list | dict) or given is None
    return f"'{shown(given)}'" if plain else f"'{shown(given)}' ({type(given).__name__})"


def _as_kind(kind: Any, value: Any) -> Any:
    """The value as that kind; None if it is not one."""
    return _as_list(kind, value) if get_origin(kind) is tuple else _as_plain(kind, value)


def _as_plain(kind: Any, value: Any) -> Any:
    """The value as that kind, without loss; None if it is not one."""
    if isinstance(value, bool):
        return value if kind is bool else None
    if not isinstance(value, int | float | str):
        return None
    if kind is float and isinstance(value, int):
        return float(value) if abs(value) < 2**1000 else None
    return value if isinstance(value, kind) else None


def _as_list(hint: Any, value: Any) -> list[Any] | None:
    """The value as the list that a tuple's hint describes; None if it is not one."""
    kinds = [kind for kind in get_args(hint) if kind is not Ellipsis]
    if kinds == [str] and isinstance(value, str):
        value = [value]  # one file needs no brackets
    if get_origin(kinds[0]) is Literal and isinstance(value, str):
        value = [word.strip() for word in value.split(",")]  # nor do words that hold no comma
    if not isinstance(value, list) or (Ellipsis not in get_args(hint) and len(value) != len(kinds)):
        return None
    entries = [_as_entry(kinds[0], entry) for entry in value]
    return None if None in entries else entries


def _as_entry(kind: Any, value: Any) -> Any:
    """The value as an entry of that kind, or as one of the words that it lists; None if it is neither."""
    if get_origin(kind) is Literal:
        return value if value in get_args(kind) else None
    return _as_plain(kind, value)


def _example(hint: Any) -> str:
    """The list that a tuple's hint describes, in words."""
    kind = get_args(hint)[0]
    if get_origin(kind) is Literal:
        words = get_args(kind)
        return f"a list of {', '.join(words)}, such as [{words[0]},{words[-1]}]"
    if kind is str:
        return "a word, or a list such as [people.csv,labels.csv]"
    return "a list such as [64,128]" if kind is int else "a list such as [0.9, 0.999]"
