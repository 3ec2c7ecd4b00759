"""A graph from a folder is the one that the arrays make, and trains like it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gnnpipe
from gnnpipe.config.importing import ImportConfig
from gnnpipe.graph.folder.write import write_graph
from gnnpipe.graph.sources.raw import RawGraph
from gnnpipe.graph.splits import random_split
from tests.graphs import dense

SETTINGS: dict[str, Any] = {
    "layers": 2, "hidden": 8, "epochs": 2, "threads": 1, "chunks": 1, "checkpoint_every": 0,
}  # fmt: skip


def content(kind: str) -> RawGraph:
    rng = np.random.default_rng(0)
    edges, features = rng.integers(0, 50, (2, 300)), rng.normal(size=(50, 4)).astype(np.float32)
    labels: Any = rng.integers(0, 3, 50)
    masks = None
    weight = rng.uniform(0.1, 2, 300).astype(np.float32) if kind == "weighted" else None
    if kind == "values":
        labels = rng.normal(size=50).astype(np.float32) * 100
        labels[::7] = np.nan
    if kind == "several values":
        labels = rng.normal(size=(50, 3)).astype(np.float32)
    if kind == "whole values":
        labels = np.arange(50, dtype=np.float32)
    if kind == "several labels":
        labels = rng.integers(0, 2, (50, 3))
    if kind == "halves":
        features = features.astype(np.float16)
    if kind == "hidden":
        masks = random_split(50, 0)
        labels[masks[2].numpy()] = -1
    return RawGraph(edges, features, labels, masks, weight=weight)


@pytest.mark.parametrize(
    "kind",
    ["plain", "weighted", "values", "several values", "whole values", "several labels", "halves", "hidden"],
)
@pytest.mark.parametrize("undirected", [False, True])
def test_it_is_the_graph_of_the_arrays(kind: str, undirected: bool, tmp_path: Path) -> None:
    raw = content(kind)
    task = "regression" if "values" in kind else "auto"
    folder, scratch = tmp_path / "folder", tmp_path / "scratch"
    scratch.mkdir()
    write_graph(raw, folder, ImportConfig(task=task), scratch)
    loaded = gnnpipe.load(folder, undirected=undirected)
    made = gnnpipe.Graph.from_edge_index(
        raw.edge_index,
        raw.features,
        raw.labels,
        raw.masks,
        weight=raw.weight,
        undirected=undirected,
        task=task,
    )
    assert (loaded.task, loaded.num_classes, loaded.weighted) == (made.task, made.num_classes, made.weighted)
    for field in ("rowptr", "col", "value"):
        assert torch.equal(getattr(loaded.adjacency, field), getattr(made.adjacency, field)), field
    features, expected = loaded.features, made.features
    assert isinstance(features, torch.Tensor)
    assert isinstance(expected, torch.Tensor)
    assert torch.equal(features, expected)
    assert features.dtype == (torch.float16 if kind == "halves" else torch.float32)
    torch.testing.assert_close(loaded.labels, made.labels, rtol=0, atol=0, equal_nan=True)
    for name, mask in made.masks.items():
        assert torch.equal(loaded.masks[name], mask), name


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "values", "halves", "hidden"])
def test_it_trains_alike(kind: str, tmp_path: Path) -> None:
    raw = content(kind)
    folder, scratch = tmp_path / "folder", tmp_path / "scratch"
    scratch.mkdir()
    write_graph(raw, folder, ImportConfig(), scratch)
    made = gnnpipe.Graph.from_edge_index(raw.edge_index, raw.features, raw.labels, raw.masks)
    runs = [
        gnnpipe.train(data, out=tmp_path / str(index), **SETTINGS)
        for index, data in enumerate((folder, made))
    ]
    losses = [[record["loss"] for record in run.records()] for run in runs]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("spec", ["degree", "laplacian:3"])
def test_features_may_be_made_at_import_or_later(spec: str, tmp_path: Path) -> None:
    raw = replace(content("plain"), features=None, num_nodes=50)
    (tmp_path / "scratch").mkdir()
    write_graph(raw, tmp_path / "with", ImportConfig(features=spec), tmp_path / "scratch")
    write_graph(raw, tmp_path / "without", ImportConfig(), tmp_path / "scratch")
    at_import, later = gnnpipe.load(tmp_path / "with"), gnnpipe.load(tmp_path / "without", features=spec)
    assert isinstance(at_import.features, torch.Tensor)
    assert isinstance(later.features, torch.Tensor)
    assert torch.equal(at_import.features, later.features)
    assert torch.equal(dense(at_import.adjacency), dense(later.adjacency))
