"""Edges of a graph folder equal what SciPy and torch_geometric make of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.utils import homophily, to_undirected

from gnnpipe.config.importing import Duplicates, ImportConfig, SelfLoops
from gnnpipe.errors import DataError
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.folder.buckets import CAPACITY, sorted_keys, stable_order
from gnnpipe.graph.folder.edges import Keys
from gnnpipe.graph.folder.merge import without_known_reverses
from gnnpipe.graph.folder.read import open_graph
from gnnpipe.graph.folder.report import GraphReport
from gnnpipe.graph.folder.write import write_graph
from gnnpipe.graph.sources.raw import RawGraph

USUAL = ImportConfig()
Entry = tuple[int, int, float]


def written(
    folder: Path, raw: RawGraph, config: ImportConfig = USUAL, capacity: int = CAPACITY
) -> tuple[RawGraph, GraphReport]:
    """The graph as it is read back, and its report."""
    with TemporaryDirectory(dir=folder) as scratch:
        report = write_graph(
            raw, folder / "g", replace(config, overwrite=True), Path(scratch), capacity=capacity
        )
    return open_graph(folder / "g"), report


def entries(raw: RawGraph) -> list[Entry]:
    """Target, source and value of each entry, in order."""
    csr = raw.edge_index
    assert isinstance(csr, Csr)
    target = torch.repeat_interleave(torch.arange(csr.num_rows), csr.rowptr.to(torch.int64).diff())
    return list(zip(target.tolist(), csr.col.tolist(), csr.value.tolist(), strict=True))


def expected(
    edges: list[Entry], duplicates: Duplicates, self_loops: SelfLoops, *, weighted: bool, undirected: bool
) -> tuple[list[Entry], bool]:
    """The entries by plain dictionaries, and whether they are weights.

    Args:
        edges: source, target, weight.
        duplicates, self_loops, weighted, undirected: the options.
    """
    if self_loops == "drop":
        edges = [edge for edge in edges if edge[0] != edge[1]]
    ways = {(source, target) for source, target, _ in edges}
    if undirected:
        edges = edges + [(t, s, w) for s, t, w in edges if (t, s) not in ways]
    runs: dict[tuple[int, int], list[float]] = {}
    for source, target, weight in edges:
        runs.setdefault((target, source), []).append(weight)
    rows: list[Entry] = []
    for (target, source), weights in sorted(runs.items()):
        if weighted:
            kept = {"keep": weights, "sum": [sum(weights)], "drop": weights[:1]}[duplicates]
        else:
            once = duplicates == "drop" or (undirected and duplicates == "keep")
            kept = [1.0 if once else float(len(weights))]
        rows += [(target, source, weight) for weight in kept]
    repeats = len(rows) > len(runs)
    if weighted:
        weights_matter = bool(rows) and (repeats or any(weight != 1 for *_, weight in rows))
    else:
        weights_matter = duplicates == "sum" and any(weight != 1 for *_, weight in rows)
    return rows, weights_matter


nodes = st.integers(0, 6)
# hubs: most edges lead to node 0
edge_lists = st.lists(st.tuples(nodes, st.one_of(st.just(0), nodes), st.integers(-3, 8)), max_size=40)


@settings(max_examples=150)
@given(
    edge_lists,
    st.sampled_from(["keep", "sum", "drop"]),
    st.sampled_from(["keep", "drop"]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([1, 2, 3, 7, 1000]),
)
def test_any_edges_under_any_options(
    tmp_path_factory: pytest.TempPathFactory,
    edges: list[tuple[int, int, int]],
    duplicates: Duplicates,
    self_loops: SelfLoops,
    weighted: bool,
    undirected: bool,
    capacity: int,
) -> None:
    folder = tmp_path_factory.mktemp("edges")
    source, target, weight = (np.array([edge[i] for edge in edges], dtype=np.int64) for i in range(3))
    raw = RawGraph(
        np.stack([source, target]), None, None, None, weight=weight if weighted else None, num_nodes=7
    )
    config = ImportConfig(duplicates=duplicates, self_loops=self_loops, undirected=undirected)
    graph, report = written(folder, raw, config, capacity)
    given_edges = [(s, t, float(w)) for s, t, w in edges]
    rows, is_weighted = expected(
        given_edges, duplicates, self_loops, weighted=weighted, undirected=undirected
    )
    assert entries(graph) == rows
    assert (graph.weight is not None) == is_weighted
    pairs = {row[:2] for row in rows}
    assert report.edges.directed == any(pair[::-1] not in pairs for pair in pairs)
    assert report.edges.num_loops == sum(s == t for s, t, _ in given_edges)
    ends = {end for pair in pairs if pair[0] != pair[1] for end in pair}
    assert report.edges.num_isolated == 7 - len(ends)
    assert sum(report.edges.histogram) == 7
    assert report.edges.num_edges == len(rows)


def test_reverses_as_torch_geometric_adds_them(tmp_path: Path) -> None:
    edge_index = torch.randint(50, (2, 300), generator=torch.Generator().manual_seed(0))
    graph, _ = written(tmp_path, RawGraph(edge_index, None, None, None), ImportConfig(undirected=True), 20)
    both = to_undirected(edge_index)
    pairs = sorted(zip(both[1].tolist(), both[0].tolist(), strict=True))
    assert entries(graph) == [(*pair, 1.0) for pair in pairs]


def test_homophily_as_torch_geometric_counts_it(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    edge_index = torch.randint(50, (2, 300), generator=generator).unique(dim=1)
    labels = torch.randint(3, (50,), generator=generator)
    _, report = written(tmp_path, RawGraph(edge_index, None, labels, None))
    assert report.edges.homophily == pytest.approx(homophily(edge_index, labels, method="edge"))


def test_a_graph_is_written_again_as_it_is(tmp_path: Path) -> None:
    """Also from the adjacency of a folder, which counts parallel edges."""
    edge_index = np.random.default_rng(0).integers(0, 9, (2, 200))
    first, _ = written(tmp_path, RawGraph(edge_index, None, None, None))
    rows = entries(first)
    assert max(value for *_, value in rows) > 1
    (tmp_path / "again").mkdir()
    again, report = written(tmp_path / "again", first, capacity=11)
    assert entries(again) == rows
    assert report.edges.num_given == 200


@pytest.mark.parametrize("weighted", [False, True])
def test_keys_are_sorted_whatever_their_skew(tmp_path: Path, weighted: bool) -> None:
    """A hub has more edges than a bucket, and one edge occurs more often than a bucket holds."""
    rng = np.random.default_rng(0)
    hub = (5 << 20) | rng.integers(0, 1 << 20, 3000)
    key = np.concatenate([rng.integers(0, 1 << 40, 2000), hub, np.full(500, 7)])
    rng.shuffle(key)
    weight = np.arange(len(key)) if weighted else None

    def stream() -> Iterator[Keys]:
        for part in (slice(0, 1000), slice(1000, None)):
            yield Keys(key[part], None if weight is None else weight[part])

    blocks = list(sorted_keys(stream, 1 << 40, tmp_path, capacity=64))
    order = np.argsort(key, kind="stable")
    np.testing.assert_array_equal(np.concatenate([block.key for block in blocks]), key[order])
    if weighted:
        np.testing.assert_array_equal(np.concatenate([block.weight for block in blocks]), order)
    assert not list(tmp_path.iterdir())


@given(st.lists(st.integers(0, 5), max_size=30))
def test_equal_keys_keep_their_order(keys: list[int]) -> None:
    key = np.array(keys, dtype=np.int64)
    np.testing.assert_array_equal(stable_order(key), np.argsort(key, kind="stable"))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1))), st.integers(1, 5))
def test_reverses_give_way_to_edges(pairs: list[tuple[int, int]], size: int) -> None:
    key = np.array(sorted(edge << 1 | added for edge, added in pairs), dtype=np.int64)
    blocks = [Keys(key[at : at + size], None) for at in range(0, len(key), size)]
    kept = [int(edge) for block in without_known_reverses(blocks) for edge in block.key]
    own = {edge for edge, added in pairs if not added}
    assert kept == sorted(edge for edge, added in pairs if not added or edge not in own)


@pytest.mark.parametrize(
    ("edge_index", "parts", "message"),
    [
        ([[0, 1], [1, 5]], {}, r"the target of edge 1 .* is node 5, but there are 3 nodes \(0 to 2\)"),
        ([[0, -1], [1, 1]], {}, "the source of edge 1 .* is node -1"),
        ([[0.5, 1], [1, 1]], {}, "edge_index: 0.5 is no whole number"),
        ([0, 1], {}, r"expected shape \[2, num_edges\], got \[2\]"),
        ([[0], [1]], {"weight": np.array([np.nan])}, "weight: that of edge 0 .* is nan"),
        ([[0], [1]], {"weight": np.array([1e39])}, r"is 1e\+39, which is not finite in float32"),
        ([[0], [1]], {"weight": np.ones(2)}, r"weight: expected one for each of 1 edges, got \[2\]"),
        ([[0], [1]], {"num_nodes": 4}, "labels: there are 3 nodes, and 4 by num_nodes"),
        ([[0], [1]], {"labels": np.zeros(0)}, "it has no nodes"),
    ],
)
def test_what_is_wrong_is_named(
    tmp_path: Path, edge_index: list[Any], parts: dict[str, Any], message: str
) -> None:
    raw = replace(RawGraph(np.array(edge_index), None, np.zeros(3), None), **parts)
    with pytest.raises(DataError, match=message):
        written(tmp_path, raw)
    assert not list(tmp_path.iterdir())


def test_sums_beyond_float32_are_refused(tmp_path: Path) -> None:
    raw = RawGraph(np.zeros((2, 2), dtype=int), None, None, None, weight=np.full(2, 3e38))
    with pytest.raises(DataError, match="add up to more than float32 holds"):
        written(tmp_path, raw, ImportConfig(duplicates="sum"))


def test_degrees_are_counted(tmp_path: Path) -> None:
    # node 0 has 9 incoming edges, node 1 two, node 2 one, the others none
    target = np.array([0] * 9 + [1, 1, 2])
    source = np.array([*range(1, 10), 3, 4, 5])
    _, report = written(tmp_path, RawGraph(np.stack([source, target]), None, None, None))
    assert report.edges.in_degree == (0, 0, 0, 1, 9, 9)
    assert report.edges.histogram == (7, 1, 1, 0, 1)
