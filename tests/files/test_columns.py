"""Files of columns are read back by other readers as they were written."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnpipe.errors import ConfigError
from gnnpipe.files import columns as module
from gnnpipe.files.columns import Column, check_columns_file, write_columns

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from('",;\n'), max_size=8)


def column(name: str, values: np.ndarray, heads: tuple[str, ...], words: tuple[str, ...] = ()) -> Column:
    return Column(name, values.dtype, heads, lambda rows: values[rows], words, flat=values.ndim == 1)


@settings(max_examples=25, deadline=None)
@given(st.lists(TEXT, max_size=12), st.lists(TEXT, min_size=1, max_size=3, unique=True), st.integers(1, 40))
def test_every_format_reads_back(
    tmp_path_factory: pytest.TempPathFactory, ids: list[str], words: list[str], block: int
) -> None:
    folder, size = tmp_path_factory.mktemp("columns"), len(ids)
    random = np.random.default_rng(size)
    classes = random.integers(len(words), size=size)
    flags = random.integers(2, size=(size, 2)).astype(np.uint8)
    single = random.standard_normal((size, 3)).astype(np.float32) * 1e-3
    double = random.standard_normal((size, 1)) * 1e6
    text, longest = np.array(ids, dtype=object), max([1, *map(len, ids)])
    held = [
        Column("node", np.dtype(f"<U{longest}"), ("node",), lambda rows: text[rows]),
        column("classes", classes, ("class",), tuple(words)),
        column("flags", flags, ("a", 'b "quoted", twice')),
        column("logits", single, ("x", "y", "z")),
        column("values", double, ("value",)),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK_NUMBERS", block)
        for ending in ("npz", "csv", "parquet"):
            write_columns(folder / f"x.{ending}", held, size, {"names": np.array(words)})
    named = [words[number] for number in classes]
    numbers = [*flags.T.tolist(), *single.T.tolist(), double[:, 0].tolist()]
    arrays = np.load(folder / "x.npz")
    assert arrays["names"].tolist() == words
    assert [name.rstrip("\0") for name in arrays["node"].tolist()] == [name.rstrip("\0") for name in ids]
    for name, values in (("classes", classes), ("flags", flags), ("logits", single), ("values", double)):
        assert arrays[name].dtype == values.dtype
        assert np.array_equal(arrays[name], values)
    with (folder / "x.csv").open(newline="") as file:
        heads, *lines = csv.reader(file)
    assert heads == ["node", "class", "a", 'b "quoted", twice', "x", "y", "z", "value"]
    by_column: list[Any] = list(zip(*lines, strict=True)) or [()] * 8
    assert list(by_column[0]) == ids
    assert list(by_column[1]) == named
    assert [list(map(int, cells)) for cells in by_column[2:4]] == numbers[:2]
    assert [[float(np.float32(cell)) for cell in cells] for cells in by_column[4:7]] == numbers[2:5]
    assert list(map(float, by_column[7])) == numbers[5]
    table = pyarrow.parquet.read_table(folder / "x.parquet")
    assert table.column_names == heads
    assert table.columns[0].to_pylist() == ids
    assert table.columns[1].to_pylist() == named
    assert [item.to_pylist() for item in table.columns[2:]] == numbers


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fails(rows: slice) -> np.ndarray:
        raise OSError(28, "No space left on device")

    (tmp_path / "x.csv").write_text("before")
    with pytest.raises(OSError, match="No space"):
        write_columns(tmp_path / "x.csv", [Column("node", np.dtype(np.int64), ("node",), fails)], 3, {})
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]
    assert (tmp_path / "x.csv").read_text() == "before"


def test_a_place_is_checked_before_work_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there.csv").touch()
    (tmp_path / "folder.csv").mkdir()
    for name, message in (
        ("x.tsv", "its ending says the format: .npz, .csv, .parquet"),
        ("there.csv", "exists already; choose another --out or add --overwrite"),
        ("folder.csv", "is no file"),
        ("no/x.npz", "does not exist; make it"),
    ):
        with pytest.raises(ConfigError, match=f"out: .*{message}"):
            check_columns_file(tmp_path / name, overwrite=False)
    check_columns_file(tmp_path / "there.csv", overwrite=True)
    check_columns_file(tmp_path / "new.parquet", overwrite=False)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"pip install 'gnnpipe\[tables\]'"):
        check_columns_file(tmp_path / "new.parquet", overwrite=False)
