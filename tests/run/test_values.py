"""Runs that predict values, and runs without test labels, under several plans."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor
from torch_geometric.data import Data

import gnnpipe
from gnnpipe.cli.main import main
from gnnpipe.errors import DataError
from gnnpipe.graph.cut.chunks import CutSpec
from gnnpipe.graph.prepare.prepared import prepare, prepare_file
from gnnpipe.nn.models import ModelSpec, build_stack
from gnnpipe.records.folder import RunFolder
from gnnpipe.report.show import show
from tests.graphs import dense
from tests.pyg import edges, leaves, pyg_logits

LR, EPOCHS = 0.05, 6
SETTINGS: dict[str, Any] = {
    "model": "gcn", "layers": 2, "hidden": 8, "dropout": 0.0, "lr": LR, "epochs": EPOCHS, "eval_every": 2,
    "threads": 1, "chunks": 1, "checkpoint_every": 2, "optimizer": {"averaging": 0.0, "betas": (0.9, 0.999)},
}  # fmt: skip


def graph(num_values: int = 1, **changes: Any) -> gnnpipe.Graph:
    """60 nodes, of which every ninth has no value; those are in the thousands, and follow from features."""
    generator = torch.Generator().manual_seed(0)
    index = torch.randint(60, (2, 200), generator=generator)
    features = torch.randn(60, 5, generator=generator)
    labels = 5000 + 300 * features[:, :num_values] + 30 * torch.randn(60, num_values, generator=generator)
    labels[::9] = torch.nan
    return gnnpipe.Graph.from_edge_index(
        index, features, changes.pop("labels", labels), undirected=True, **changes
    )


def plainly(data: gnnpipe.Graph) -> tuple[list[float], dict[str, Tensor]]:
    """Losses and weights of plain training in units of the training nodes' deviation."""
    assert isinstance(data.features, Tensor)
    stack = build_stack(ModelSpec("gcn", 2, 8, data.num_features, data.num_classes))
    w = leaves({f"{item.name}.{name}": p for item in stack for name, p in item().named_parameters()})
    labels = data.labels.view(60, -1)[data.train_mask]
    target = (labels - labels.mean(dim=0)) / labels.std(dim=0, correction=0)
    optimizer = torch.optim.Adam(list(w.values()), lr=LR)
    losses = []
    for _ in range(EPOCHS):
        optimizer.zero_grad()
        logits = pyg_logits("gcn", 2, w, data.features, edges(dense(data.adjacency)))
        loss = F.mse_loss(logits[data.train_mask], target)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses, w


def predicted(run: gnnpipe.Run, data: gnnpipe.Graph) -> np.ndarray:
    """What the weights on disk predict, with no more than the file says."""
    assert isinstance(data.features, Tensor)
    with safe_open(run.folder / "model.safetensors", "pt") as file:
        about = file.metadata()
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    logits = pyg_logits("gcn", 2, weights, data.features, edges(dense(data.adjacency))).double().numpy()
    return logits * np.array(json.loads(about["value_deviation"])) + np.array(json.loads(about["value_mean"]))


def scores(data: gnnpipe.Graph, predictions: np.ndarray, split: str) -> dict[str, float]:
    mask = data.masks[split].numpy()
    y, found = data.labels.view(60, -1).double().numpy()[mask], predictions[mask]
    return {
        "mae": float(np.abs(found - y).mean()),
        "rmse": float(np.sqrt(((found - y) ** 2).mean(axis=0)).mean()),
        "r2": float((1 - ((found - y) ** 2).mean(axis=0) / y.var(axis=0)).mean()),
    }


@pytest.mark.parametrize(
    ("stages", "parts", "num_values", "metric"),
    [(1, 1, 1, "auto"), (2, 1, 2, "mae"), (1, 2, 2, "rmse"), (1, 2, 1, "r2")],
)
def test_any_plan_equals_plain_training(
    stages: int, parts: int, num_values: int, metric: Any, tmp_path: Path
) -> None:
    data = graph(num_values)
    run = gnnpipe.train(data, stages=stages, parts=parts, metric=metric, out=tmp_path / "run", **SETTINGS)
    losses, weights = plainly(data)
    # a handful of float32 steps: a hundred times the default tolerance
    assert [record["loss"] for record in run.records()] == pytest.approx(losses, rel=1e-4)
    summary = run.summary
    name = "r2" if metric == "auto" else metric
    assert (summary["metric"], summary["best_epoch"]) == (name, EPOCHS - 1)
    predictions = predicted(run, data)
    for split, key in (("val", "best_val"), ("test", "test_at_best_val")):
        assert summary[key] == pytest.approx(scores(data, predictions, split)[name], rel=1e-4)
    assert scores(data, predictions, "val")["rmse"] < 600
    with torch.no_grad():
        assert isinstance(data.features, Tensor)
        plain = pyg_logits("gcn", 2, weights, data.features, edges(dense(data.adjacency)))
    mean, deviation = (json.loads((run.folder / "plan.json").read_text())["graph"][key] for key in
                       ("value_mean", "value_deviation"))  # fmt: skip
    np.testing.assert_allclose(predictions, plain.numpy() * deviation + mean, rtol=1e-4)


def test_it_goes_on_bit_for_bit_and_only_with_the_same_values(tmp_path: Path) -> None:
    whole = gnnpipe.train(graph(), out=tmp_path / "whole", **SETTINGS | {"epochs": 9})
    run = gnnpipe.train(graph(), out=tmp_path / "run", **SETTINGS)
    other = graph(labels=graph().labels * 2)
    with pytest.raises(DataError, match=r"data: the run was trained on a graph with value_mean .*same graph"):
        gnnpipe.resume(run, other, epochs=9)
    more = gnnpipe.resume(run, graph(), epochs=9)
    assert [record["loss"] for record in more.records()] == [record["loss"] for record in whole.records()]
    assert more.summary["best_val"] == whole.summary["best_val"]


def test_values_that_are_all_alike_train(tmp_path: Path) -> None:
    run = gnnpipe.train(graph(labels=torch.full((60,), 7.5)), out=tmp_path / "run", **SETTINGS)
    assert all(math.isfinite(record["loss"]) for record in run.records())  # type: ignore[arg-type]


def test_output_of_a_run_on_values(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = gnnpipe.train(graph(2), out=tmp_path / "run", verbose=True, metric="mae", **SETTINGS)
    said = capfd.readouterr().out
    assert "60 nodes, 386 edges, 5 features, 2 values to predict" in said
    assert "note: labels: " in said
    assert "so labels are values to be predicted (regression)" in said
    assert "MAE train " in said
    assert show(str(run.folder), as_json=False) == 0
    assert "test MAE at best validation" in capfd.readouterr().out


def hidden(**changes: Any) -> gnnpipe.Graph:
    whole = graph(labels=torch.arange(60) % 3)
    labels = whole.labels.clone()
    labels[whole.test_mask] = -1
    assert isinstance(whole.features, Tensor)
    masks = (whole.train_mask, whole.val_mask, changes.pop("test_mask", whole.test_mask))
    return gnnpipe.Graph.from_edge_index(edges(dense(whole.adjacency)), whole.features, labels, masks)


@pytest.mark.slow
@pytest.mark.parametrize("parts", [1, 2])
def test_hidden_test_labels_are_reported_as_such(
    parts: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, data in (("none", hidden()), ("empty", hidden(test_mask=torch.zeros(60)))):
        out = tmp_path / name
        run = gnnpipe.train(data, out=out, parts=parts, verbose=True, **SETTINGS)
        said = capfd.readouterr().out
        assert " test hidden " in said
        assert "hidden (validation " in said
        records = [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]
        assert [record["test"] for record in records if "test" in record] == [None] * 3
        assert json.loads((out / "summary.json").read_text())["test_at_best_val"] is None
        assert (run.summary["test_at_best_val"], RunFolder(out).summary().best.test) == (None, None)
        with safe_open(out / "model.safetensors", "pt") as file:
            assert file.metadata()["test_at_best_val"] == "hidden"
        assert len(gnnpipe.resume(run, data, epochs=8).records()) == 8
        capfd.readouterr()
        assert main(["show", str(out)]) == 0
        assert "hidden (validation" in capfd.readouterr().out
    assert main(["compare", str(tmp_path / "none"), str(tmp_path / "empty")]) == 0
    assert "hidden" in capfd.readouterr().out
    assert main(["compare", str(tmp_path / "none"), str(tmp_path / "empty"), "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["runs"][0]["test_at_best_val"] is None


def test_two_classes_without_test_labels_have_an_auc(tmp_path: Path) -> None:
    whole = graph(labels=torch.arange(60) % 2)
    masks = (whole.train_mask, whole.val_mask, torch.zeros(60))
    data = gnnpipe.Graph.from_edge_index(edges(dense(whole.adjacency)), whole.features, whole.labels, masks)
    run = gnnpipe.train(data, out=tmp_path / "run", **SETTINGS)
    assert (run.summary["metric"], run.summary["test_at_best_val"]) == ("roc_auc", None)


@pytest.mark.parametrize(
    ("model", "plan"), [("sage", {"parts": 2}), ("gcnii", {"stages": 2}), ("resgcn", {})]
)
def test_weights_of_edges_and_values_together(model: Any, plan: dict[str, int], tmp_path: Path) -> None:
    """Parallel edges and self loops too; as torch_geometric's layers compute them."""
    generator = torch.Generator().manual_seed(0)
    edge_index = torch.randint(60, (2, 400), generator=generator)
    weight = 2 * torch.rand(400, generator=generator)
    x = torch.randn(60, 5, generator=generator)
    y = 1000 + 100 * torch.randn(60, generator=generator)
    data = gnnpipe.Graph.from_pyg(Data(x=x, y=y, edge_index=edge_index, edge_weight=weight))
    run = gnnpipe.train(data, out=tmp_path / "run", **SETTINGS | {"model": model} | plan)
    stack = build_stack(ModelSpec(model, 2, 8, 5, 1))
    w = leaves({f"{item.name}.{name}": p for item in stack for name, p in item().named_parameters()})
    target = y[data.train_mask].unsqueeze(1)
    target = (target - target.mean()) / target.std(correction=0)
    optimizer = torch.optim.Adam(list(w.values()), lr=LR)
    losses = []
    for _ in range(EPOCHS):
        optimizer.zero_grad()
        loss = F.mse_loss(pyg_logits(model, 2, w, x, edge_index, weight)[data.train_mask], target)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    # a handful of float32 steps: a hundred times the default tolerance
    assert [record["loss"] for record in run.records()] == pytest.approx(losses, rel=1e-4)


@pytest.mark.parametrize("num_values", [1, 2])
def test_prepared_in_memory_and_in_a_file_values_are_the_same(num_values: int, tmp_path: Path) -> None:
    data, cut = graph(num_values), CutSpec(2, 2, 1.0)
    held, stored = prepare(data, cut, "gcn"), prepare_file(data, cut, "gcn", tmp_path / "graph.safetensors")
    assert held.facts == stored.facts
    assert torch.equal(held.node_id, stored.node_id)
    torch.testing.assert_close(held.labels, stored.labels, rtol=0, atol=0, equal_nan=True)
    values = data.labels.view(60, -1)[held.node_id].double()
    known = values[data.train_mask[held.node_id]]
    expected = (values - known.mean(dim=0)) / known.std(dim=0, correction=0)
    torch.testing.assert_close(held.labels.double(), expected, atol=1e-6, rtol=1e-6, equal_nan=True)
