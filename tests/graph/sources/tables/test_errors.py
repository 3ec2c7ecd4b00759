"""What is wrong with a table is said with file, line, column, value and a way out."""

from __future__ import annotations

import gzip
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gnnpipe.errors import DataError, UserError
from tests.graph.sources.tables.written import Written


@pytest.fixture
def written(tmp_path: Path) -> Written:
    return Written(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "edges.csv: it is empty"),
        ("\n\n", "edges.csv: it is empty"),
        ("# only a comment\n", "edges.csv: it is empty"),
        ("u,v\n", "edges.csv: it names columns, but has no rows"),
        (
            "id\n1\n2\n",
            r"its columns \(id\) are not known for the ends of edges; say .* --source and --target",
        ),
        ("a,b,c\n1,2,3\n", r"its columns \(a, b, c\) are not known .* --header no"),
        ("u,u\n1,2\n", "two columns are called 'u'; rename one"),
        ("u,v\n1,2\n1,2,3\n", "edges.csv, line 3: it has 3 cells, and 2 are expected"),
        ("u,v\n\n1,2\n\n1\n", "edges.csv, line 5: it has 1 cells, and 2 are expected"),
        ("u,v\n1,2\n1.5,2\n", "edges.csv, line 3, column u: '1.5' is no whole number"),
        ("u,v\n1,2\n1,\n", "edges.csv, line 3, column v: the id is missing"),
        ("u,v\na,b\n,b\n", "edges.csv, line 3, column u: the id is missing"),
        ("u,v\n1,9223372036854775808\n", "line 2, column v: '9223372036854775808' is too large"),
        ("u,v\n1,1e17\n", "line 2, column v: '1e17' is too large"),
        ("u,v,w\n1,2,3\n1,2,\n", "line 3, column w: the weight is missing; .* --weight none"),
        ("u,v,w\n1,2,3\n1,2,heavy\n", "line 3, column w: 'heavy' is no weight"),
        ("u,v,w\n1,2,inf\n", "line 2, column w: 'inf' is no weight"),
        ("u,v,w\n1,2,1e300\n", r"line 2, column w: '1e\+?300' is no weight"),
        (b"u,v\n1,2\n\xff,2\n", "edges.csv, line 3: byte 0xff is no UTF-8; save the file as UTF-8"),
        (b"u,v\n" + b"1,2\n" * 400_000 + b"\xff,2\n", "edges.csv, line 400002: byte 0xff is no UTF-8"),
        ("u,v\n1,2\n".encode("utf-16"), "it is UTF-16; save it as UTF-8"),
        (b"PK\x03\x04....", "it is a zip archive or a workbook"),
        (b"u,v\n1,\x00\n", "line 2: it holds zero bytes"),
        (b"PAR1....", "edges.csv: it can't be read"),
        (b"\x1f\x8b....", "edges.csv: it can't be read"),
        (gzip.compress(b"u,v\n" + b"1,2\n" * 9_000)[:-20], "edges.csv: it can't be read"),
        (",".join(map(str, range(120_001))), "it has 120,001 columns, and more than 100,000 are not read"),
        (
            b'u,v\n"1,2\n' + b"1,2\n" * 2_000_000,
            "a line is longer than 4,194,304 bytes, or a quote is never closed",
        ),
        (b"u,v\n" + b"1" * 9_000_000, "a line is longer than"),
        (b"u" * 9_000_000, "line 1: it is longer than 4,194,304 bytes"),
    ],
)
def test_lists_of_edges(written: Written, content: str | bytes, message: str) -> None:
    written.write("edges.csv", content)
    with pytest.raises(DataError, match=message):
        written.read("edges.csv")


@pytest.mark.parametrize(
    ("nodes", "settings", "message"),
    [
        ("id,f\n", {}, "nodes.csv: it names columns, but has no rows"),
        ("name,f\n1,2\n", {"nodes": ("nodes.csv",)}, r"none of its columns \(name, f\) .* --id"),
        ("id,f\n1,5\n2,6\n\n1,7\n", {}, r"line 5: node 1 occurs a second time \(first in nodes.csv, line 2"),
        ("id,f\na,5\nb,6\na,7\n", {}, "line 4: node a occurs a second time"),
        ("id,f\n1,5\n,6\n", {}, "line 3, column id: the id is missing"),
        ("id,f\n1,5\n2,\n", {}, "line 3, column f: the cell is empty or NaN; fill it in"),
        ("id,f\n1,5\n2,NaN\n", {}, "line 3, column f: the cell is empty or NaN; fill it in"),
        ("id,f\n1,red\n2,NA\n", {}, "line 3, column f: the cell is empty or NaN; fill it in"),
        ("id,f\n1,5\n2,abc\n", {}, "line 3, column f: 'abc' is no number, though .*--categorical"),
        ("id,f\n1,abc\n2,5\n", {}, "line 2, column f: 'abc' is no number, though other cells are"),
        ("id,f\n1,5\n2,inf\n", {}, "line 3, column f: inf is no finite number"),
        ("id,f\n1,5\n2,1e39\n", {}, r"line 3, column f: 1e\+39 is no finite number of 32 bits"),
        ("id,f\n1,2020-01-31\n2,2020-02-01\n", {}, "it holds dates .'2020-01-31'.*--feature-columns"),
        ("id,f\n1,31.1.2020 10:30\n2,1.2.2020 9:00\n", {}, "column f: it holds dates"),
        ("id,split\n1,train\n2,extra\n", {}, "line 3, column split: 'extra' name no split; write train"),
        ("id,label,target\n1,0,1\n2,1,1\n", {}, "columns label, target may all be the label; .* --label"),
        ("id,f,f\n1,0,1\n", {}, "two columns are called 'f'"),
        ("id,a,b\n1,x,y\n2,y,z\n", {"label": "a,b"}, r"column a: it holds text \(x, y\)"),
        ("id,label\n" + "".join(f"{i},{i * 3}\n" for i in range(300)), {}, "300 different numbers for 300"),
        ("id,f\n" + "".join(f"{i},t{i}\n" for i in range(2_000)), {}, "more than 1,000 .*--categories"),
        ("id,y\n" + "".join(f"{i},t{i}\n" for i in range(11_000)), {}, "more than 10,000 different texts"),
    ],
)  # fmt: skip
def test_node_tables(written: Written, nodes: str, settings: dict[str, object], message: str) -> None:
    written.write("edges.csv", "u,v\n1,2\n")
    written.write("nodes.csv", nodes)
    with pytest.raises(UserError, match=message):
        written.read(**settings)


def test_a_number_among_text_far_down(written: Written) -> None:
    written.write("edges.csv", "u,v\n1,2\n")
    rows = "".join(f"{node},red\n" for node in range(450_000))
    written.write("nodes.csv", f"id,f\n{rows}450000,5\n")
    with pytest.raises(
        DataError, match="line 450002, column f: '5' is a number, though other cells are text"
    ):
        written.read()
    rows = "".join(f"{node},5\n" for node in range(450_000))
    written.write("nodes.csv", f"id,f\n{rows}450000,red\n")
    with pytest.raises(DataError, match="line 450002, column f: 'red' is no number, though other cells are"):
        written.read()


def test_tables_that_do_not_fit(written: Written) -> None:
    written.write("edges.csv", "u,v\n1,2\n")
    written.write("a.csv", "id,f\n1,2\n2,3\n")
    written.write("b.csv", "id,g\n1,2\n")
    with pytest.raises(DataError, match=r"b.csv: it has no row for node 2, which another table lists"):
        written.read()
    written.write("b.csv", "id,f\n1,2\n2,3\n")
    with pytest.raises(DataError, match="column f is in several node tables"):
        written.read()
    written.write("b.csv", "u,v,w\n1,2,3\n")
    with pytest.raises(DataError, match=r"edges.csv and b.csv have different columns"):
        written.read()
    (written.folder / "empty").mkdir()
    with pytest.raises(DataError, match="empty: no file has columns that are known for the ends of edges"):
        written.read("empty")


def test_rounded_numbers_are_mentioned(written: Written) -> None:
    written.write("edges.csv", "u,v\n1,2\n")
    written.write("nodes.csv", "id,f\n1,16777217\n2,16777216\n")
    assert written.read().notes == (
        "nodes.csv: column f: 1 whole numbers above 16,777,216 are rounded to float32",
    )


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([[1], [2]]), r"column f: it holds values of type list|can't be features"),
        (pa.array([{"a": 1}, {"a": 2}]), "values of type struct"),
        (pa.array([1, 2], pa.timestamp("s")), "it holds dates"),
        (pa.array([1, 2], pa.date32()), "it holds dates"),
        (pa.array([b"a", b"b"]), "values of type binary can't be features"),
        (pa.array([1.0, None]), "row 2, column f: the cell is empty or NaN"),
    ],
)
def test_parquet_columns(written: Written, column: pa.Array, message: str) -> None:
    written.write("edges.csv", "u,v\n1,2\n")
    pq.write_table(pa.table({"id": [1, 2], "f": column}), written.folder / "nodes.parquet")
    with pytest.raises(DataError, match=message):
        written.read()


def test_parquet_ids(written: Written) -> None:
    path = written.folder / "edges.parquet"
    for source, message in [
        (pa.array([1, 2**63], pa.uint64()), "row 2, column u: '9223372036854775808' is too large"),
        (pa.array([1.5, 2]), "row 1, column u: '1.5' is no whole number"),
        (pa.array([1, None]), "row 2, column u: the id is missing"),
        (pa.array([[1], [2]]), "column u: it holds values of type list"),
        (pa.array([b"\xff", b"a"]), "can't be read"),
    ]:
        pq.write_table(pa.table({"u": source, "v": [1, 2]}), path)
        with pytest.raises(DataError, match=message):
            written.read("edges.parquet")


@pytest.fixture
def _cheap() -> Iterator[None]:
    """Whatever is refused is refused before its memory is taken."""
    before, began = psutil.Process().memory_info().rss, time.process_time()
    yield
    assert psutil.Process().memory_info().rss - before < 400 << 20
    assert time.process_time() - began < 10


@pytest.mark.usefixtures("_cheap")
def test_files_that_are_none(written: Written) -> None:
    os.mkfifo(written.folder / "pipe.csv")
    with pytest.raises(DataError, match="it is no ordinary file"):
        written.read("pipe.csv")
    with (written.folder / "holes.csv").open("wb") as file:
        file.write(b"u,v\n1,2\n")
        file.truncate(10 << 30)
    with pytest.raises(DataError, match="it claims 10,737,418,240 bytes"):
        written.read("holes.csv")
    with pytest.raises(DataError, match="No such file"):
        written.read("absent.csv")
    written.write("real.csv", "u,v\n1,2\n")
    (written.folder / "link.csv").symlink_to("real.csv")
    assert written.read("link.csv").num_nodes == 2


@pytest.mark.slow
@pytest.mark.usefixtures("_cheap")
def test_bombs(written: Written) -> None:
    rows = gzip.compress(b"1,2\n" * (1 << 24), 9)  # 64 MiB of rows in 64 KiB
    with (written.folder / "bomb.csv.gz").open("wb") as file:
        file.write(gzip.compress(b"u,v\n"))
        for _ in range(5):
            file.write(rows)
    with pytest.raises(DataError, match="unfold into far more than it is"):
        written.read("bomb.csv.gz")
    big = pa.table({"u": pa.array(np.zeros(1 << 25, np.int64)), "v": pa.array(np.zeros(1 << 25, np.int64))})
    pq.write_table(big, written.folder / "bomb.parquet", compression="zstd", use_dictionary=False,
                   row_group_size=1 << 25, column_encoding="PLAIN")  # fmt: skip
    del big
    with pytest.raises(DataError, match="bytes of it would unfold into"):
        written.read("bomb.parquet")


@pytest.mark.parametrize(
    "cells", [("0,5", "1,25"), ("1.234,5", "2.000,0"), ("1 000", "2 500"), ("3%", "4 %"), ("$3", "$4")]
)
def test_numbers_in_another_notation_are_no_categories(written: Written, cells: tuple[str, str]) -> None:
    """A column of an Excel file with decimal commas became one column for each of its values."""
    written.write("edges.csv", "u;v\n1;2\n")
    written.write("nodes.csv", f"id;f\n1;{cells[0]}\n2;{cells[1]}\n")
    with pytest.raises(DataError, match=r"nodes.csv, column f: .* decimal comma, .*--categorical .*'!f'"):
        written.read()
    raw = written.read(categorical="f")
    assert raw.features is not None
    assert raw.features.shape == (2, 2)
    with pytest.raises(DataError, match=r"nodes.csv, column f: .* decimal comma, .*--task classes"):
        written.read(label="f")
    assert len(written.read(label="f", task="classes").class_names) == 2


def test_labels_too_large_to_tell_apart(written: Written) -> None:
    """2^53 and 2^53 + 1 are one number as float64, and the largest became class -9223372036854775808."""
    written.write("edges.csv", "u,v\n1,2\n")
    for large in (2**53 + 1, 2**64):
        written.write("nodes.csv", f"id,y\n1,{large}\n2,0\n")
        with pytest.raises(DataError, match=r"labels \(column y\): .* is above 2\^53, .*--task regression"):
            written.read()
        assert written.read(task="regression").task == "regression"
