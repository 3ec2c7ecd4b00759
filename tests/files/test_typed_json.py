"""Dataclasses as JSON and back, also from files that somebody else has made."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest

from gnnpipe.files.typed_json import SPREAD, Key, from_object, json_text


@dataclass(frozen=True)
class Size:
    width: int
    height: int


@dataclass(frozen=True)
class Box:
    name: str
    since: Annotated[int, Key("from")]
    kind: Literal["open", "shut"]
    weight: float | None
    whole: bool
    parts: tuple[Size, ...]
    corner: tuple[int, int]
    by_name: dict[str, int | str]
    notes: list[str]
    size: Annotated[Size | None, SPREAD] = None
    colour: str | None = None
    holes: tuple[int, ...] = ()
    depth: int = 0


CONTENT: dict[str, Any] = {
    "name": "a", "from": 3, "kind": "open", "weight": None, "whole": True,
    "parts": [{"width": 1, "height": 2}], "corner": [4, 5], "by_name": {"b": 1, "c": "x"}, "notes": ["n"],
    "depth": 0,
}  # fmt: skip
BOX = Box("a", 3, "open", None, True, (Size(1, 2),), (4, 5), {"b": 1, "c": "x"}, ["n"])


def test_there_and_back() -> None:
    assert from_object(Box, CONTENT) == BOX
    assert json_text(BOX) == json.dumps(CONTENT)
    assert json_text([BOX], indent=2) == json.dumps([CONTENT], indent=2)


def test_what_may_be_absent_is_left_out_unless_it_says_something() -> None:
    del (older := dict(CONTENT))["depth"]
    assert from_object(Box, older) == BOX
    content = {**CONTENT, "width": 7, "height": 8, "colour": "red", "holes": [1]}
    box = from_object(Box, content)
    assert (box.size, box.colour, box.holes) == (Size(7, 8), "red", (1,))
    assert set(json.loads(json_text(box))) == set(content)
    assert list(json.loads(json_text(box)))[-5:] == ["width", "height", "colour", "holes", "depth"]


def test_other_keys_are_ignored() -> None:
    assert from_object(Box, {**CONTENT, "new": {}}) == BOX


def test_numbers_are_written_as_they_were_read() -> None:
    for weight in (1, 1.0, 1e-300, 0.1 + 0.2):
        box = from_object(Box, {**CONTENT, "weight": weight})
        assert json_text(box) == json.dumps({**CONTENT, "weight": weight})
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_text({"weight": float("nan")})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": 1}, "name: '1' is no text"),
        ({"name": None}, "name: null is no text"),
        ({"from": 1.0}, "from: '1.0' is no whole number"),
        ({"from": True}, "from: 'True' is no whole number"),
        ({"kind": "ajar"}, "kind: 'ajar' is none of open, shut"),
        ({"kind": []}, "kind: .* is none of open, shut"),
        ({"weight": "1"}, "weight: '1' is no number"),
        ({"weight": float("inf")}, "weight: 'inf' is no number"),
        ({"weight": 10**400}, "weight: 'a whole number of .* bits' is no number"),
        ({"whole": 1}, "whole: '1' is no true or false"),
        ({"parts": {}}, "parts: .* is no list"),
        ({"parts": [{"width": 1, "height": "2"}]}, "parts: 0: height: '2' is no whole number"),
        ({"parts": [{"width": 1}]}, "parts: 0: height is absent"),
        ({"corner": [1, 2, 3]}, "corner: .* is no list of 2"),
        ({"by_name": {"b": None}}, "by_name: b: null is no (whole number|text)"),
        ({"by_name": [1]}, "by_name: .* is no object"),
        ({"width": 1}, "height is absent"),
        ({"width": 1, "height": None}, "height: null is no whole number"),
        ({"holes": None}, "holes: null is no list"),
    ],
)
def test_values_of_other_types_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        from_object(Box, {**CONTENT, **changes})


def test_what_is_no_object_or_lacks_a_key() -> None:
    with pytest.raises(ValueError, match=r"^'\[1\]' is no object$"):
        from_object(Box, [1])
    del (lacking := dict(CONTENT))["from"]
    with pytest.raises(ValueError, match=r"^from is absent$"):
        from_object(Box, lacking)
