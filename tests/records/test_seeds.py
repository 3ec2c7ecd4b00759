"""Seeds as a user writes them, and the folders of their runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnnpipe.errors import ConfigError
from gnnpipe.records.seeds import check_holds_seeds, parse_seeds, runs_by_seed


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("0..9", tuple(range(10))),
        ("0,3,7", (0, 3, 7)),
        ("5", (5,)),
        ("4..4", (4,)),
        ("7, 0..2", (7, 0, 1, 2)),
        ("0..999", tuple(range(1000))),
    ],
)
def test_forms(text: str, seeds: tuple[int, ...]) -> None:
    assert parse_seeds(text) == seeds


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=20, unique=True))
def test_a_list_is_what_it_says(seeds: list[int]) -> None:
    assert parse_seeds(",".join(map(str, seeds))) == tuple(seeds)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "can't be used; write the first and the last as in 0..9"),
        ("9..0", "'9..0' can't be used"),
        ("0...9", "can't be used"),
        ("0,,1", "can't be used"),
        ("-1", "can't be used"),
        ("1.5", "can't be used"),
        ("0..3,2", "names 2 twice"),
        ("0..1000", "are more than 1000"),
        ("0..999999999999999999", "are more than 1000"),
    ],
)
def test_other_forms_are_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_seeds(text)
    assert str(refused.value).startswith("seeds: ")
    assert message in str(refused.value)


def test_runs_are_found_by_their_seed(tmp_path: Path) -> None:
    for name in ("seed-10", "seed-2", "seed-0", "seed-01", "seed-x", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").touch()
    (tmp_path / "seed-3").mkdir()  # nothing is in it yet
    (tmp_path / "seed-4").touch()
    assert list(runs_by_seed(tmp_path).items()) == [(n, tmp_path / f"seed-{n}") for n in (0, 2, 10)]
    check_holds_seeds(tmp_path)
    (tmp_path / "config.yaml").touch()
    assert runs_by_seed(tmp_path) == {}
    with pytest.raises(ConfigError, match="is a run itself"):
        check_holds_seeds(tmp_path)
    assert runs_by_seed(tmp_path / "absent") == {}
