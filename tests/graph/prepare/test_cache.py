"""The cache of prepared graphs: what its keys depend on, and what it takes from a file."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from gnnpipe.config.run import GraphConfig, SyntheticConfig
from gnnpipe.errors import ConfigError
from gnnpipe.files.store import Label
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.cut.chunks import CutSpec
from gnnpipe.graph.data import Graph
from gnnpipe.graph.ids import NodeIds
from gnnpipe.graph.prepare import cache as cache_module
from gnnpipe.graph.prepare.cache import Cache, Recipe, key_of, opened
from gnnpipe.graph.prepare.fingerprint import (
    fingerprint,
    folder_fingerprint,
    known_fingerprint,
    task_fingerprint,
)
from gnnpipe.graph.prepare.prepared import PreparedGraph, prepare
from gnnpipe.graph.prepare.stored import check_prepared
from gnnpipe.graph.scaled_features import FeatureScaling
from tests.graphs import random_graph

RECIPE = Recipe(CutSpec(2, 3, 4.0), "gcn", 2)
PLAIN = random_graph(30, 90, seed=1)
WITH_EDGES = replace(
    PLAIN,
    edge_attr=torch.rand(PLAIN.num_edges, 2, generator=torch.Generator().manual_seed(0)),
    edge_type=torch.arange(PLAIN.num_edges) % 3,
    adjacency=PLAIN.adjacency.with_value(torch.ones(PLAIN.num_edges)),
)
GRAPHS = [PLAIN, random_graph(30, 90, seed=1, sparse_features=True, multilabel=True), WITH_EDGES]


def changed(value: Any, where: int, field: str) -> Any:
    """A value with one thing changed; where an array is, that is one number, its type or its shape."""
    if isinstance(value, Csr):
        part = ("rowptr", "col", "value")[where % 3]
        return replace(value, **{part: changed(getattr(value, part), where // 3, field)})
    if isinstance(value, torch.Tensor):
        if where % 7 == 0:
            return value.to(torch.float64)
        if where % 7 == 1:
            return value.unsqueeze(0)
        value = value.clone()
        flat = value.view(-1)
        flat[where % len(flat)] = (
            ~flat[where % len(flat)] if value.dtype == torch.bool else flat[where % len(flat)] + 1
        )
        return value
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, tuple):
        return (*value, "one more")
    if isinstance(value, FeatureScaling):
        return replace(value, least=float(where))
    assert value is None, field
    return NodeIds(np.arange(30))


@given(
    st.sampled_from(GRAPHS), st.sampled_from([field.name for field in fields(Graph)]), st.integers(0, 10_000)
)
def test_any_change_of_a_graph_changes_its_fingerprint(graph: Graph, field: str, where: int) -> None:
    other = copy.copy(graph)
    value = changed(getattr(graph, field), where, field)
    # NaN marks nodes without a label: adding 1 changes nothing
    if isinstance(value, torch.Tensor) and torch.equal(
        value.nan_to_num(-9.0), getattr(graph, field).nan_to_num(-9.0)
    ):
        return
    object.__setattr__(other, field, value)
    assert fingerprint(other) != fingerprint(graph)


def test_a_task_is_known_by_what_its_edges_have() -> None:
    """A graph whose edges have nothing has the hash that earlier versions wrote into plan.json."""
    edge_index = torch.tensor([[0, 1, 2, 3, 4], [1, 2, 3, 4, 5]])
    masks = [torch.arange(6) % 3 == index for index in range(3)]
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    graph = Graph.from_edge_index(edge_index, torch.ones(6, 2), labels, (masks[0], masks[1], masks[2]))
    assert task_fingerprint(graph) == "416f9269b0fde9f418df638463287aaa"
    found = {task_fingerprint(graph), task_fingerprint(replace(graph, edge_attr=torch.ones(5, 1)))}
    found |= {task_fingerprint(replace(graph, edge_type=types)) for types in torch.eye(5).long()}
    assert len(found) == 7


def test_equal_graphs_have_equal_fingerprints(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever their numbers lie: in rows or columns, in one piece or in several, written out or expanded."""
    graph = random_graph(30, 90, seed=1)
    graph.adjacency.value_as(torch.bfloat16)  # what products keep beside a matrix is not content
    before = fingerprint(graph)
    assert before == fingerprint(random_graph(30, 90, seed=1))
    columns = graph.features.t().contiguous().t()  # type: ignore[union-attr]
    assert fingerprint(replace(graph, features=columns)) == before
    monkeypatch.setattr("gnnpipe.graph.prepare.fingerprint.BLOCK_BYTES", 64)
    assert fingerprint(graph) == before
    ones = replace(graph, adjacency=graph.adjacency.with_value(torch.ones(1).expand(graph.num_edges)))
    written = replace(graph, adjacency=graph.adjacency.with_value(torch.ones(graph.num_edges)))
    assert fingerprint(ones) == fingerprint(written)


def other_values(item: Any) -> Iterator[Any]:
    """Copies of a dataclass with one field changed, also in those that it holds."""
    for field in fields(item):
        value = getattr(item, field.name)
        if hasattr(value, "__dataclass_fields__"):
            for inner in other_values(value):
                yield replace(item, **{field.name: inner})
        else:
            other = not value if isinstance(value, bool) else value + ("x" if isinstance(value, str) else 1)
            yield replace(item, **{field.name: other})


def test_any_other_ingredient_changes_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {key_of("prepared graph", "graph", asdict(RECIPE))}
    variants = list(other_values(RECIPE))
    assert len(variants) == 8
    keys |= {key_of("prepared graph", "graph", asdict(recipe)) for recipe in variants}
    keys |= {key_of("plan", "graph", asdict(RECIPE)), key_of("prepared graph", "other", asdict(RECIPE))}
    for name in ("gnnpipe", *cache_module.CUTTERS):
        known = cache_module.software()
        monkeypatch.setattr(cache_module, "software", lambda known=known, name=name: {**known, name: "99"})
        keys.add(key_of("prepared graph", "graph", asdict(RECIPE)))
        monkeypatch.undo()
    monkeypatch.setattr(cache_module, "FORMAT", 99)
    keys.add(key_of("prepared graph", "graph", asdict(RECIPE)))
    assert len(keys) == 1 + 8 + 2 + 1 + len(cache_module.CUTTERS) + 1


def test_the_built_in_graph_is_known_by_its_settings() -> None:
    config = GraphConfig()
    known = known_fingerprint(config)
    assert known is not None
    found = {known()}
    for other in (replace(config, split=1), replace(config, synthetic=SyntheticConfig(seed=1))):
        again = known_fingerprint(other)
        assert again is not None
        found.add(again())
    assert len(found) == 3
    elsewhere = known_fingerprint(replace(config, root="elsewhere", metric="f1"))
    assert elsewhere is not None
    assert elsewhere() in found
    assert known_fingerprint(GraphConfig(dataset="Cora")) is None


def test_a_graph_folder_is_known_by_its_checksums(tmp_path: Path) -> None:
    (tmp_path / "graph.yaml").write_text("edges.npy: 1a2b")
    first = folder_fingerprint(tmp_path, {"split": 0})
    assert folder_fingerprint(tmp_path, {"split": 1}) != first
    (tmp_path / "graph.yaml").write_text("edges.npy: 1a2c")
    assert folder_fingerprint(tmp_path, {"split": 0}) != first


@contextmanager
def a_cache(folder: Path, lines: list[str]) -> Iterator[Cache]:
    with opened(str(folder), lambda _: nullcontext(), lines.append) as cache:
        assert cache is not None
        yield cache


def prepared(
    folder: Path, lines: list[str], graph: Graph = GRAPHS[0], recipe: Recipe = RECIPE
) -> PreparedGraph:
    def make(path: Path) -> None:
        prepare(graph, recipe.cut, recipe.normalization, recipe.num_rivals).save(path)

    with a_cache(folder, lines) as cache:
        path = cache.prepared(fingerprint(graph), graph.name, recipe, make)
        assert path is not None
        return PreparedGraph.load(path)


def test_what_is_found_is_what_was_made(tmp_path: Path) -> None:
    lines: list[str] = []
    first, second = prepared(tmp_path, lines), prepared(tmp_path, lines)
    assert lines[0].startswith(f"cached in '{tmp_path}': ")
    assert lines[1].startswith(f"prepared graph from the cache '{tmp_path}': ")
    assert "made on 20" in lines[1]
    assert second.facts == first.facts
    assert torch.equal(second.matrix.value, first.matrix.value)
    assert torch.equal(second.node_id, first.node_id)
    prepared(tmp_path, lines, GRAPHS[1])
    prepared(tmp_path, lines, recipe=replace(RECIPE, normalization="mean"))
    assert [line.startswith("cached") for line in lines] == [True, False, True, True]


@dataclass(frozen=True)
class Answer:
    number: int
    words: tuple[str, ...] = ()


def test_answers_are_remembered(tmp_path: Path) -> None:
    made: list[int] = []

    def answer() -> Answer:
        made.append(1)
        return Answer(len(made), ("a", "b"))

    label = Label("answer", "graph", "")
    for _ in range(3):
        with a_cache(tmp_path, []) as cache:
            assert cache.remember("graph", label, {"a": 1}, Answer, answer) == Answer(1, ("a", "b"))
    with a_cache(tmp_path, []) as cache:
        assert cache.remember("graph", label, {"a": 2}, Answer, answer) == Answer(2, ("a", "b"))


def test_a_folder_that_can_not_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"cache: can't use '.*file' .*or leave out --cache"):
        prepared(tmp_path / "file", [])


def hostile(tensors: dict[str, torch.Tensor], facts: dict[str, Any], where: int) -> None:
    """Change one thing that products would trust."""
    changes = [
        lambda: tensors["matrix.col"].__setitem__(3, 10**6),
        lambda: tensors["matrix.col"].__setitem__(3, -1),
        lambda: tensors["matrix.rowptr"].__setitem__(2, 10**6),
        lambda: tensors["matrix.rowptr"].__setitem__(-1, 0),
        lambda: tensors.update({"matrix.value": tensors["matrix.value"][:-1].clone()}),
        lambda: tensors["halo_forward"].__setitem__(0, 30),
        lambda: tensors["node_id"].__setitem__(0, 30),
        lambda: tensors.pop("labels"),
        lambda: tensors.update({"features": tensors["features"][:, :-1].clone()}),
        lambda: facts.update({"num_nodes": 31}),
        lambda: facts.update({"part_nodes": "x"}),
        lambda: facts.update({"num_edges": "many"}),
        lambda: facts.update({"range_stops": [5, 3, 9, 10, 20, 30]}),
        lambda: facts.pop("name"),
        lambda: facts.update({"surprise": 1}),
    ]
    changes[where]()


@pytest.mark.parametrize("where", range(15))
def test_a_file_of_somebody_else_is_checked(where: int, tmp_path: Path) -> None:
    path = tmp_path / "graph"
    prepare(GRAPHS[0], RECIPE.cut, "gcn").save(path)
    check_prepared(path)
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        facts = json.loads(file.metadata()["facts"])
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    hostile(tensors, facts, where)
    save_file(tensors, path, {"facts": json.dumps(facts)})
    with pytest.raises(ValueError, match=r"its|it holds|part_nodes|num_edges"):
        check_prepared(path)
