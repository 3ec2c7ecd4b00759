"""An exported module computes what the engine does, on the graph as it was before training."""

from __future__ import annotations

import itertools
import json
import tempfile
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch_geometric.data import Data

import gnnpipe
from gnnpipe.config.run import Model
from gnnpipe.export.architectures import CODE, moved
from gnnpipe.export.options import CONVOLUTIONS
from gnnpipe.graph.csr import Csr
from gnnpipe.nn.dropout import Dropout, dropout_key
from gnnpipe.nn.models import MODELS
from tests import reference
from tests.engine.test_exact import MODELS as NAMES
from tests.export import reference as graphs
from tests.export.runs import Made, drawn, given, in_double, made_run, predicted
from tests.harness import train

CLOSE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5}


def expected(made: Made, data: Data) -> Tensor:
    """The formula of each model in float64, from edges and features as they were given."""
    config, spec = made.run.config, made.case.spec
    edges = graphs.edges_of(data.edge_index, data.edge_weight)
    edges = graphs.with_reverse(edges) if config.undirected else edges
    A = graphs.adjacency(edges, data.num_nodes, mean=spec.normalization == "mean")
    x = graphs.degrees(edges, data.num_nodes) if config.features == "degree" else data.x.double()
    x = graphs.normalized(x) if config.normalize_features else x
    x = graphs.standardized(x) if config.standardize_features else x
    return reference.model(made.case, in_double(made.weights), A, x, None)


def features_of(module: nn.Module, made: Made, data: Data) -> Tensor:
    """The features that a user gives: those of the graph, or those that the exported file makes."""
    if made.run.config.features is None:
        return data.x
    make = type(module).forward.__globals__["degree_features"]
    x: Tensor = make(data.edge_index, data.num_nodes, data.edge_weight)
    return x


def assert_right(made: Made, data: Data) -> None:
    """Equal to the engine's evaluation, and to the formula."""
    module = made.run.to_pyg()
    found = predicted(module, given(data, features_of(module, made, data)))
    torch.testing.assert_close(found, made.logits, **CLOSE)
    torch.testing.assert_close(found.double(), expected(made, data), **CLOSE)


def test_every_model_is_written() -> None:
    assert CONVOLUTIONS.keys() == MODELS.keys()
    for name in MODELS:
        assert CONVOLUTIONS[name].normalizes == (MODELS[name].normalization == "gcn")
        assert name not in CODE or CODE[name].normalizes == CONVOLUTIONS[name].normalizes


@pytest.mark.parametrize("model", NAMES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("sparse", [False, True])
def test_models(model: Model, weighted: bool, sparse: bool, tmp_path: Path) -> None:
    data = drawn(weighted=weighted, sparse=sparse)
    made = made_run(tmp_path / "run", data, model=model)
    assert isinstance(made.case.data.features, Csr) == sparse
    assert made.case.data.weighted == weighted
    assert made.logits.std() > 0.05  # rows that are all alike would show nothing
    assert_right(made, data)


OPTIONS: dict[str, dict[str, Any]] = {
    "undirected": {"undirected": True},
    "everything": {"undirected": True, "features": "degree", "standardize_features": True},
    "degree": {"features": "degree"},
    "normalize": {"normalize_features": True},
    "standardize": {"standardize_features": True},
    "one layer": {"layers": 1},
}


@pytest.mark.parametrize("model", NAMES)
@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("weighted", [False, True])
def test_options(model: Model, option: str, weighted: bool, tmp_path: Path) -> None:
    data = drawn(1, weighted=weighted)
    data.x[:, 2] = 0.1  # a constant column
    assert_right(made_run(tmp_path / "run", data, model=model, **OPTIONS[option]), data)


@pytest.mark.parametrize(("alpha", "theta"), [(0.0, 0.5), (1.0, 1.5), (0.25, 0.0)])
def test_constants_of_gcnii(alpha: float, theta: float, tmp_path: Path) -> None:
    data = drawn()
    made = made_run(tmp_path / "run", data, model="gcnii", gcnii={"alpha": alpha, "theta": theta})
    assert_right(made, data)


SCALINGS: list[dict[str, Any]] = [
    {"normalize_features": True},
    {"standardize_features": True},
    {"features": "degree", "undirected": True},
    {"features": "degree", "standardize_features": True},
]


@pytest.mark.parametrize("changes", SCALINGS, ids=str)
def test_another_graph_is_scaled_as_the_one_trained_on(changes: dict[str, Any], tmp_path: Path) -> None:
    """Rows of a part of the graph do not change; with degrees, another graph's are scaled alike."""
    data = drawn()
    data.x[:, 2] = 0.1
    made = made_run(tmp_path / "run", data, model="gcn", **changes)
    module = made.run.to_pyg()
    x = features_of(module, made, data)
    if "features" in changes:
        # nodes 0 to 20 alone: the last three have no edges
        part: Tensor = type(module).forward.__globals__["degree_features"](data.edge_index, 21)
        torch.testing.assert_close(part, x[:21])
    found = predicted(module, (x[:21], data.edge_index))
    torch.testing.assert_close(found, made.logits[:21], **CLOSE)


@pytest.mark.parametrize("changes", SCALINGS, ids=str)
def test_runs_that_did_not_keep_the_numbers(changes: dict[str, Any], tmp_path: Path) -> None:
    """Older versions did not: features are scaled by the numbers of the graph that is given."""
    data = drawn()
    data.x[:, 2] = 0.1
    made = made_run(tmp_path / "run", data, model="gcn", **changes)
    plan = tmp_path / "run" / "plan.json"
    content = json.loads(plan.read_text())
    del content["graph"]["scaling"], content["graph"]["weighted"]
    plan.write_text(json.dumps(content))
    assert_right(made, data)
    features = json.loads((made.run.export(tmp_path / "out") / "model.json").read_text())["features"]
    assert features["scaled_by"] == "the graph that is given"


@pytest.mark.parametrize("scaling", ["normalize_features", "standardize_features"])
def test_scaling_of_sparse_features(scaling: str, tmp_path: Path) -> None:
    data = drawn(sparse=True)
    assert_right(made_run(tmp_path / "run", data, model="gcn", **{scaling: True}), data)


def test_eigenvectors_are_made_by_gnnpipe(tmp_path: Path) -> None:
    data = drawn()
    made = made_run(tmp_path / "run", data, features="laplacian:3")
    module = made.run.to_pyg()
    x = gnnpipe.Graph.from_pyg(data, features="laplacian:3").features
    assert isinstance(x, Tensor)
    torch.testing.assert_close(predicted(module, given(data, x)), made.logits, **CLOSE)
    words = " ".join((type(module).forward.__doc__ or "").split())
    assert 'features="laplacian:3").features`` makes again' in words


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("model", NAMES)
def test_tensors_of_a_graph_folder(model: Model, weighted: bool, tmp_path: Path) -> None:
    """The lines in docs/export.md."""
    data = drawn(weighted=weighted)
    made = made_run(tmp_path / "run", data, model=model)
    gnnpipe.Graph.from_pyg(data).save(tmp_path / "graph")
    page = (Path(__file__).parents[2] / "docs" / "export.md").read_text()
    lines = page[page.index("    graph = gnnpipe.load(") :].partition("\n\n")[0]
    found: dict[str, Any] = {"gnnpipe": gnnpipe, "numpy": np, "torch": torch}
    exec(textwrap.dedent(lines.replace("graphs/mine", str(tmp_path / "graph"))), found)
    arguments = (found["x"], found["edge_index"], found["edge_weight"])
    torch.testing.assert_close(predicted(made.run.to_pyg(), arguments), made.logits, **CLOSE)


@pytest.mark.parametrize("model", NAMES)
def test_values_come_in_their_own_units(model: Model, tmp_path: Path) -> None:
    y = 1000 + 300 * torch.randn(24, 2, generator=torch.Generator().manual_seed(1))
    data = drawn(y=y)
    made = made_run(tmp_path / "run", data, model=model)
    module = made.run.to_pyg()
    known = y[data.train_mask].double()
    values = known.mean(dim=0) + known.std(dim=0, correction=0) * expected(made, data)
    found = predicted(module, given(data))
    torch.testing.assert_close(found.double(), values, rtol=1e-5, atol=1e-5 * 300)
    torch.testing.assert_close((found - module.value_mean) / module.value_deviation, made.logits, **CLOSE)
    assert "in the units of the labels" in (type(module).forward.__doc__ or "")


def test_several_labels_a_node(tmp_path: Path) -> None:
    y = (torch.rand(24, 4, generator=torch.Generator().manual_seed(1)) > 0.5).float()
    data = drawn(y=y)
    made = made_run(tmp_path / "run", data, model="sage")
    assert_right(made, data)
    assert "sigmoid makes probabilities" in (made.run.to_pyg().forward.__doc__ or "")


@pytest.mark.parametrize("model", NAMES)
def test_deep_models_are_a_loop(model: Model, tmp_path: Path) -> None:
    """128 layers take as many lines as 4."""
    data, lines = drawn(), []
    for layers in (4, 128):
        made = made_run(tmp_path / f"{layers}", data, model=model, layers=layers, drawn_biases=False)
        assert_right(made, data)
        lines.append(len((made.run.export(tmp_path / f"x{layers}") / "model.py").read_text().splitlines()))
    assert lines[0] == lines[1]


@pytest.mark.parametrize("model", NAMES)
@pytest.mark.parametrize("weighted", [False, True])
def test_it_trains_on_as_the_engine_does(
    model: Model, weighted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Same gradients with dropout where the engine drops, here by its masks."""
    data = drawn(weighted=weighted)
    made = made_run(tmp_path / "run", data, model=model, drawn_biases=False)
    module, numbers = made.run.to_pyg().train(), itertools.count()

    def dropout(rows: Tensor, p: float, training: bool) -> Tensor:
        assert training
        return Dropout(p, dropout_key(0, 0, next(numbers)), torch.arange(24))(rows)

    monkeypatch.setattr(F, "dropout", dropout)
    logits = module(*given(data))
    F.cross_entropy(logits[data.train_mask], data.y[data.train_mask]).backward()
    ours = moved(CODE[model], train(made.case).gradients[0])
    found = {name: weight.grad for name, weight in module.named_parameters()}
    assert found.keys() == ours.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, ours[name], msg=lambda m, n=name: f"{n}: {m}")
        assert gradient is not None
        assert gradient.abs().max() > 0, name


def test_gradients_of_values(tmp_path: Path) -> None:
    """gnnpipe's loss is in units of the deviation."""
    data = drawn(y=1000 + 300 * torch.randn(24, generator=torch.Generator().manual_seed(1)))
    made = made_run(tmp_path / "run", data, model="gcnii", dropout=0.0, drawn_biases=False)
    module = made.run.to_pyg().train()
    off = (module(*given(data)) - data.y[:, None]) / module.value_deviation
    off[data.train_mask].square().mean().backward()
    for name, gradient in moved(CODE["gcnii"], train(made.case).gradients[0]).items():
        torch.testing.assert_close(module.get_parameter(name).grad, gradient)


@st.composite
def graph_and_options(draw: st.DrawFn) -> tuple[Data, dict[str, Any]]:
    size = draw(st.integers(3, 9))
    node = st.integers(0, size - 1)
    edges = draw(st.lists(st.tuples(node, node), max_size=20))
    model = draw(st.sampled_from(NAMES))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    data = Data(
        x=torch.randn(size, draw(st.integers(1, 12)), generator=generator),
        edge_index=torch.tensor(edges, dtype=torch.int64).view(-1, 2).T.contiguous(),
        y=torch.arange(size) % 3,
        train_mask=torch.arange(size) == 0,
        val_mask=torch.arange(size) == 1,
        test_mask=torch.arange(size) == 2,
    )
    if draw(st.booleans()):
        numbers = (0.0, 1.0, 0.5, 2.25) if model != "sage" else (0.0, 1.0, -0.5, 2.25)
        weights = draw(st.lists(st.sampled_from(numbers), min_size=len(edges), max_size=len(edges)))
        data.edge_weight = torch.tensor(weights)
    scaling = draw(st.sampled_from([None, "normalize_features", "standardize_features"]))
    options = {
        "model": model,
        "layers": draw(st.integers(1, 3)),
        "hidden": draw(st.integers(1, 9)),
        "undirected": draw(st.booleans()),
        "features": draw(st.sampled_from([None, "degree"])),
        "gcnii": {
            "alpha": draw(st.sampled_from([0.0, 0.1, 1.0])),
            "theta": draw(st.sampled_from([0.0, 0.5])),
        },
    }
    return data, options | ({scaling: True} if scaling else {})


def assert_any(asked: tuple[Data, dict[str, Any]]) -> None:
    """In float64 as the formula says; in float32 no farther from the engine than rounding takes that from it.

    LayerNorm of a few columns that are nearly equal makes rounding a hundred times as large.
    """
    data, options = asked
    with tempfile.TemporaryDirectory() as folder:
        made = made_run(Path(folder) / "run", data, **options)
        module = made.run.to_pyg()
        arguments, formula = given(data, features_of(module, made, data)), expected(made, data)
        rounding = float((made.logits - formula).abs().max())
        found = predicted(module, arguments)
        torch.testing.assert_close(found, made.logits, rtol=1e-5, atol=1e-5 + 4 * rounding)
        assert rounding < 1e-3
        exact = predicted(
            module.double(), tuple(of.double() if of.is_floating_point() else of for of in arguments)
        )
        torch.testing.assert_close(exact, formula, rtol=1e-5, atol=1e-6)


@settings(max_examples=15)
@for_all(graph_and_options())
def test_any_graph_and_options(asked: tuple[Data, dict[str, Any]]) -> None:
    assert_any(asked)


@pytest.mark.slow
@settings(max_examples=200)
@for_all(graph_and_options())
def test_many_graphs_and_options(asked: tuple[Data, dict[str, Any]]) -> None:
    assert_any(asked)
