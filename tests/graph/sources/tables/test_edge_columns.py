"""Columns of a table of edges that are features or types, against what a person reads there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gnnpipe.errors import ConfigError, DataError
from tests.graph.sources.tables.written import Written, pairs

ROADS = """from,to,weight,len,speed,kind
a,b,1,0.5,30,street
b,c,2,1.5,50,motorway
c,x,1,2,80,path
a,b,3,4,30,motorway
"""


@pytest.fixture
def written(tmp_path: Path) -> Written:
    written = Written(tmp_path)
    written.write("e.csv", ROADS)
    return written


def test_columns_are_taken_as_features_and_types(written: Written) -> None:
    raw = written.read("e.csv", edge_features="len,speed", edge_type="kind")
    assert pairs(raw) == [("a", "b"), ("b", "c"), ("c", "x"), ("a", "b")]
    assert np.asarray(raw.edge_attr).tolist() == [[0.5, 30], [1.5, 50], [2, 80], [4, 30]]
    assert np.asarray(raw.edge_attr).dtype == np.float32
    assert np.asarray(raw.edge_type).tolist() == [2, 0, 1, 0]
    assert raw.edge_type_names == ("motorway", "path", "street")
    assert np.asarray(raw.weight).tolist() == [1, 2, 1, 3]
    assert not any("not used" in note for note in raw.notes)
    assert (
        "e.csv: from -> source, to -> target, weight -> weight, len, speed -> features of edges, "
        "kind -> type of edges (guessed)"
    ) in written.said


def test_edges_that_are_left_out_take_theirs_with_them(written: Written) -> None:
    written.write("n.csv", "id,age\na,1\nb,2\nc,3\n")
    raw = written.read("e.csv", nodes=("n.csv",), unknown="drop", edge_features="*,!kind", edge_type="kind")
    assert pairs(raw) == [("a", "b"), ("b", "c"), ("a", "b")]
    assert np.asarray(raw.edge_attr)[:, 0].tolist() == [0.5, 1.5, 4]
    assert np.asarray(raw.edge_type).tolist() == [2, 0, 0]
    assert raw.edge_type_names == ("motorway", "path", "street")


def test_by_default_they_are_named(written: Written) -> None:
    raw = written.read("e.csv")
    assert raw.edge_attr is raw.edge_type is None
    assert "e.csv: not used: column len, speed, kind; --edge-features takes some" in raw.notes[0]


@pytest.mark.parametrize(
    ("cells", "types", "names"),
    [
        ("0 2 2", [0, 2, 2], ()),
        ("7 2000000 7", [0, 1, 0], ("7", "2000000")),
        ("-1 0 1", [0, 1, 2], ("-1", "0", "1")),
        ("01 1 1", [0, 1, 1], ("01", "1")),
        ("1 1 b", [0, 0, 1], ("1", "b")),
    ],
)
def test_types_may_be_any_numbers(
    written: Written, cells: str, types: list[int], names: tuple[str, ...]
) -> None:
    rows = "".join(f"{at},{at + 1},{cell}\n" for at, cell in enumerate(cells.split()))
    written.write("t.csv", f"u,v,rel\n{rows}")
    raw = written.read("t.csv", edge_type="rel")
    assert np.asarray(raw.edge_type).tolist() == types
    assert raw.edge_type_names == names
    assert pairs(raw) == [(0, 1), (1, 2), (2, 3)]  # ids stay numbers


def test_parquet(written: Written, tmp_path: Path) -> None:
    table = {"src": [0, 1], "dst": [1, 2], "far": [True, False], "rel": ["b", "a"]}
    pq.write_table(pa.table(table), tmp_path / "e.parquet")
    raw = written.read("e.parquet", edge_features="far", edge_type="rel")
    assert np.asarray(raw.edge_attr).tolist() == [[1], [0]]
    assert np.asarray(raw.edge_type).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("content", "flags", "message"),
    [
        (
            "u,v,a\n0,1,\n",
            {"edge_features": "a"},
            "e.csv, line 2, column a: the feature is missing",
        ),
        (
            "u,v,a\n0,1,big\n",
            {"edge_features": "a"},
            "column a: 'big' is no feature; .*--edge-features",
        ),
        ("u,v,a\n0,1,\n", {"edge_type": "a"}, "e.csv, line 2, column a: the .* is missing"),
    ],
)
def test_cells_that_can_not_be_used_are_named(
    written: Written, content: str, flags: dict[str, str], message: str
) -> None:
    written.write("e.csv", content)
    with pytest.raises(DataError, match=message):
        written.read("e.csv", **flags)


def test_flags_that_name_no_column_are_refused(written: Written) -> None:
    with pytest.raises(ConfigError, match="edge-features: there is no column 'lenn'; did you mean 'len'"):
        written.read("e.csv", edge_features="lenn")
    with pytest.raises(ConfigError, match="edge-type: there is no column 'weight'; there are len, speed"):
        written.read("e.csv", edge_type="weight")
    rows = "".join(f"{at},0,x{at}\n" for at in range(1001))
    written.write("many.csv", f"u,v,rel\n{rows}")
    with pytest.raises(DataError, match="column rel has 1,001 different values, and at most 1,000 types"):
        written.read("many.csv", edge_type="rel")
