"""The changes of scripts/mutate can be made. Whether tests notice them is the script's task."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.mutations import CHANGES, Change

ROOT = Path(__file__).parents[1]


def test_there_are_forty_and_more() -> None:
    assert len(CHANGES) == len({change.name for change in CHANGES}) >= 40


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.name)
def test_the_old_text_is_found_once(change: Change) -> None:
    text = (ROOT / "gnnpipe" / change.file).read_text()
    assert text.count(change.old) == 1, (
        f"{change.old!r} in {change.file}: bring scripts/mutations.py up to date"
    )
    assert change.new != change.old
    compile(text.replace(change.old, change.new), change.file, "exec")


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.name)
def test_its_tests_exist(change: Change) -> None:
    files, _, _ = change.tests.partition(" -k ")
    assert all((ROOT / name).is_file() for name in files.split())


def test_the_page_names_every_change() -> None:
    page = (ROOT / "docs" / "mutations.md").read_text()
    for number, change in enumerate(CHANGES, 1):
        assert f"| {number} | {change.name} | `{change.file}` | `" in page
