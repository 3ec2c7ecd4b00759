"""Features and types of edges go through a graph folder with their edges, and what can't is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnpipe.config.importing import Duplicates, ImportConfig
from gnnpipe.errors import ConfigError, DataError
from gnnpipe.graph.choices import Choices
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.data import Graph
from gnnpipe.graph.folder.read import open_graph
from gnnpipe.graph.sources.raw import RawGraph
from tests.graph.folder.test_edges import written
from tests.graph.folder.test_folder import replaced
from tests.graphs import random_graph

number = st.integers(0, 6)
# hubs: most edges lead to node 0; each edge has a row of its own, so that rows can be told apart
edge_lists = st.lists(st.tuples(number, st.one_of(st.just(0), number), st.integers(1, 8)), max_size=40)


def source_of(edges: list[tuple[int, int, int]], *, weighted: bool, **fields: Any) -> RawGraph:
    """Edge k has the features (k, -k) and the type k."""
    table = np.array(edges, dtype=np.int64).reshape(-1, 3)
    row = np.arange(len(edges))
    given: dict[str, Any] = {"edge_attr": np.stack([row, -row], 1).astype(np.float32), "edge_type": row}
    weight = table[:, 2] if weighted else None
    return RawGraph(table[:, :2].T, None, None, None, weight=weight, num_nodes=7, **(given | fields))


def rows_of(raw: RawGraph) -> list[tuple[int, int, float, int]]:
    """Target, source, weight and number of each entry, in order; features and types agree."""
    csr = raw.edge_index
    assert isinstance(csr, Csr)
    target = torch.repeat_interleave(torch.arange(csr.num_rows), csr.rowptr.to(torch.int64).diff())
    assert raw.edge_type is not None
    assert raw.edge_attr is not None
    assert np.array_equal(raw.edge_attr, np.stack([raw.edge_type, -np.asarray(raw.edge_type)], 1))
    assert raw.edge_attr.dtype == np.float32
    columns = (target.tolist(), csr.col.tolist(), csr.value.tolist(), np.asarray(raw.edge_type).tolist())
    return list(zip(*columns, strict=True))


@settings(max_examples=60)
@given(
    edge_lists.filter(bool),
    st.sampled_from(["keep", "drop"]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from([1, 3, 7, 1000]),
)
def test_rows_stay_with_their_edge(
    tmp_path_factory: pytest.TempPathFactory,
    edges: list[tuple[int, int, int]],
    duplicates: Duplicates,
    weighted: bool,
    undirected: bool,
    drop_loops: bool,
    capacity: int,
) -> None:
    config = ImportConfig(
        duplicates=duplicates, undirected=undirected, self_loops="drop" if drop_loops else "keep"
    )
    raw, report = written(
        tmp_path_factory.mktemp("edges"), source_of(edges, weighted=weighted), config, capacity
    )
    kept = [
        (target, source, float(weight) if weighted else 1.0, row)
        for row, (source, target, weight) in enumerate(edges)
        if source != target or not drop_loops
    ]
    if undirected:
        pairs = {edge[:2] for edge in kept}
        kept += [(s, t, *rest) for t, s, *rest in kept if (s, t) not in pairs]  # type: ignore[misc]
    kept.sort(key=lambda edge: edge[:2])  # stable: parallel edges keep their order
    if duplicates == "drop":
        kept = [edge for at, edge in enumerate(kept) if edge[:2] not in {other[:2] for other in kept[:at]}]
    if not kept:
        assert raw.edge_attr is None
        return
    assert rows_of(raw) == kept
    assert (report.edges.edge_dim, report.edges.num_types) == (2, max(edge[3] for edge in kept) + 1)


def test_a_folder_holds_the_graph_that_memory_would(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    nodes = random_graph(40, 0)
    given = {
        "edge_attr": torch.rand(200, 3, generator=generator),
        "edge_type": torch.randint(3, (200,), generator=generator),
    }
    edge_index = torch.randint(40, (2, 200), generator=generator)
    masks = (nodes.train_mask, nodes.val_mask, nodes.test_mask)
    for weight in (None, torch.rand(200, generator=generator)):
        for undirected in (False, True):
            graph = Graph.from_edge_index(
                edge_index, nodes.features, nodes.labels, masks, weight=weight, undirected=undirected, **given
            )
            graph.save(tmp_path / "saved", overwrite=True)
            saved = opened(tmp_path / "saved")
            source = RawGraph(edge_index, nodes.features, nodes.labels, masks, weight=weight, **given)
            raw, _ = written(tmp_path, source, ImportConfig(undirected=undirected))
            for again in (saved, Graph.from_raw(raw, "g", Choices())):
                assert_same_edges(again, graph)
            # a folder that is read may be given reverses as well
            raw, _ = written(tmp_path, source)
            if undirected:
                assert_same_edges(Graph.from_raw(raw, "g", Choices(undirected=True)), graph)


def opened(folder: Path) -> Graph:
    return Graph.from_raw(open_graph(folder), "g", Choices())


def assert_same_edges(one: Graph, other: Graph) -> None:
    for name in ("rowptr", "col", "value"):
        assert torch.equal(getattr(one.adjacency, name), getattr(other.adjacency, name))
    assert one.weighted == other.weighted
    for name in ("edge_attr", "edge_type"):
        assert torch.equal(getattr(one, name), getattr(other, name))


def test_names_of_types_are_kept(tmp_path: Path) -> None:
    source = source_of([(0, 1, 1), (1, 2, 1)], weighted=False, edge_type_names=("cites", "wrote"))
    raw, _ = written(tmp_path, source)
    assert raw.edge_type_names == ("cites", "wrote")


def test_what_changes_is_noted(tmp_path: Path) -> None:
    edges = [(0, 1, 2), (0, 1, 3), (1, 0, 1), (2, 1, 1)]
    source = source_of(edges, weighted=True, edge_attr=np.full(4, 0.1))
    raw, _ = written(tmp_path, source, ImportConfig(undirected=True))
    assert [note for note in raw.notes if "edge" in note.split(":")[0]] == [
        "edge_attr: 4 entries are rounded to float32",
        "edges: the reverse of each is added, with its weight and features and type, unless there is "
        "an edge the other way already",
        "edges: 1 of 4 repeat others; each stays an edge of its own",
    ]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"edge_attr": np.ones((3, 2))}, r"edge_attr: expected \[2, edge_dim\].*got \[3, 2\]"),
        ({"edge_attr": np.ones((2, 0))}, r"edge_attr: expected \[2, edge_dim\]"),
        ({"edge_attr": np.array([["a"], ["b"]])}, "edge_attr: it holds <U1; real numbers"),
        ({"edge_attr": np.array([[1.0, 2], [3, 1e300]])}, "edge_attr: column 1 of edge 1 .* is 1e.300"),
        ({"edge_type": np.zeros((2, 2))}, r"edge_type: expected \[2\].*got \[2, 2\]"),
        ({"edge_type": np.array([0, -1])}, "edge_type: that of edge 1 .* is -1; number the types from 0"),
        ({"edge_type": np.array([0.5, 1])}, "edge_type: 0.5 is no whole number"),
    ],
)
def test_what_can_not_be_used_is_named(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        written(tmp_path, source_of([(0, 1, 1), (1, 2, 1)], weighted=False, **fields))


def test_features_are_not_added_up(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"duplicates: .sum. adds up weights.*use keep or drop"):
        written(tmp_path, source_of([(0, 1, 1)], weighted=True), ImportConfig(duplicates="sum"))


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("edge_attr", np.full((2, 2), np.nan, np.float32), "an entry is not finite"),
        ("edge_attr", np.zeros((3, 2), np.float32), "edge_attr has 3 rows; expected 2"),
        ("edge_type", np.array([0, -1]), "-1 is out of range"),
        ("edge_type", np.zeros(2, np.float32), "edge_type is <f4"),
    ],
)
def test_damage_is_named(tmp_path: Path, name: str, values: np.ndarray, message: str) -> None:
    written(tmp_path, source_of([(0, 1, 1), (1, 2, 1)], weighted=False))
    replaced(tmp_path / "g", name, values)
    with pytest.raises(DataError, match=message):
        opened(tmp_path / "g")
