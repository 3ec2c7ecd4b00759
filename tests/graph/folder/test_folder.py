"""Graph folders keep everything that came in, and refuse what was changed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gnnpipe.config.importing import ImportConfig
from gnnpipe.config.run import GraphConfig
from gnnpipe.errors import ConfigError, DataError
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.folder.read import open_graph, read_graph_file
from gnnpipe.graph.folder.report import ClassSize
from gnnpipe.graph.folder.write import save_graph
from gnnpipe.graph.ids import NodeIds
from gnnpipe.graph.sources.datasets import load_dataset
from gnnpipe.graph.sources.raw import RawGraph
from gnnpipe.graph.splits import MASKS
from gnnpipe.report.graph import graph_lines
from tests.graph.folder.test_edges import entries, written
from tests.graphs import random_graph

NODES = 6
NAN = np.nan
EDGES = np.array([[0, 1, 2, 3, 4, 4], [1, 2, 3, 4, 0, 0]])


def whole() -> RawGraph:
    """A graph with every part that a folder can hold."""
    rng = np.random.default_rng(0)
    masks = [torch.from_numpy(rng.random((NODES, 2)) < 0.5) for _ in range(3)]
    return RawGraph(
        EDGES,
        rng.random((NODES, 3)).astype(np.float16),
        np.array([0, 2, -1, 1, 1, 0]),
        (masks[0], masks[1], masks[2]),
        ("a note",),
        weight=np.arange(1, 7) / 2,
        num_nodes=NODES,
        ids=NodeIds.of_text(["a", "bé", "", "d", "long name", "f"]),
        class_names=("red", "grün", "blue"),
        name="mine",
    )


def test_everything_is_kept(tmp_path: Path) -> None:
    raw = whole()
    graph, report = written(tmp_path, raw)
    assert isinstance(graph.features, np.ndarray)
    assert graph.features.dtype == np.float16
    np.testing.assert_array_equal(graph.features, raw.features)
    np.testing.assert_array_equal(graph.labels, raw.labels)
    assert graph.masks is not None
    assert raw.masks is not None
    for mask, expected in zip(graph.masks, raw.masks, strict=True):
        assert torch.equal(mask, expected)
    assert graph.ids is not None
    assert [graph.ids[node] for node in range(NODES)] == ["a", "bé", "", "d", "long name", "f"]
    assert (graph.class_names, graph.name, graph.task) == (raw.class_names, "mine", "classes")
    assert graph.notes[0] == "a note"
    assert graph.weight is not None
    assert [value for *_, value in entries(graph)] == [2.5, 3.0, 0.5, 1.0, 1.5, 2.0]
    assert report.labels is not None
    assert report.labels.classes == (ClassSize("red", 2), ClassSize("grün", 2), ClassSize("blue", 1))
    assert (report.labels.num_unlabelled, report.edges.weights) == (1, (0.5, 3.0))


def test_nothing_is_copied_when_a_folder_is_opened(tmp_path: Path) -> None:
    graph, _ = written(tmp_path, replace(whole(), weight=None))
    assert isinstance(graph.features, np.memmap)
    assert isinstance(graph.edge_index, Csr)
    assert isinstance(graph.edge_index.col.numpy().base, torch.Tensor)
    single, _ = written(tmp_path, RawGraph(EDGES[:, :5], None, None, None))
    assert isinstance(single.edge_index, Csr)
    assert single.edge_index.value.stride() == (0,)


@pytest.mark.parametrize(
    ("labels", "task", "expected"),
    [
        ([0, 1, 2, -1], None, [0, 1, 2, -1]),
        ([0.0, 1.0, np.nan, 3.0], None, [0, 1, -1, 3]),
        ([[0], [1], [2], [1]], None, [0, 1, 2, 1]),
        ([True, False, True, True], None, [1, 0, 1, 1]),
        ([0.5, 1.0, np.nan, -3.0], None, np.float32([0.5, 1, np.nan, -3])),
        ([0, 1, 2, 300], "regression", np.float32([0, 1, 2, 300])),
        ([[0, 1], [1, 1], [NAN, NAN], [-1, -1]], None, np.float32([[0, 1], [1, 1], [NAN, NAN], [NAN, NAN]])),
        ([[0.5, 1], [1, 1], [NAN, NAN], [2, 3]], None, np.float32([[0.5, 1], [1, 1], [NAN, NAN], [2, 3]])),
    ],
)  # fmt: skip
def test_labels(tmp_path: Path, labels: Any, task: Any, expected: Any) -> None:
    raw = RawGraph(np.zeros((2, 1), dtype=int), None, np.array(labels), None)
    graph, _ = written(tmp_path, raw, ImportConfig(task=task or "auto"))
    np.testing.assert_array_equal(graph.labels, expected)
    is_values = np.asarray(expected).dtype == np.float32 and np.nanmax(expected) > 1
    assert graph.task == ("regression" if is_values or task or 0.5 in np.asarray(labels) else "classes")


@pytest.mark.parametrize(
    ("labels", "task", "message"),
    [
        ([0, 1, 2000, 1], "auto", "labels: 2000 of node 2 can't be a class of a graph with 4 nodes"),
        ([0, -2, 1, 1], "auto", "labels: -2 of node 1 is no class number"),
        ([0, 1, 0.5, 1], "classes", "labels: 0.5 of node 2 is no class number"),
        ([[0, 1], [2, 1], [0, 0], [0, 0]], "auto", "labels: 2 of node 1, column 0 is no 0 or 1"),
        ([1, -1, 1, 1], "auto", "all are -1 or 1"),
        ([0, np.inf, 1, 1], "regression", "inf of node 1 is infinite in float32"),
        (["a", "b", "c", "d"], "auto", "labels: expected numbers"),
    ],
)
def test_labels_that_are_none(tmp_path: Path, labels: Any, task: Any, message: str) -> None:
    raw = RawGraph(np.zeros((2, 1), dtype=int), None, np.array(labels), None)
    with pytest.raises(DataError, match=message):
        written(tmp_path, raw, ImportConfig(task=task))


@pytest.mark.parametrize("sparse", [False, True])
def test_columns_of_features_are_looked_at(tmp_path: Path, sparse: bool) -> None:
    rows = np.array([[1, 0, 2, 0, 5], [1, 0, np.nan, 3, 5], [1, 0, 1, 0, 5], [1, 0, 1, np.inf, 4]])
    features = sp.csr_matrix(rows) if sparse else rows
    graph, report = written(tmp_path, RawGraph(np.zeros((2, 0), dtype=int), features, None, None))
    facts = report.features
    assert facts is not None
    assert (facts.constant, facts.not_finite, facts.sparse) == ((0, 1), (2, 3), sparse)
    assert facts.density == pytest.approx(14 / 20)
    kept = graph.features.toarray() if sparse else graph.features  # type: ignore[union-attr]
    np.testing.assert_array_equal(kept, rows.astype(np.float32))
    assert any("in 2 of 5 columns, first column 2; training refuses them" in note for note in graph.notes)


def test_rounding_is_a_note(tmp_path: Path) -> None:
    raw = RawGraph(EDGES, np.full((NODES, 1), 0.1), None, None, weight=np.full(6, 0.1))
    graph, _ = written(tmp_path, raw)
    assert "features: 6 entries are rounded from float64 to float32" in graph.notes
    assert "weight: 6 weights are rounded to float32" in graph.notes


def test_a_graph_in_memory_is_saved(tmp_path: Path) -> None:
    graph = random_graph(40, 200)
    save_graph(graph, tmp_path / "g")
    raw = open_graph(tmp_path / "g")
    assert entries(raw) == entries(RawGraph(graph.adjacency, None, None, None))
    np.testing.assert_array_equal(raw.features, graph.features)
    np.testing.assert_array_equal(raw.labels, graph.labels)
    assert (raw.num_classes, raw.name) == (graph.num_classes, graph.name)
    with pytest.raises(ConfigError, match=r"out: '.*g' holds a graph already; .* add --overwrite"):
        save_graph(graph, tmp_path / "g")
    save_graph(graph, tmp_path / "g", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["g"]


def test_a_saved_graph_loads_as_it_was(tmp_path: Path) -> None:
    """With a class more than the labels show, as one may be wanted for later."""
    small = random_graph(40, 200)
    graph = replace(small, num_classes=small.num_classes + 1, notes=("a note",), name="mine")
    save_graph(graph, tmp_path / "g")
    again = load_dataset(GraphConfig(graph=str(tmp_path / "g")))
    for name in ("rowptr", "col", "value"):
        assert torch.equal(getattr(again.adjacency, name), getattr(graph.adjacency, name)), name
    for name in ("features", "labels", *MASKS):
        assert torch.equal(getattr(again, name), getattr(graph, name)), name
    for name in ("name", "num_classes", "weighted", "task"):
        assert getattr(again, name) == getattr(graph, name), name
    assert "a note" in again.notes


def test_every_class_has_a_name(tmp_path: Path) -> None:
    raw = replace(whole(), labels=np.array([0, 2, -1, 1, 1, 3]))
    with pytest.raises(DataError, match="labels: 3 of node 5 has no name, as there are 3 names"):
        written(tmp_path, raw)


def test_only_graphs_are_replaced(tmp_path: Path) -> None:
    graph = random_graph(10, 20)
    (tmp_path / "g").mkdir()
    save_graph(graph, tmp_path / "g")  # an empty folder is no loss
    (tmp_path / "g" / "thesis.tex").write_text("")
    with pytest.raises(ConfigError, match=r"not just a graph \('thesis.tex' is no file of one\)"):
        save_graph(graph, tmp_path / "g", overwrite=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is a file; name a folder"):
        save_graph(graph, tmp_path / "file", overwrite=True)
    (tmp_path / "link").symlink_to(tmp_path / "g")
    with pytest.raises(ConfigError, match="is a link"):
        save_graph(graph, tmp_path / "link", overwrite=True)


def test_what_training_refuses_in_a_split_is_said(tmp_path: Path) -> None:
    train, test = (torch.arange(NODES) < size for size in (2, 3))
    graph, _ = written(tmp_path, replace(whole(), masks=(train, torch.zeros(NODES, dtype=torch.bool), test)))
    assert "split: train and test share 2 nodes, which training refuses" in graph.notes
    assert "split: val is empty, which training refuses" in graph.notes


def test_a_graph_that_came_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    """Of two imports to one folder the slower one replaced the other's graph."""
    graph, other = random_graph(10, 20), random_graph(11, 20)

    def step(words: str) -> AbstractContextManager[None]:
        if "labels" in words:
            save_graph(other, tmp_path / "g")
        return nullcontext()

    with pytest.raises(ConfigError, match="holds a graph already"):
        save_graph(graph, tmp_path / "g", step=step)
    assert open_graph(tmp_path / "g").num_nodes == 11
    assert [path.name for path in tmp_path.iterdir()] == ["g"]


def test_leftovers_are_swept(tmp_path: Path) -> None:
    """Those of processes that were killed: nobody holds a lock in them."""
    (tmp_path / "gnnpipe-scratch-dead").mkdir()
    (tmp_path / "gnnpipe-scratch-dead" / "alive").write_text("")
    save_graph(random_graph(10, 20), tmp_path / "g")
    assert [path.name for path in tmp_path.iterdir()] == ["g"]


def test_a_full_disk_is_foreseen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"out: about .* are needed .* has 1 B free; free some"):
        written(tmp_path, whole())


def change(path: Path, **changes: Any) -> None:
    file = path / "graph.yaml"
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), **changes}))


def changed_array(path: Path, name: str, **changes: Any) -> None:
    arrays = yaml.safe_load((path / "graph.yaml").read_text())["arrays"]
    arrays[name] = {**arrays.get(name, arrays["col"]), **changes}
    change(path, arrays=arrays)


def replaced(path: Path, name: str, values: np.ndarray) -> None:
    """Put another array in, with a right checksum."""
    from gnnpipe.files.npy import ArrayWriter

    (path / f"{name}.npy").unlink()
    writer = ArrayWriter(path / f"{name}.npy", values.dtype, values.shape[1:])
    writer.append(values)
    stored = writer.finish()
    changed_array(
        path, name, dtype=stored.dtype, shape=list(stored.shape), bytes=stored.bytes, xxh3=stored.xxh3
    )


def cut(path: Path) -> None:
    os.truncate(path / "col.npy", 130)


def flipped(path: Path) -> None:
    content = bytearray((path / "col.npy").read_bytes())
    content[-1] ^= 1
    (path / "col.npy").write_bytes(content)


def linked(path: Path) -> None:
    (path / "col.npy").rename(path.parent / "col.npy")
    (path / "col.npy").symlink_to(path.parent / "col.npy")


DAMAGE: list[tuple[Callable[[Path], Any], str]] = [
    (lambda p: change(p, format=3, written_by="gnnpipe 9.9"), "has format 3, written by gnnpipe 9.9; .* upg"),
    (lambda p: change(p, num_nodes="many"), "graph.yaml of .* can't be used: num_nodes: 'many' is no whole"),
    (lambda p: change(p, num_nodes=7), r"rowptr has 7 rows; expected 8|has 6 rows; expected 7"),
    (lambda p: changed_array(p, "../../etc/passwd"), "names the array '../../etc/passwd'"),
    (lambda p: changed_array(p, "col", shape=[-1]), r"col is <i4 \[-1\]; expected"),
    (lambda p: changed_array(p, "col", shape=[10**15]), r"has 6 rows; expected 1,000,000,000,000,000"),
    (lambda p: changed_array(p, "col", dtype="|O"), r"col is \|O"),
    (lambda p: (p / "col.npy").unlink(), "col.npy of .* can't be used: No such file"),
    (lambda p: (p / "graph.yaml").unlink(), "holds no graph"),
    (lambda p: (p / "graph.yaml").write_text("a: &a [x]\nb: &b [*a, *a]"), "format is absent"),
    (cut, "it has 130 bytes, and had 152"),
    (flipped, "its checksum is .*, and was"),
    (linked, "it is a link"),
    (lambda p: replaced(p, "col", np.int32([0, 1, 2, 3, 4, 6])), "6 is out of range; expected 0 to 5"),
    (lambda p: replaced(p, "rowptr", np.array([0, 2, 1, 6, 6, 6, 6])), "its starts don't rise from 0"),
    (lambda p: replaced(p, "rowptr", np.array([1, 1, 2, 3, 4, 5, 6])), "its starts don't rise from 0"),
    (lambda p: replaced(p, "rowptr", np.array([0, 1, 2, 3, 4, 5, 5])), "its starts end at 5; expected 6"),
    (lambda p: replaced(p, "weight", np.full(6, np.nan, np.float32)), "an entry is not finite"),
    (lambda p: replaced(p, "val_mask", np.full((6, 2), 7, np.uint8).view(bool)), "is neither 0 nor 1"),
    (lambda p: replaced(p, "ids_start", np.array([0, 1, 3, 4, 5, 14, 15])), "starts inside a letter"),
    (lambda p: replaced(p, "ids", np.arange(6)), "ids are text, with ids_start, or numbers without"),
    (lambda p: change(p, num_classes=10**12), "1,000,000,000,000 classes are out of range"),
    (lambda p: change(p, format=0), "format 0 is none"),
    (lambda p: replaced(p, "ids_start", np.array([0, 1, 2, 3, 4, 5, 99])), "its starts end at 99"),
    (lambda p: replaced(p, "class_names", np.full(12, 255, np.uint8)), "class_names.npy .* can't be used"),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "message"), DAMAGE)
def test_damage_is_named(tmp_path: Path, damage: Callable[[Path], Any], message: str) -> None:
    written(tmp_path, whole())
    damage(tmp_path / "g")
    with pytest.raises(DataError, match=message):
        open_graph(tmp_path / "g")


@pytest.mark.parametrize(
    ("column", "num_features", "message"),
    [
        (3, 3, "feature_col.npy .*: 3 is out of range; expected 0 to 2"),
        (2, 2, "feature_col.npy .*: 2 is out of range; expected 0 to 1"),
        (0, 10**12, "1,000,000,000,000 columns of features are out of range"),
    ],
)
def test_damage_of_sparse_features(tmp_path: Path, column: int, num_features: int, message: str) -> None:
    """SciPy believes indices, and would read beyond an array."""
    written(tmp_path, replace(whole(), features=sp.csr_matrix(np.eye(6, 3))))
    replaced(tmp_path / "g", "feature_col", np.array([0, 1, column], dtype=np.int32))
    report = yaml.safe_load((tmp_path / "g" / "graph.yaml").read_text())["report"]
    report["features"]["num_features"] = num_features
    change(tmp_path / "g", report=report)
    with pytest.raises(DataError, match=message):
        open_graph(tmp_path / "g")


def test_a_bomb_in_graph_yaml(tmp_path: Path) -> None:
    written(tmp_path, whole())
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    (tmp_path / "g" / "graph.yaml").write_text("\n".join(lines))
    with pytest.raises(DataError, match="it holds more than 10,000 values"):
        open_graph(tmp_path / "g")


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.data())
def test_mutated_folders_are_right_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    """An error of ours, or the graph that was written."""
    check_a_mutation(tmp_path, data)


@pytest.mark.slow
@settings(
    max_examples=2000, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.data())
def test_many_mutated_folders_are_right_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    check_a_mutation(tmp_path, data)


def check_a_mutation(tmp_path: Path, data: st.DataObject) -> None:
    sparse = data.draw(st.booleans())
    original = tmp_path / f"original-{sparse}"
    if not original.exists():
        raw = whole()
        written(tmp_path, replace(raw, features=sp.csr_matrix(np.float32(raw.features))) if sparse else raw)
        (tmp_path / "g").rename(original)
    path = tmp_path / "mutant"
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(original, path)
    name = data.draw(st.sampled_from(sorted(file.name for file in path.iterdir())))
    content = bytearray((path / name).read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    kind = data.draw(st.sampled_from(["flip", "cut", "grow", "swap", "line"]))
    if kind == "flip":
        content[at] ^= data.draw(st.integers(1, 255))
    elif kind == "cut":
        del content[at:]
    elif kind == "grow":
        content[at:at] = data.draw(st.binary(min_size=1, max_size=20))
    elif kind == "swap":
        content = bytearray(
            (path / data.draw(st.sampled_from(["col.npy", "graph.yaml", "ids.npy"]))).read_bytes()
        )
    else:
        lines = bytes(content).split(b"\n")
        del lines[data.draw(st.integers(0, len(lines) - 1))]
        content = bytearray(b"\n".join(lines))
    (path / name).write_bytes(content)
    try:
        graph = open_graph(path)
        graph_lines(path)
    except DataError:
        return
    assert entries(graph) == entries(open_graph(original))
    for features in (graph.features, open_graph(original).features):
        rows = features.toarray() if sp.issparse(features) else features
        np.testing.assert_array_equal(rows, whole().features)


def test_statistics_are_printed(tmp_path: Path) -> None:
    written(tmp_path, whole())
    text = "\n".join(graph_lines(tmp_path / "g"))
    for line in (
        "nodes      6; 1 without edges; ids are text",
        "edges      6; directed",
        "duplicates 1, kept",
        "weights    0.5 to 3",
        "labels     3 classes; 1 nodes have none",
        "split      2 splits; the first: ",
        "note: a note",
    ):
        assert line in text
    assert read_graph_file(tmp_path / "g").written_by.startswith("gnnpipe ")
