"""Edges and ids: what is read from tables, against what a person reads there."""

from __future__ import annotations

import gzip
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from gnnpipe.config.importing import TablesConfig
from gnnpipe.errors import ConfigError, DataError
from gnnpipe.graph.sources.detect import read_source
from gnnpipe.graph.sources.tables import read_tables
from tests.graph.sources.tables.written import Written, dense, labels, masks, pairs
from tests.graphs import SHARED_DATA


@pytest.fixture
def written(tmp_path: Path) -> Written:
    return Written(tmp_path)


TWO = [(0, 1), (1, 2)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("edges.csv", "source,target\n0,1\n1,2\n"),
        ("edges.csv", "src,dst\r\n0,1\r\n1,2"),
        ("edges.csv", "\ufeffid_1,id_2\n0,1\n1,2\n"),
        ("edges.csv", '"From Node","To Node"\n"0","1"\n"1","2"\n'),
        ("edges.csv", "u;v\n0;1\n1;2\n"),
        ("edges.csv", "u, v\n0, 1\n1, 2\n"),
        ("edges.csv", "0,1\n1,2\n"),
        ("edges.csv", "\n\nu,v\n\n0,1\n\n1,2\n\n"),
        ("edges.csv", "# made by hand\nu,v\n0,1\n1,2\n"),
        ("edges.csv", "a,b\n0,1\n1,2\n"),
        ("edges.csv", "u,v\n0,1.0\n1e0,2\n"),
        ("edges.tsv", "source\ttarget\n0\t1\n1\t2\n"),
        ("EDGES.TSV", "a b\tc d\n0\t1\n1\t2\n"),
        ("edges.txt", "# FromNodeId\tToNodeId\n0\t1\n1\t2\n"),
        ("edges.txt", "# Nodes: 3 Edges: 2\n  0   1  \n# in between\n1 \t 2\n"),
        ("edges.txt", "% a comment\r\n0 1\r\n1 2"),
        ("edges.txt", "source target\n0 1\n1 2\n"),
        ("edges.edgelist", "0 1\n1 2\n"),
        ("edges.csv.gz", gzip.compress(b"u,v\n0,1\n1,2\n")),
        ("edges.txt.gz", gzip.compress(b"# x\n0 1\n1 2\n")),
    ],
)
def test_forms_of_edge_lists(written: Written, name: str, content: str | bytes) -> None:
    written.write(name, content)
    raw = written.read(name)
    assert pairs(raw) == TWO
    assert raw.ids is None
    assert raw.num_nodes == 3
    assert raw.features is raw.labels is raw.masks is raw.weight is None
    assert raw.edge_index.dtype == np.int32


@pytest.mark.parametrize(
    "kind", [pa.int64(), pa.int8(), pa.uint64(), pa.float64(), pa.string(), pa.decimal128(24, 2)]
)
def test_forms_of_parquet(written: Written, kind: pa.DataType) -> None:
    table = pa.table({"source": pa.array([0, 1]).cast(kind), "target": pa.array([1, 2]).cast(kind)})
    pq.write_table(table, written.folder / "edges.parquet")
    assert pairs(written.read("edges.parquet")) == TWO
    packed = pa.table({name: table[name].dictionary_encode() for name in table.column_names})
    pq.write_table(packed, written.folder / "edges.parquet")
    assert pairs(written.read("edges.parquet")) == TWO


def test_float_ids_beside_text(written: Written) -> None:
    pq.write_table(pa.table({"u": [1.0, 2.0], "v": ["a", "1"]}), written.folder / "edges.parquet")
    assert pairs(written.read("edges.parquet")) == [("1", "a"), ("2", "1")]
    pq.write_table(pa.table({"u": [1.5, 2.0], "v": ["a", "1"]}), written.folder / "edges.parquet")
    with pytest.raises(DataError, match=r"row 1, column u: '1.5' is no whole number"):
        written.read("edges.parquet")


def test_parts_of_parquet(written: Written) -> None:
    folder = written.folder / "edges.parquet"
    folder.mkdir()
    (folder / "_SUCCESS").touch()
    for part, edge in enumerate(TWO):
        table = pa.table({"source": [edge[0]], "target": [edge[1]]})
        pq.write_table(table, folder / f"part-{part}.parquet")
    pq.write_table(pa.table({"id": [0, 1, 2], "label": [1, 0, 1]}), written.folder / "nodes.parquet")
    raw = written.read()
    assert pairs(raw) == TWO
    assert labels(raw) == [1, 0, 1]
    written.said.clear()
    assert pairs(written.read("edges.parquet")) == TWO
    assert written.said[0] == "part-0.parquet and 1 more: source -> source, target -> target (guessed)"


def test_folders_of_parquet_alone(written: Written, tmp_path: Path) -> None:
    """As Spark writes them: a folder for each table."""
    for name, table in [
        ("edges", pa.table({"source": [0, 1], "target": [1, 2]})),
        ("nodes", pa.table({"id": [0, 1, 2], "label": [1, 0, 1]})),
    ]:
        (tmp_path / "graph" / name).mkdir(parents=True)
        pq.write_table(table, tmp_path / "graph" / name / "part-0.parquet")
    raw = read_source(tmp_path / "graph", TablesConfig(), tmp_path, written.said.append)
    assert (pairs(raw), labels(raw)) == (TWO, [1, 0, 1])


@pytest.mark.parametrize(
    ("rows", "expected", "ids"),
    [
        ("30,-5\n-5,2000000000000\n", [(30, -5), (-5, 2000000000000)], [-5, 30, 2000000000000]),
        ("9223372036854775807,-9223372036854775808\n", [(2**63 - 1, -(2**63))], [-(2**63), 2**63 - 1]),
        ("5,6\n6,8\n", [(5, 6), (6, 8)], [5, 6, 8]),
        ("b,a\na,c d\n", [("b", "a"), ("a", "c d")], ["a", "b", "c d"]),
        ('"x,1",é\n', [("x,1", "é")], ["x,1", "é"]),
        ("1,b\n2,1\n", [("1", "b"), ("2", "1")], ["1", "2", "b"]),
        ("007,7\n7,8\n", [("007", "7"), ("7", "8")], ["007", "7", "8"]),
        ("NA,nan\nnan,null\n", [("NA", "nan"), ("nan", "null")], ["NA", "nan", "null"]),
    ],
)
def test_ids_of_each_type(written: Written, rows: str, expected: list[object], ids: list[object]) -> None:
    """Ascending or alphabetical where no table lists the nodes."""
    written.write("edges.csv", "u,v\n" + rows)
    raw = written.read("edges.csv")
    assert pairs(raw) == expected
    assert raw.ids is not None
    assert [raw.ids[node] for node in range(len(raw.ids))] == ids


def test_text_far_down(written: Written) -> None:
    """An id that is text behind a million rows of numbers makes all of them text."""
    written.write("edges.csv", "u,v\n" + "1,2\n" * 1_200_000 + "2,x\n")
    raw = written.read("edges.csv")
    assert raw.ids is not None
    assert [raw.ids[node] for node in range(3)] == ["1", "2", "x"]
    assert raw.edge_index[:, -1].tolist() == [1, 2]
    assert "ids are text, such as 'x' in edges.csv, line 1200002, column v" in written.said


def test_order_of_the_first_node_table(written: Written) -> None:
    written.write("edges.csv", "u,v\n7,3\n3,100\n")
    written.write("nodes.csv", "id,label\n100,0\n3,1\n7,2\n55,0\n")
    raw = written.read("edges.csv", nodes=("nodes.csv",))
    assert raw.edge_index.tolist() == [[2, 1], [1, 0]]
    assert [raw.ids[node] for node in range(4)] == [100, 3, 7, 55]  # type: ignore[index]
    assert labels(raw) == [0, 1, 2, 0]


def test_all_that_a_folder_holds(written: Written) -> None:
    written.write("edges.csv", "from,to,weight\nb,a,0.5\na,b,2\nc,a,-1e-3\n")
    written.write("labels.csv", "node_id,class,split\na,dog,Train\nb,,valid\nc,cat,\nd,cat,TEST\n")
    written.write("features.csv", "node,age,height\nd,1,2.5\nc,3,4.5\nb,5,6.5\na,7,8.5\n")
    written.write("notes.md", "# hello")
    written.write("README.txt", "A graph of animals")
    raw = written.read()
    assert pairs(raw) == [("b", "a"), ("a", "b"), ("c", "a")]
    assert raw.weight is not None
    assert raw.weight.tolist() == [np.float32(value) for value in (0.5, 2, -1e-3)]
    assert [raw.ids[node] for node in range(4)] == ["d", "c", "b", "a"]  # type: ignore[index]
    assert dense(raw) == [[1, 2.5], [3, 4.5], [5, 6.5], [7, 8.5]]
    assert labels(raw) == [0, 0, -1, 1]
    assert raw.class_names == ("cat", "dog")
    assert masks(raw) == [[3], [2], [0]]
    assert written.said[:3] == [
        "edges.csv: from -> source, to -> target, weight -> weight (guessed)",
        "features.csv: node -> id, age, height -> features (guessed)",
        "labels.csv: node_id -> id, class -> label, split -> split (guessed)",
    ]
    assert len(raw.notes) == 2


def test_flags_name_columns(written: Written) -> None:
    written.write("e.csv", "a,b,source,target,w\n1,2,9,9,4\n")
    written.write("n.csv", "key,kind,y,part,f_1,f_2,other\n1,0,7,test,1,2,3\n2,1,7,train,4,5,6\n")
    raw = written.read(
        "e.csv", nodes=("n.csv",), source="b", target="a", weight="none", id="key", label="kind",
        split="part", feature_columns="f_*",
    )  # fmt: skip
    assert pairs(raw) == [(2, 1)]
    assert raw.weight is None
    assert (labels(raw), dense(raw), masks(raw)) == ([0, 1], [[1, 2], [4, 5]], [[1], [], [0]])
    assert "not used: column source, target, w" in raw.notes[0]
    assert not any("guessed" in line for line in written.said)
    assert dense(written.read(nodes=("n.csv",), source="a", target="b", id="key", label="none", split="none",
                              feature_columns="other, y")) == [[7, 3], [7, 6]]  # fmt: skip


def test_columns_by_number(written: Written) -> None:
    written.write("e.csv", "5,6,0.5\n6,5,1.5\n")
    raw = written.read("e.csv")
    assert raw.weight is None
    assert "not used: column 2; --weight takes one" in raw.notes[0]
    raw = written.read("e.csv", source="1", target="0", weight="2")
    assert pairs(raw) == [(6, 5), (5, 6)]
    assert raw.weight.tolist() == [0.5, 1.5]  # type: ignore[union-attr]


def test_header_by_flag(written: Written) -> None:
    written.write("e.csv", "x,y\ny,z\n")
    assert pairs(written.read("e.csv", header="no")) == [("x", "y"), ("y", "z")]
    assert pairs(written.read("e.csv", header="yes")) == [("y", "z")]
    written.write("f.csv", "1,2\n3,4\n")
    assert pairs(written.read("f.csv", header="yes")) == [(3, 4)]


def test_quoted_line_breaks_and_lines_in_messages(written: Written) -> None:
    written.write("edges.csv", "u,v\n1,2\n")
    nodes = 'id,label,text,f\n1,0,"two\nlines",5\n\n2,0,"x ""y"" z",6\n3,0,x,\n'
    written.write("nodes.csv", nodes)
    with pytest.raises(DataError, match=r"nodes.csv, line 6, column f: the cell is empty or NaN"):
        written.read()
    written.write("nodes.csv", nodes.replace("x,\n", "x,7\n"))
    raw = written.read(feature_columns="text")
    assert dense(raw) == [[1, 0, 0], [0, 0, 1], [0, 1, 0]]


def test_unnamed_columns_are_not_features(written: Written) -> None:
    """As pandas writes its index."""
    written.write("edges.csv", ",source,target\n0,1,2\n")
    written.write("nodes.csv", ",id,f\n0,1,5\n1,2,6\n")
    raw = written.read()
    assert pairs(raw) == [(1, 2)]
    assert dense(raw) == [[5], [6]]


@pytest.mark.parametrize(
    ("cells", "settings", "expected", "names"),
    [
        ("0 1 2 1", {}, [0, 1, 2, 1], ()),
        ("0 NA nan 1", {}, [0, -1, -1, 1], ()),
        ("-1 0 1 0", {}, [-1, 0, 1, 0], ()),
        ("10 9 100 9", {}, [1, 0, 2, 0], ("9", "10", "100")),
        ("1.0 2.0 1e0 null", {}, [0, 1, 0, -1], ("1", "2")),
        ("true False TRUE false", {}, [1, 0, 1, 0], ()),
        ("10 9 a 9", {}, "labels are numbers in some rows and text in others", ()),
        ("b a10 a9 ", {}, [2, 0, 1, -1], ("a10", "a9", "b")),
        ("0.5 1 nan 2", {}, [0.5, 1, None, 2], ()),
        ("1 2 3 4", {"task": "regression"}, [1, 2, 3, 4], ()),
        ("0.5 1 2 2", {"task": "classes"}, "0.5 of node 0 is no class", ()),
        ("a b c d", {"task": "regression"}, "text .a, b, c, d. can't be predicted", ()),
        ("-1 1 1 -1", {}, "-1 means that a node has no label", ()),
        ("-2 -1 0 1", {}, "-1 means that a node has no label", ()),
        ("1e300 0.5 1 2", {}, "1e.300 of node 0 is no finite number", ()),
    ],
)
def test_labels(
    written: Written, cells: str, settings: dict[str, str], expected: object, names: tuple[str, ...]
) -> None:
    written.write("edges.csv", "u,v\n0,1\n")
    rows = "".join(f"{node},{cell}\n" for node, cell in enumerate(cells.split(" ")))
    written.write("nodes.csv", "id,y\n" + rows)
    if isinstance(expected, str):
        with pytest.raises(DataError, match=expected):
            written.read(**settings)
        return
    raw = written.read(**settings)
    found = [None if value != value else value for value in labels(raw)]
    assert found == expected
    assert raw.class_names == names
    assert raw.task == ("regression" if raw.labels.dtype == np.float32 else "classes")  # type: ignore[union-attr]


def test_bytes_that_are_no_text_far_down(written: Written) -> None:
    written.write("edges.csv", b"u,v\n" + b"a,b\n" * 1_100_000 + b"a,\xff\n")
    with pytest.raises(DataError, match="line 1100002: byte 0xff is no UTF-8"):
        written.read("edges.csv")


def test_several_labels(written: Written) -> None:
    written.write("edges.csv", "u,v\n0,1\n")
    written.write("nodes.csv", "id,l_a,l_b,f\n0,1,true,5\n1,0,FALSE,6\n2,,,7\n")
    raw = written.read(label="l_*")
    assert labels(raw)[:2] == [[1, 1], [0, 0]]
    assert all(map(math.isnan, labels(raw)[2]))
    assert dense(raw) == [[5], [6], [7]]
    assert raw.labels.dtype == np.float32  # type: ignore[union-attr]
    assert (raw.task, raw.class_names) == ("classes", ("l_a", "l_b"))
    with pytest.raises(DataError, match=r"5 of node 0, column f, is neither 0 nor 1"):
        written.read(label="l_a,f")
    raw = written.read(label="l_a,f", task="regression", feature_columns="none")
    assert (labels(raw)[1], raw.task, raw.class_names) == ([0, 6], "regression", ())


def test_encodings_of_features(written: Written) -> None:
    written.write("edges.csv", "u,v\n0,1\n")
    written.write(
        "nodes.csv", "id,a,color,flag,zip\n0,1e3,red,True,10\n1,-.5,blue,false,9\n2,0,red,true,10\n"
    )
    raw = written.read()
    assert dense(raw) == [[1000, 0, 1, 1, 10], [-0.5, 1, 0, 0, 9], [0, 0, 1, 1, 10]]
    assert raw.features.dtype == np.float32  # type: ignore[union-attr]
    raw = written.read(categories="codes", categorical="zip")
    assert dense(raw) == [[1000, 1, 1, 1], [-0.5, 0, 0, 0], [0, 1, 1, 1]]
    raw = written.read(feature_columns="z*", categorical="zip")
    assert dense(raw) == [[0, 1], [1, 0], [0, 1]]
    assert dense(written.read(feature_columns="!color,!z*")) == [[1000, 1], [-0.5, 0], [0, 1]]
    assert dense(written.read(feature_columns="*,!color, !flag")) == [[1000, 10], [-0.5, 9], [0, 10]]


def test_features_of_parquet(written: Written) -> None:
    written.write("edges.csv", "u,v\n0,1\n")
    table = pa.table({
        "id": [0, 1], "a": pa.array([1, 2], pa.float16()), "b": [True, False], "c": ["x", "y"],
        "d": pa.array(["p", "q"]).dictionary_encode(), "e": pa.array([1, 2]).cast(pa.decimal128(24, 2)),
    })  # fmt: skip
    pq.write_table(table, written.folder / "nodes.parquet")
    assert dense(written.read()) == [[1, 1, 1, 0, 1, 0, 1], [2, 0, 0, 1, 0, 1, 2]]


def test_features_in_long_form(written: Written) -> None:
    written.write("edges.csv", "u,v\n5,6\n6,7\n")
    written.write("entries.csv", "node_id,feature_id,value\n6,2,0.5\n5,0,1\n5,2,-3\n5,0,1\n")
    raw = written.read()
    assert dense(raw) == [[1, 0, -3], [0, 0, 0.5], [0, 0, 0]]
    assert raw.notes == (
        "entries.csv: 1 rows repeat others, and are left out",
        "entries.csv: 1 of 3 nodes have no row; their features are 0",
    )
    written.write("nodes.csv", "id,y,size\n7,0,10\n6,1,20\n5,0,30\n")
    raw = written.read()
    assert dense(raw) == [[0, 0, 0], [0, 0, 0.5], [1, 0, -3]]
    assert any("columns size, as features are in long form" in note for note in raw.notes)
    assert dense(written.read(feature_columns="size")) == [[0, 0, 0, 10], [0, 0, 0.5, 20], [1, 0, -3, 30]]
    assert written.read(feature_columns="none").features is None
    written.write("entries.csv", "node_id,word_id\n6,house\n5,cat\n")
    assert dense(written.read()) == [[0, 0], [0, 1], [1, 0]]
    written.write("entries.csv", "node_id,feature_id,value\n5,0,1\n5,1,1\n5,0,2\n")
    with pytest.raises(
        DataError, match=r"entries.csv, line 2 and entries.csv, line 4: .* two values, 1 and 2"
    ):
        written.read()


def test_nodes_that_no_table_lists(written: Written) -> None:
    written.write("edges.csv", "u,v,w\n1,2,1\n2,9,2\n8,1,3\n2,1,4\n")
    written.write("nodes.csv", "id,y,f\n2,0,5\n1,1,6\n")
    with pytest.raises(DataError, match=r"edges.csv, line 3, column v: node '9' is in no node table"):
        written.read()
    raw = written.read(unknown="drop")
    assert pairs(raw) == [(1, 2), (2, 1)]
    assert raw.weight.tolist() == [1, 4]  # type: ignore[union-attr]
    assert "2 edges have an end in no node table" in raw.notes[0]
    raw = written.read(unknown="add")
    assert pairs(raw) == [(1, 2), (2, 9), (8, 1), (2, 1)]
    assert [raw.ids[node] for node in range(4)] == [2, 1, 8, 9]  # type: ignore[index]
    assert (labels(raw), dense(raw)) == ([0, 1, -1, -1], [[5], [6], [0], [0]])
    assert "2 are in no node table, and added" in raw.notes[0]


def test_edges_that_go_one_way_are_mentioned(written: Written) -> None:
    written.write("edges.csv", "u,v\n1,2\n2,3\n1,1\n")
    written.read("edges.csv")
    assert "no edge has its reverse" in written.said[-1]
    written.said.clear()
    written.write("edges.csv", "u,v\n1,2\n2,3\n3,2\n")
    written.read("edges.csv")
    assert len(written.said) == 2
    assert written.said[1] == "edges.csv: 3 edges between 3 nodes"


def test_without_pyarrow(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    written.write("edges.csv", "u,v\n1,2\n")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"pip install 'gnnpipe\[tables\]'"):
        written.read("edges.csv")


needs_data = pytest.mark.skipif(not (SHARED_DATA / "tables").exists(), reason="the real tables are not here")


@needs_data
def test_twitch(tmp_path: Path) -> None:
    raw = Written(SHARED_DATA / "tables" / "twitch")
    found = read_tables(raw.folder, TablesConfig(), tmp_path, raw.said.append)
    assert found.edge_index.shape == (2, 35_324)
    assert found.num_nodes == 7_126
    assert found.ids is None
    assert np.bincount(np.asarray(found.labels)).sum() == 7_126
    reference = np.loadtxt(raw.folder / "features.csv", delimiter=",", skiprows=1)
    expected = np.zeros((7_126, 3_170), np.float32)
    expected[reference[:, 0].astype(int), reference[:, 1].astype(int)] = reference[:, 2]
    assert (found.features.toarray() == expected).all()  # type: ignore[union-attr]
    edges = np.loadtxt(raw.folder / "edges.csv", delimiter=",", skiprows=1, dtype=int)
    assert (found.edge_index == edges.T).all()


@needs_data
def test_lastfm(tmp_path: Path) -> None:
    found = read_tables(SHARED_DATA / "tables" / "lastfm", TablesConfig(), tmp_path, lambda _: None)
    assert found.edge_index.shape == (2, 27_806)
    assert found.features is None
    assert len(np.unique(np.asarray(found.labels))) == 18


def test_flags_that_name_nothing(written: Written) -> None:
    written.write("edges.csv", "u,v\n1,2\n")
    written.write("nodes.csv", "id,label,f_1\n1,0,3\n2,1,4\n")
    for settings, message in [
        ({"source": "uu"}, r"source: there is no column 'uu'.*there are u, v"),
        ({"weight": "w"}, "weight: there is no column 'w'"),
        ({"id": "name"}, "id: there is no column 'name'"),
        ({"label": "lable"}, "label: there is no column 'lable'; did you mean 'label'"),
        ({"label": "l*x"}, r"label: there is no column 'l\*x'"),
        ({"split": "fold"}, "split: there is no column 'fold'"),
        ({"feature_columns": "g_*"}, r"feature-columns: there is no column 'g_\*'"),
        ({"feature_columns": ","}, "feature-columns: it names no column"),
        ({"categorical": "x"}, "categorical: there is no column 'x'"),
        ({"nodes": ("other.csv",)}, "nodes: 'other.csv' is not there"),
    ]:
        with pytest.raises(ConfigError, match=message):
            written.read("edges.csv", **({"nodes": ("nodes.csv",)} | settings))


MEASURE = """
import subprocess
import sys
from pathlib import Path
import pyarrow, pyarrow.compute, pyarrow.csv, pyarrow.parquet
from gnnpipe.config.importing import TablesConfig
from gnnpipe.graph.sources.tables import read_tables

def resident(key):
    return int(Path("/proc/self/status").read_text().split(key + ":")[1].split()[0]) / 1024

base = resident("VmRSS")
raw = read_tables(Path(sys.argv[1]), TablesConfig(), Path(sys.argv[2]), lambda _: None)
print(raw.edge_index.shape[1], raw.num_nodes, resident("VmHWM") - base)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux' /proc")
@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_memory_of_five_million_edges(written: Written, form: str) -> None:
    ends = np.random.default_rng(0).integers(500_000, size=(2, 5_000_000))
    table = pa.table({"u": ends[0], "v": ends[1]})
    path = written.folder / f"edges.{form}"
    (pq.write_table if form == "parquet" else pa.csv.write_csv)(table, path)
    (written.folder / "scratch").mkdir()
    command = [sys.executable, "-c", MEASURE, str(path), str(written.folder / "scratch")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    num_edges, num_nodes, mib = done.stdout.split()
    assert (int(num_edges), int(num_nodes)) == (5_000_000, len(np.unique(ends)))
    assert float(mib) < 300


def test_what_is_encoded_is_said(written: Written) -> None:
    written.write("edges.csv", "u,v\n1,2\n")
    written.write("nodes.csv", "id,colour,age\n1,red,3\n2,blue,4\n")
    written.read()
    assert "nodes.csv: encoded as categories (columns of features): colour (2)" in written.said


def test_coordinates_are_no_labels(written: Written) -> None:
    """Nodes of a mesh or of roads, as OSMnx writes them: latitudes were predicted."""
    written.write("edges.csv", "u,v,length\n10,20,1\n20,30,2\n")
    written.write("nodes.csv", "osmid,y,x\n10,48.1,11.5\n20,48.2,11.6\n30,48.3,11.7\n")
    raw = written.read()
    assert raw.labels is None
    assert np.asarray(raw.features).shape == (3, 2)
    assert written.read(label="y").task == "regression"


def test_numbers_of_rows_are_no_features(written: Written) -> None:
    written.write("edges.csv", "u,v\n1,2\n")
    written.write("nodes.csv", "Unnamed: 0,id,f\n0,1,7\n1,2,8\n")
    raw = written.read()
    assert np.asarray(raw.features).tolist() == [[7], [8]]
    assert any("not used: columns Unnamed: 0, pandas' numbers of rows" in note for note in raw.notes)
    assert np.asarray(written.read(feature_columns="*").features).shape == (2, 2)


def test_classes_that_differ_in_case(written: Written) -> None:
    written.write("edges.csv", "u,v\n1,2\n2,3\n")
    written.write("nodes.csv", "id,label\n1,yes\n2,Yes\n3,no\n")
    assert "labels: classes Yes and yes differ in their case alone" in written.read().notes


def test_a_first_edge_that_looks_like_a_header(written: Written) -> None:
    """It was lost."""
    written.write("edges.csv", "alice,bob\nbob,carol\n")
    with pytest.raises(
        DataError, match="its first line seems to be an edge, as 'bob' is a node; give --header no"
    ):
        written.read("edges.csv")
    assert written.read("edges.csv", header="no").num_nodes == 3
    assert written.read("edges.csv", header="yes").num_nodes == 2
    written.write("edges.csv", "u,v\nu,a\n")  # usual names are a header, whatever nodes are called
    assert written.read("edges.csv").num_nodes == 2
