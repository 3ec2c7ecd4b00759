"""Predictions for another graph, whose edges must have what the model has learnt to read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import gnnpipe
from gnnpipe.errors import DataError
from gnnpipe.graph.data import Graph
from tests.graphs import random_graph
from tests.run.answers.runs import in_this_process, made_run


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    return in_this_process(monkeypatch)


def with_edges(edge_dim: int = 2, num_types: int = 3, *, seed: int = 0, shuffled: bool = False) -> Graph:
    """A directed graph whose edges have features and types, in any order."""
    generator = torch.Generator().manual_seed(seed)
    nodes = random_graph(30, 0)
    order = torch.randperm(90, generator=generator) if shuffled else torch.arange(90)
    generator.manual_seed(seed + 1)
    edge_index = torch.randint(30, (2, 90), generator=generator)
    attr, types = torch.rand(90, 8, generator=generator), torch.arange(90) % max(num_types, 1)
    return Graph.from_edge_index(
        edge_index[:, order],
        nodes.features,
        nodes.labels,
        (nodes.train_mask, nodes.val_mask, nodes.test_mask),
        edge_attr=attr[order, :edge_dim] if edge_dim else None,
        edge_type=types[order] if num_types else None,
        num_classes=3,
    )


def test_edges_in_another_order_predict_the_same(tmp_path: Path) -> None:
    data = with_edges()
    run = gnnpipe.open(made_run(tmp_path / "run", data, model="mesh", chunks=3).path)
    wanted = run.predict(data).logits
    found = run.predict(with_edges(shuffled=True)).logits
    assert wanted is not None
    assert found is not None
    torch.testing.assert_close(torch.from_numpy(found), torch.from_numpy(wanted))
    assert data.edge_attr is not None
    changed = run.predict(replace(data, edge_attr=data.edge_attr + 1)).logits
    assert changed is not None
    assert abs(changed - wanted).max() > 0.01


def test_other_features_or_types_of_edges_are_refused(tmp_path: Path) -> None:
    folder = made_run(tmp_path / "run", with_edges(), model="mesh")
    for edge_dim in (0, 3):
        with pytest.raises(
            DataError,
            match=rf"edge_attr: edges of 'graph' have {edge_dim} features, and '.*run' was trained on 2",
        ):
            gnnpipe.predict(folder.path, with_edges(edge_dim))
    with pytest.raises(DataError, match=r"edge_type: edges of 'graph' have no types, and '.*run' was"):
        gnnpipe.predict(folder.path, with_edges(num_types=0))
    with pytest.raises(DataError, match="edge_type: 4 is no type that is known; there are 3, from 0 on"):
        gnnpipe.predict(folder.path, with_edges(num_types=5))


def test_a_model_that_reads_none_takes_any(tmp_path: Path) -> None:
    folder = made_run(tmp_path / "run", with_edges(), model="sage")
    wanted = gnnpipe.predict(folder.path, with_edges(0, 0)).logits
    found = gnnpipe.predict(folder.path, with_edges(3, 5)).logits
    assert wanted is not None
    assert found is not None
    torch.testing.assert_close(torch.from_numpy(found), torch.from_numpy(wanted))


def test_types_are_numbered_as_the_runs_own(tmp_path: Path) -> None:
    """By name; an added self loop has the next number, also where the last types don't occur."""
    own = replace(with_edges(), edge_type_names=("a", "b", "c"))
    other = replace(with_edges(num_types=2), edge_type_names=("c", "a"))
    found = other.with_edge_types(own.edge_type_names)
    assert other.edge_type is not None
    assert torch.equal(found.edge_type, torch.tensor([2, 0])[other.edge_type])  # type: ignore[arg-type]
    assert found.num_edge_types == 3
    folder = made_run(tmp_path / "run", own, model="mesh")
    assert folder.stored_plan().graph.edge_type_names == ("a", "b", "c")
    with pytest.raises(DataError, match="edge_type: 'd' is no type that is known; these are: a, b, c"):
        gnnpipe.predict(folder.path, replace(other, edge_type_names=("c", "d")))
