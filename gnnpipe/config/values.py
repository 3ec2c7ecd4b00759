"""What a flag's value may be, from a command line or a file."""

from __future__ import annotations

from dataclasses import dataclass
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from gnnpipe.errors import shown
from gnnpipe.files.reading import parse_yaml

MOST_BYTES_OF_A_NAME, MOST_BYTES_OF_A_PATH = 255, 4000
_NAMES: dict[Any, tuple[str, str]] = {
    int: ("int", "a whole number"),
    float: ("float", "a number"),
    str: ("str", "a word"),
    type(None): ("null", "null"),
}


class RefusedError(Exception):
    """A value that a flag can't have. Neither argparse nor jsonargparse words it anew, as they do with a
    ValueError."""


@dataclass(frozen=True, repr=False)
class Value:
    """Reads the values of one flag; called by the parser, which shows it in the help, too.

    Args:
        flag: its name without dashes.
        hint: type of the field.
    """

    flag: str
    hint: Any

    def __repr__(self) -> str:
        return " | ".join(_NAMES[kind][0] for kind in self.kinds if kind in _NAMES) or "list"

    @property
    def kinds(self) -> tuple[Any, ...]:
        """Plain types that will do; words of a Literal are checked elsewhere."""
        options = get_args(self.hint) if get_origin(self.hint) in (Union, UnionType) else (self.hint,)
        return tuple(str if get_origin(kind) is Literal else kind for kind in options)

    def __call__(self, given: Any) -> Any:
        value = _loaded(given) if isinstance(given, str) and self.kinds != (str,) else given
        if value is None and type(None) in self.kinds:
            return None
        for kind in self.kinds:
            found = _as_list(kind, value) if get_origin(kind) is tuple else _as_plain(kind, value)
            if found is not None:
                return self._word(str(found)) if kind is str else found
        if str in self.kinds and isinstance(given, str):  # such as [a], which is a word after all
            return self._word(given)
        expected = [_NAMES[kind][1] if kind in _NAMES else _example(kind) for kind in self.kinds]
        raise RefusedError(f"{self.flag}: '{shown(given)}' can't be used; expected {' or '.join(expected)}")

    def _word(self, word: str) -> str:
        """A word that may name a file: no system takes longer ones, or a NUL."""
        longest = max(len(part.encode()) for part in word.split("/"))
        if "\0" in word or longest > MOST_BYTES_OF_A_NAME or len(word.encode()) > MOST_BYTES_OF_A_PATH:
            raise RefusedError(
                f"{self.flag}: '{shown(word)}' can't be used; a name has {MOST_BYTES_OF_A_NAME} bytes at "
                f"most, a path {MOST_BYTES_OF_A_PATH}, and neither has a NUL"
            )
        return word


def _loaded(text: str) -> Any:
    """What a word of a command line would be in a file; itself where it would be nothing."""
    try:
        value = parse_yaml(text)
    except ValueError:
        return text
    return text if value is None and text != "null" else value


def _as_plain(kind: Any, value: Any) -> Any:
    """The value as that kind, without loss; None if it is not one."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if kind is float and isinstance(value, int):
        return float(value) if abs(value) < 2**1000 else None
    return value if isinstance(value, kind) else None


def _as_list(hint: Any, value: Any) -> list[Any] | None:
    """A list of what a tuple's hint asks for; None if it is not one."""
    kinds = [kind for kind in get_args(hint) if kind is not Ellipsis]
    if not isinstance(value, list) or (Ellipsis not in get_args(hint) and len(value) != len(kinds)):
        return None
    kind = kinds[0]
    words = get_args(kind) if get_origin(kind) is Literal else ()
    found = [_as_plain(str if words else kind, item) for item in value]
    return None if any(item is None or (words and item not in words) for item in found) else found


def _example(hint: Any) -> str:
    """Of a list, in words."""
    kind = get_args(hint)[0]
    if get_origin(kind) is Literal:
        words = get_args(kind)
        return f"a list of {', '.join(words)}, such as [{words[0]},{words[-1]}]"
    return "a list such as [64,128]" if kind is int else "a list such as [0.9, 0.999]"
