"""Random tables are read as a dictionary-based reference reads them; damaged ones cost an error of ours."""

from __future__ import annotations

import csv
import io
import random
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnpipe.errors import ConfigError, DataError
from gnnpipe.graph.sources.raw import RawGraph
from tests.graph.sources.tables.written import Written, dense, labels, pairs

WHOLE = st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 40)
LETTERS = st.characters(codec="utf-8", exclude_categories=["Cs", "Cc", "Z"], exclude_characters='"')
# a first letter that no number begins with, so that a header is told from a row
TEXT = st.text(LETTERS | st.sampled_from(' ,"'), max_size=6).map(lambda text: ("n" + text).strip())


@dataclass
class Tables:
    """A graph in the form that tables list it."""

    nodes: list[Any] | None
    edges: list[tuple[Any, Any, float]]
    classes: list[str]
    values: list[tuple[float, float]]
    form: str
    """``csv``, ``tsv``, ``txt`` or ``parquet``."""


@st.composite
def tables(draw: st.DrawFn) -> Tables:
    ids = draw(st.lists(draw(st.sampled_from([WHOLE, TEXT])), min_size=1, max_size=12, unique=True))
    node, number = st.sampled_from(ids), st.floats(-1e6, 1e6, width=32)
    edges = draw(st.lists(st.tuples(node, node, number), min_size=1, max_size=30))
    size = len(ids)
    classes = draw(st.lists(st.sampled_from(["", "a", "b", "B", "cc"]), min_size=size, max_size=size))
    values = draw(st.lists(st.tuples(number, number), min_size=size, max_size=size))
    listed = draw(st.booleans())
    return Tables(
        ids if listed else None, edges, classes, values, draw(st.sampled_from(["csv", "tsv", "parquet"]))
    )


def write(folder: Path, name: str, form: str, columns: dict[str, list[Any]]) -> None:
    path = folder / f"{name}.{form}"
    if form == "parquet":
        pq.write_table(pa.table(columns), path, row_group_size=7)
        return
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter={"csv": ",", "tsv": "\t", "txt": " "}[form])
        writer.writerows([list(columns), *zip(*columns.values(), strict=True)])


@settings(max_examples=60, deadline=None)
@given(tables())
def test_random_tables(graph: Tables) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, target, weight = map(list, zip(*graph.edges, strict=True))
        write(folder, "edges", graph.form, {"u": source, "v": target, "w": weight})
        if graph.nodes is not None:
            first, second = map(list, zip(*graph.values, strict=True))
            columns = {"id": graph.nodes, "y": graph.classes, "f": first, "g": second}
            write(folder, "nodes", graph.form, columns)
        raw = Written(folder).read()
        check(raw, graph)


def check(raw: RawGraph, graph: Tables) -> None:
    """Compare with what dictionaries say."""
    ends = {end for edge in graph.edges for end in edge[:2]}
    order = graph.nodes if graph.nodes is not None else sorted(ends)
    number = {node: index for index, node in enumerate(order)}
    assert raw.num_nodes == len(order)
    edges = [
        [number[source] for source, _, _ in graph.edges],
        [number[target] for _, target, _ in graph.edges],
    ]
    assert np.asarray(raw.edge_index).tolist() == edges
    assert np.asarray(raw.weight).tolist() == [np.float32(weight) for _, _, weight in graph.edges]
    assert pairs(raw) == [(source, target) for source, target, _ in graph.edges]
    if graph.nodes is None:
        return
    names = sorted(set(graph.classes) - {""})
    assert labels(raw) == [names.index(word) if word else -1 for word in graph.classes]
    assert raw.class_names == tuple(names)
    assert dense(raw) == [[float(np.float32(value)) for value in row] for row in graph.values]


def mutated(content: bytes, chance: random.Random) -> bytes:
    """A file with one to three small damages."""
    damaged = bytearray(content)
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(damaged) + 1)
        kind = chance.randrange(6)
        if kind == 0 and damaged:
            damaged[min(at, len(damaged) - 1)] ^= 1 << chance.randrange(8)
        elif kind == 1:
            del damaged[at:]
        elif kind == 2:
            lines = bytes(damaged).splitlines(keepends=True) or [b""]
            line = chance.randrange(len(lines))
            damaged = bytearray(b"".join([*lines[: line + 1], *lines[line:]]))
        elif kind == 3:
            del damaged[at : at + chance.randint(1, 9)]
        elif kind == 4:
            damaged[at:at] = chance.choice(
                [b",", b'"', b"\n", b"\r", b"\0", b"\t", b" ", b"#", b"-", b"9" * 19]
            )
        else:
            cell = chance.choice(
                [b"NaN", b"1.0", b"1.5", b"1e3", b"x", b"", b"inf", b"true", b"\xff", b"007"]
            )
            begin = max(damaged.rfind(b",", 0, at), damaged.rfind(b"\n", 0, at)) + 1
            stops = [stop for stop in (damaged.find(b",", at), damaged.find(b"\n", at)) if stop >= 0]
            damaged[begin : min(stops, default=len(damaged))] = cell
    return bytes(damaged)


def text_reference(content: bytes) -> list[tuple[Any, Any]] | None:
    """The edges that Python's own reader finds, ids as texts; None where it is not clear what they are."""
    text = content.decode("utf-8-sig")
    lines = [line for line in csv.reader(io.StringIO(text, newline="")) if line]
    lines = lines[1:] if lines[0][0] == "u" else lines
    return [(line[0].strip(), line[1].strip()) for line in lines]


def same_id(one: Any, text: str) -> bool:
    return one == text or (isinstance(one, int) and float(text) == float(one))


def edges_and_nodes(folder: Path, form: str) -> dict[str, bytes]:
    chance = random.Random(0)
    ids = chance.sample(range(100), 12)
    ends = [(chance.choice(ids), chance.choice(ids)) for _ in range(30)]
    write(folder, "edges", form, {"u": [u for u, _ in ends], "v": [v for _, v in ends], "w": [0.5] * 30})
    write(folder, "nodes", form, {
        "id": ids, "y": [chance.choice("abc") for _ in ids], "f": [chance.random() for _ in ids],
        "color": [chance.choice(["red", "blue"]) for _ in ids], "split": ["train", "val", "test"] * 4,
    })  # fmt: skip
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("form", ["csv", "tsv", "txt", "parquet"])
def test_damaged_tables(form: str, tmp_path: Path) -> None:
    """An error of ours or a right graph, a thousand times in all."""
    chance = random.Random(form)
    whole = edges_and_nodes(tmp_path, form)
    num_read, messages = 0, []
    for number in range(300):
        name = chance.choice(list(whole))
        with tempfile.TemporaryDirectory() as folder:
            files = whole | {name: mutated(whole[name], chance)}
            for each, content in files.items():
                (Path(folder) / each).write_bytes(content)
            written = Written(Path(folder))
            try:
                raw = written.read()
            except (DataError, ConfigError) as error:
                messages.append(str(error))
                continue
            num_read += 1
            edges = np.asarray(raw.edge_index)
            assert raw.num_nodes is not None
            assert edges.shape[0] == 2
            assert edges.size == 0 or 0 <= edges.min() <= edges.max() < raw.num_nodes, number
            for values in (raw.features, raw.labels, *(raw.masks or ())):
                assert values is None or values.shape[0] == raw.num_nodes, number
            if form == "csv":
                expected = text_reference(files["edges.csv"])
                found = pairs(raw)
                assert len(found) == len(expected), (number, files["edges.csv"])
                for one, other in zip(found, expected, strict=True):
                    assert same_id(one[0], other[0]), (number, one, other)
                    assert same_id(one[1], other[1]), (number, one, other)
    assert num_read > 10
    assert all(len(message) < 1000 and "\n" not in message for message in messages)
