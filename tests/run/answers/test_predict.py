"""Predictions and hidden rows of one rank; several are compared with the same reference elsewhere."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Data

import gnnpipe
from gnnpipe.config.run import Model
from gnnpipe.errors import ConfigError, DataError, PlanError, TrainingError
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.data import Graph
from gnnpipe.graph.ids import NodeIds
from gnnpipe.graph.splits import random_split
from gnnpipe.nn.models import ModelSpec
from gnnpipe.run.answers.questions import hidden_layer
from tests.graphs import dense, random_graph
from tests.run.answers.runs import MODELS, directed, expected, in_this_process, made_run


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    return in_this_process(monkeypatch)


def near(found: np.ndarray | None, wanted: torch.Tensor) -> None:
    assert found is not None
    torch.testing.assert_close(torch.from_numpy(found), wanted)


@pytest.mark.parametrize("model", MODELS)
def test_every_row_is_the_models_formula(model: Model, tmp_path: Path) -> None:
    """On a weighted, directed graph with isolated nodes, cut into chunks and so renumbered."""
    data = directed()
    folder = made_run(tmp_path / "run", data, model=model, chunks=3)
    run = gnnpipe.open(folder.path)
    logits, hidden = expected(folder, data)
    found = run.predict(data)
    near(found.logits, logits)
    near(found.probabilities, logits.softmax(dim=1))
    assert found.classes is not None
    assert torch.equal(torch.from_numpy(found.classes), logits.argmax(dim=1))
    assert (found.values, found.names.tolist()) == (None, list(range(40)))
    first = 1 if model in ("gcn", "sage") else 0
    assert len(hidden) == 3 + 2 * (1 - first)
    for index, rows in enumerate(hidden):
        by_number, from_behind = run.embed(first + index, data), run.embed(index - len(hidden), data)
        near(by_number.rows, rows)
        assert np.array_equal(by_number.rows, from_behind.rows)
        assert by_number.layer == from_behind.layer == first + index
    assert np.array_equal(run.embed(data=data).rows, by_number.rows)


@pytest.mark.parametrize("model", MODELS)
def test_a_graph_of_twice_the_nodes_needs_no_labels(model: Model, tmp_path: Path) -> None:
    small, large = directed(), directed(80, seed=5)
    folder = made_run(tmp_path / "run", small, model=model, chunks=2)
    logits, _ = expected(folder, large)
    entries = large.adjacency.to_scipy().tocoo()
    edge_index = torch.from_numpy(np.stack([entries.col, entries.row]).astype(np.int64))
    weight = torch.from_numpy(entries.data)
    as_data = Data(x=large.features, edge_index=edge_index, edge_weight=weight)
    as_graph = Graph.from_edge_index(edge_index, large.features, None, weight=weight)
    large.save(tmp_path / "folder")
    for given_graph in (as_data, as_graph, large, tmp_path / "folder"):
        near(gnnpipe.predict(folder.path, given_graph).logits, logits)
    with pytest.raises(DataError, match="labels: the graph has none; to train, give"):
        gnnpipe.train(as_graph)


def test_a_graph_smaller_than_the_plan(tmp_path: Path) -> None:
    folder = made_run(tmp_path / "run", directed(), model="gcn", chunks=8)
    tiny = Graph.from_edge_index([[0], [1]], torch.eye(2, 6), None)
    near(gnnpipe.predict(folder.path, tiny).logits, expected(folder, tiny)[0])
    with pytest.raises(PlanError, match="3 parts of a graph of 2 nodes"):
        gnnpipe.predict(folder.path, tiny, parts=3)


def scaled_like(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """The second features with the mean and deviation of the first; the last column is constant there."""
    deviation = first.std(dim=0, correction=0)
    return torch.where(deviation > 1e-6, (second - first.mean(dim=0)) / deviation.clamp(min=1e-6), 0.0)


def with_features(data: Graph, features: torch.Tensor) -> Graph:
    return replace(data, features=features)


def test_another_graph_is_standardised_as_the_runs_own_was(tmp_path: Path) -> None:
    own, other = directed(), directed(60, seed=2)
    first, second = own.features * 7 + 3, other.features * 2 - 5  # type: ignore[operator]
    first[:, 5] = 4.0
    folder = made_run(tmp_path / "run", with_features(own, first), model="sage", standardize_features=True)
    found = gnnpipe.predict(folder.path, with_features(other, second))
    near(found.logits, expected(folder, other, scaled_like(first, second))[0])
    again = gnnpipe.predict(folder.path, with_features(own, first))
    near(again.logits, expected(folder, own, scaled_like(first, first))[0])


@pytest.mark.parametrize("sparse", [False, True])
def test_another_graph_is_normalised_as_the_runs_own_was(tmp_path: Path, sparse: bool) -> None:
    own, other = (directed(nodes, seed, sparse_features=sparse) for nodes, seed in ((40, 0), (60, 2)))
    first, second = (
        dense(data.features) if isinstance(data.features, Csr) else data.features for data in (own, other)
    )
    folder = made_run(tmp_path / "run", own, model="gcn", normalize_features=True)
    shifted = second - first.min()
    read = shifted / shifted.sum(dim=1, keepdim=True).clamp(min=1)
    assert first.min() != second.min()
    near(gnnpipe.predict(folder.path, other).logits, expected(folder, other, read)[0])


def test_degrees_of_another_graph_are_scaled_as_the_runs_own_were(tmp_path: Path) -> None:
    own, other = directed(), directed(60, seed=2)

    def degrees(data: Graph) -> torch.Tensor:
        edges = data.adjacency.to_scipy() != 0
        return torch.from_numpy(np.log1p(np.stack([edges.sum(1).A1, edges.sum(0).A1], axis=1)))

    folder = made_run(tmp_path / "run", own, model="gcn", features="degree")
    read = scaled_like(degrees(own), degrees(other)).float()
    near(gnnpipe.predict(folder.path, other).logits, expected(folder, other, read)[0])
    # a graph whose degrees are the same both ways still has both columns
    entries = other.adjacency.to_scipy()
    both = Graph.from_scipy(entries + entries.T, other.features, None, rows="targets")
    read = scaled_like(degrees(own), degrees(both)).float()
    near(gnnpipe.predict(folder.path, both).logits, expected(folder, both, read)[0])


def test_degrees_of_a_directed_graph_do_not_fit_those_of_an_undirected_one(tmp_path: Path) -> None:
    folder = made_run(tmp_path / "run", random_graph(30, 60, undirected=True), features="degree")
    with pytest.raises(DataError, match=r"makes 2 columns of this graph, .* and made 1 of an undirected one"):
        gnnpipe.predict(folder.path, random_graph(30, 60))


def test_weights_that_only_one_graph_has_are_warned_of(tmp_path: Path, caplog: Any) -> None:
    weighted, plain = directed(), random_graph(40, 90)
    for data, other, message in (
        (weighted, plain, "has none, and '.*' was trained with weights; each edge weighs 1 now"),
        (plain, weighted, "has weights, and '.*' was trained without; they are used now"),
    ):
        folder = made_run(tmp_path / f"run-{data.weighted}", data, model="gcn")
        gnnpipe.predict(folder.path, data)
        assert not caplog.text
        gnnpipe.predict(folder.path, other)
        assert re.search(message, caplog.text)
        caplog.clear()


def test_eigenvectors_of_another_graph_are_warned_of(tmp_path: Path, caplog: Any) -> None:
    folder = made_run(tmp_path / "run", random_graph(30, 60), features="laplacian:4")
    with caplog.at_level(logging.WARNING):
        gnnpipe.predict(folder.path, random_graph(50, 100))
    assert "eigenvectors of another graph's Laplacian" in caplog.text


def test_edges_are_treated_as_the_runs_own_were(tmp_path: Path) -> None:
    edges, features = torch.tensor([[0, 1, 2, 4], [1, 2, 0, 3]]), torch.randn(30, 6)
    whole = Graph.from_edge_index(edges, features, None, undirected=True)
    labelled = Data(x=features, edge_index=edges, y=torch.arange(30) % 3)
    folder = made_run(tmp_path / "run", labelled, model="gcn", undirected=True)
    logits, _ = expected(folder, whole)
    one_way = Graph.from_edge_index(edges, features, None)
    for data in (labelled, one_way, whole):
        near(gnnpipe.predict(folder.path, data).logits, logits)


def test_a_run_that_does_not_hold_its_scaling_says_so(tmp_path: Path) -> None:
    data = directed()
    folder = made_run(tmp_path / "run", data, standardize_features=True)
    plan = folder.read("plan.json")
    del plan["graph"]["scaling"]
    (folder.path / "plan.json").write_text(__import__("json").dumps(plan))
    with pytest.raises(DataError, match=r"standardize-features: .* an older version wrote it; go on with it"):
        gnnpipe.predict(folder.path, data)


def test_several_labels_a_node(tmp_path: Path) -> None:
    data = directed(multilabel=True)
    folder = made_run(tmp_path / "run", data, model="resgcn")
    logits, _ = expected(folder, data)
    found = gnnpipe.predict(folder.path, data)
    assert found.task == "multilabel"
    near(found.probabilities, logits.sigmoid())
    near(found.classes, logits > 0)


def test_values_are_in_their_own_units(tmp_path: Path) -> None:
    data = directed(num_values=2)
    folder = made_run(tmp_path / "run", data, model="gcnii")
    logits, _ = expected(folder, data)
    trained = data.labels[data.train_mask].double()
    found = gnnpipe.predict(folder.path, data)
    near(found.logits, logits)
    near(found.values, trained.mean(dim=0) + trained.std(dim=0, correction=0) * logits.double())
    assert (found.probabilities, found.classes) == (None, None)


def test_another_number_of_features_is_refused(tmp_path: Path) -> None:
    folder = made_run(tmp_path / "run", directed())
    other = directed(num_features=9)
    with pytest.raises(
        DataError, match=r"features: 'graph' has 9, and '.*run' was trained on 6; give each node"
    ):
        gnnpipe.predict(folder.path, other)
    with pytest.raises(DataError, match="has none; give each node those that the run was trained on"):
        gnnpipe.predict(folder.path, Data(edge_index=torch.tensor([[0], [1]]), num_nodes=2))


def test_an_unfinished_run_predicts_with_its_best_weights_so_far(tmp_path: Path, caplog: Any) -> None:
    data = directed()
    folder = made_run(tmp_path / "run", data, finished=False)
    with caplog.at_level(logging.WARNING):
        near(gnnpipe.predict(folder.path, data).logits, expected(folder, data)[0])
    assert "is not finished: these are its best weights so far, of epoch 2 (validation 0.7543)" in caplog.text
    (folder.path / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match="has no weights yet"):
        gnnpipe.predict(folder.path, data)


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    data = directed()
    folder = made_run(tmp_path / "run", data, model="gcn")
    weights = load_file(folder.path / "model.safetensors")
    damaged = [
        (
            {**weights, "layers.1.weight": torch.zeros(8, 9)},
            r"layers.1.weight should have the shape \[8, 8\]",
        ),
        ({name: weights[name] for name in weights if name != "layers.2.bias"}, "layers.2.bias .* is absent"),
        ({**weights, "more": torch.zeros(1)}, "more is no weight of gcn with 4 layers"),
        ({f"more.{number}": torch.zeros(1) for number in range(4)}, "it has no weights of layers.0"),
        ({"more": torch.zeros(1)}, "number of weights: 1 for 4 layers"),
    ]
    for content, message in damaged:
        save_file(content, folder.path / "model.safetensors")
        with pytest.raises(DataError, match=message):
            gnnpipe.predict(folder.path, data)
    config = (folder.path / "config.yaml").read_text()
    (folder.path / "config.yaml").write_text(config.replace("hidden: 8\n", "hidden: 100000000\n"))
    save_file(weights, folder.path / "model.safetensors")
    with pytest.raises(DataError, match=r"layers.0.bias should have the shape .100000000., and is of"):
        gnnpipe.predict(folder.path, data)
    (folder.path / "model.safetensors").write_bytes(b"x" * 50)
    with pytest.raises(DataError, match=r"model.safetensors' is damaged"):
        gnnpipe.predict(folder.path, data)


def test_numbers_that_are_not_finite_are_no_answer(tmp_path: Path) -> None:
    data = directed()
    folder = made_run(tmp_path / "run", data, model="gcn")
    features = data.features.clone()  # type: ignore[union-attr]
    features[37] = 3e38
    with pytest.raises(TrainingError, match="numbers of node 37 are not finite"):
        gnnpipe.predict(folder.path, with_features(data, features))


def test_a_graph_in_memory_is_given_again(tmp_path: Path) -> None:
    data = directed()
    folder = made_run(tmp_path / "run", data)
    # unless this process has trained on it
    near(gnnpipe.Run(folder.path, data).predict().logits, expected(folder, data)[0])
    with pytest.raises(ConfigError, match="was trained on a graph in memory; give that, or another one"):
        gnnpipe.predict(folder.path)


@pytest.mark.parametrize("inside", ["data", "../run/data"])
def test_a_run_of_somebody_else_names_no_folder_of_its_own(inside: str, tmp_path: Path) -> None:
    folder = made_run(tmp_path / "run", directed(), model="gcn")
    place = folder.path / inside
    config = (folder.path / "config.yaml").read_text().replace("dataset: in-memory\n", "dataset: Cora\n")
    (folder.path / "config.yaml").write_text(config.replace("root: null\n", f"root: {place}\n"))
    with pytest.raises(ConfigError, match=r"root: .* lies in .*, whose files may be somebody else's; give"):
        gnnpipe.predict(folder.path)
    graph = config.replace("dataset: Cora\n", "").replace("graph: null\n", f"graph: {place}\n")
    directed().save(folder.path / "data")
    (folder.path / "config.yaml").write_text(graph)
    with pytest.raises(ConfigError, match=r"graph: .* lies in .*, whose files may be somebody else's; give"):
        gnnpipe.predict(folder.path)
    assert gnnpipe.predict(folder.path, place).logits.shape == (40, 3)  # the user trusts it


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(0, 39), max_size=60))
def test_rows_of_some_nodes_are_those_of_all(folder_and_data: Any, nodes: list[int]) -> None:
    folder, data, whole = folder_and_data
    found = gnnpipe.predict(folder.path, data, nodes=np.array(nodes, dtype=np.int64))
    assert np.array_equal(found.logits, whole[nodes])
    assert found.nodes.tolist() == nodes


@pytest.fixture(scope="module")
def folder_and_data(tmp_path_factory: pytest.TempPathFactory) -> Any:
    data = directed()
    folder = made_run(tmp_path_factory.mktemp("run") / "run", data, model="gcn", layers=2, chunks=3)
    with pytest.MonkeyPatch.context() as patch:
        in_this_process(patch)
        return folder, data, gnnpipe.predict(folder.path, data).logits


def test_nodes_of_a_split(tmp_path: Path) -> None:
    data = directed()
    folder = made_run(tmp_path / "run", data, model="gcn")
    whole = gnnpipe.predict(folder.path, data)
    for split, mask in data.masks.items():
        found = gnnpipe.predict(folder.path, data, nodes=split)
        assert found.nodes.tolist() == mask.nonzero().flatten().tolist()
        assert np.array_equal(found.logits, whole.logits[mask.numpy()])
    unlabelled = Data(x=data.features, edge_index=torch.zeros(2, 0, dtype=torch.long))
    # a Data has its splits if the run was trained on it
    labelled = Data(x=data.features, edge_index=torch.zeros(2, 0, dtype=torch.long), y=data.labels)
    own = made_run(tmp_path / "own", labelled, model="gcn", split=3)
    wanted = random_split(40, seed=3)[2].nonzero().flatten().tolist()
    assert gnnpipe.predict(own.path, labelled, nodes="test").nodes.tolist() == wanted
    for other in (
        unlabelled,
        Data(x=data.features, edge_index=torch.zeros(2, 1, dtype=torch.long), y=data.labels),
    ):
        with pytest.raises(ConfigError, match="nodes: 'test' has no nodes in 'in-memory'"):
            gnnpipe.predict(own.path, other, nodes="test")
    with pytest.raises(ConfigError, match="nodes: 'test' has no nodes in 'in-memory'"):
        gnnpipe.predict(folder.path, unlabelled, nodes="test")
    with pytest.raises(ConfigError, match=r"nodes: 40 is none of 40 nodes \(0 to 39\)"):
        gnnpipe.predict(folder.path, data, nodes=[3, 40])
    with pytest.raises(ConfigError, match=r"nodes: float64 \[1\] can't be used; expected numbers of nodes"):
        gnnpipe.predict(folder.path, data, nodes=[0.5])
    with pytest.raises(ConfigError, match=r"nodes: bool \[39\] can't be used; .* a mask of 40 nodes"):
        gnnpipe.predict(folder.path, data, nodes=data.test_mask[:-1])
    assert gnnpipe.predict(folder.path, data, nodes=data.test_mask).nodes.tolist() == found.nodes.tolist()
    assert gnnpipe.predict(folder.path, data, nodes=[]).logits.shape == (0, 3)
    with pytest.raises(ConfigError, match="nodes: 'tests' is not known"):
        gnnpipe.predict(folder.path, data, nodes="tests")


def test_ids_of_the_files_come_along(tmp_path: Path) -> None:
    data = replace(directed(), ids=NodeIds.of_text([f"node {index}" for index in range(40)]))
    folder = made_run(tmp_path / "run", data, model="gcn")
    assert gnnpipe.predict(folder.path, data, nodes=[7, 3]).names.tolist() == ["node 7", "node 3"]


def test_test_nodes_with_hidden_labels_are_predicted(tmp_path: Path) -> None:
    """Some of them, or all; also those of a folder that a Graph was saved to."""
    plain = directed()
    edges = plain.adjacency.to_scipy().tocoo()
    for num_hidden in (3, int(plain.test_mask.sum())):
        labels, asked = plain.labels.clone(), plain.test_mask.nonzero().flatten()
        labels[asked[:num_hidden]] = -1
        data = gnnpipe.Graph.from_edge_index(
            np.stack([edges.col, edges.row]), plain.features, labels, tuple(plain.masks.values())
        )
        data.save(tmp_path / f"graph-{num_hidden}")
        folder = made_run(tmp_path / f"run-{num_hidden}", data, model="gcn")
        for of in (data, gnnpipe.load(tmp_path / f"graph-{num_hidden}")):
            assert gnnpipe.predict(folder.path, of, nodes="test").nodes.tolist() == asked.tolist()


def test_answers_are_saved_where_a_text_says(tmp_path: Path) -> None:
    data = directed()
    found = gnnpipe.predict(made_run(tmp_path / "run", data, model="gcn").path, data)
    assert repr(found) == "Predictions(40 nodes, 3 classes)"
    for path in (str(tmp_path / "a.npz"), tmp_path / "b.npz"):
        found.save(path)
        with np.load(path) as file:
            assert np.array_equal(file["logits"], found.logits)
    for name, message in (("a.txt", "its ending says the format"), ("no/a.csv", "does not exist")):
        with pytest.raises(ConfigError, match=message):
            found.save(str(tmp_path / name))


def test_large_rows_are_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = directed()
    folder = made_run(tmp_path / "run", data, model="gcn")
    whole = gnnpipe.predict(folder.path, data)
    monkeypatch.setattr("gnnpipe.files.spool.LARGEST_IN_MEMORY", 0)
    mapped = gnnpipe.predict(folder.path, data)
    base: Any = mapped.logits
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)
    assert np.array_equal(mapped.logits, whole.logits)
    assert np.array_equal(mapped.probabilities, whole.probabilities)  # type: ignore[arg-type]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("layers", [1, 2, 5])
def test_hidden_layers_are_counted_by_convolutions(model: Model, layers: int) -> None:
    spec = ModelSpec(model, layers, 8, 6, 3)
    first, last = (1, layers - 1) if model in ("gcn", "sage") else (0, layers)
    numbers = list(range(first, last + 1))
    if not numbers:
        with pytest.raises(ConfigError, match=r"embed: (gcn|sage) with one layer has no hidden rows"):
            hidden_layer(spec, -1)
        return
    for place, number in enumerate(numbers):
        assert hidden_layer(spec, number) == (number, place)
        assert hidden_layer(spec, place - len(numbers)) == (number, place)
    for outside in ([0] if first else []) + [last + 1, -len(numbers) - 1]:
        with pytest.raises(
            ConfigError, match=rf"after {first} to {last} convolutions \(or -{len(numbers)} to -1, counted"
        ):
            hidden_layer(spec, outside)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda run: run.embed(1.5), "layer: '1.5' can't be used"),
        (lambda run: run.predict(embed=1), "embed: hidden rows come from the method embed"),
        (lambda run: run.predict(stage=2), "stage is not known; did you mean 'stages'"),
        (lambda run: run.predict(out="x.txt"), "out: 'x.txt' can't be used; its ending says the format"),
        (lambda run: run.predict(out="no/x.csv"), "out: the folder of 'no/x.csv' does not exist"),
        (lambda run: run.predict("Cora", graph="x"), "graph: data names the graph already"),
        (lambda run: run.predict(graph="x", dataset="Cora"), "dataset: Cora is another graph than --graph"),
        (lambda run: run.predict(graph="nowhere"), "nowhere' is no graph folder"),
        (lambda run: run.predict(directed(), stages=5), "5 stages can't share 4 layers"),
        (lambda run: gnnpipe.predict(3), "run: '3' can't be used"),
        (lambda run: gnnpipe.predict("nowhere"), "run: 'nowhere' is no run"),
    ],
)
def test_what_can_not_be_asked(call: Any, message: str, tmp_path: Path) -> None:
    folder = made_run(tmp_path / "run", directed(), model="gcn")
    run = gnnpipe.open(folder.path)
    with pytest.raises(ValueError, match=message):
        call(run)


def test_hosts_and_processes_that_do_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = directed()
    folder = made_run(tmp_path / "run", data, model="gcn")
    for key, value in (("RANK", "0"), ("WORLD_SIZE", "2"), ("LOCAL_WORLD_SIZE", "1")):
        monkeypatch.setenv(key, value)
    with pytest.raises(PlanError, match="= 1 ranks, but 2 processes were started"):
        gnnpipe.predict(folder.path, data)
    with pytest.raises(ConfigError, match="predict: 1 of 2 processes are on this host"):
        gnnpipe.predict(folder.path, data, stages=2)
