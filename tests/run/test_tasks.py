"""Whole runs with each loss and each metric of ranks, under several plans, against plain training with
`torch.nn`'s losses and against scikit-learn on the logits of the weights that the run leaves behind."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn import metrics as sk
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn

import gnnpipe
from gnnpipe.errors import ConfigError, DataError
from gnnpipe.nn.models import ModelSpec, build_stack
from tests.graphs import dense
from tests.pyg import edges, leaves, pyg_logits

LR, EPOCHS, NODES = 0.05, 6, 120
SETTINGS: dict[str, Any] = {
    "model": "gcn", "layers": 2, "hidden": 8, "dropout": 0.0, "lr": LR, "epochs": EPOCHS, "eval_every": 2,
    "threads": 1, "chunks": 1, "optimizer": {"averaging": 0.0, "betas": (0.9, 0.999)},
}  # fmt: skip
PLANS = [(1, 1), (2, 1), (1, 2), (2, 2)]


@dataclass(frozen=True)
class Task:
    """A task, and how scikit-learn and PyTorch would have it."""

    kind: str
    metric: str
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def columns(self) -> int:
        return {"binary": 2, "multiclass": 4, "multilabel": 3, "regression": 1}[self.kind]

    def graph(self) -> gnnpipe.Graph:
        """Labels follow from features, and the last class or label is rare; every ninth node has none."""
        generator = torch.Generator().manual_seed(0)
        index = torch.randint(NODES, (2, 400), generator=generator)
        x = torch.randn(NODES, 5, generator=generator)
        if self.kind == "regression":
            labels = 5000 + 300 * x[:, :1] + 30 * torch.randn(NODES, 1, generator=generator)
            labels[3], labels[::9] = 20_000, torch.nan  # one is far off
        elif self.kind == "multilabel":
            labels = (x[:, :3] > torch.tensor([0.0, 0.5, 1.0])).float()
            labels[::9] = torch.nan
        else:
            labels = (x[:, : self.columns] - 0.4 * torch.arange(self.columns)).argmax(dim=1)
            labels[::9] = -1
        return gnnpipe.Graph.from_edge_index(index, x, labels, undirected=True)

    def loss(self, labels: Tensor) -> nn.Module:
        """The loss of torch.nn over these training labels."""
        if self.kind == "regression":
            return {"mae": nn.L1Loss(), "huber": nn.HuberLoss()}[self.settings["loss"]]
        weights = self.settings.get("class_weights")
        if self.kind == "multilabel":
            positive = labels.sum(dim=0)
            return nn.BCEWithLogitsLoss(pos_weight=(len(labels) - positive) / positive if weights else None)
        if weights == "balanced":
            weights = compute_class_weight("balanced", classes=np.unique(labels), y=labels.numpy())
        weight = None if weights is None else torch.tensor(weights, dtype=torch.float32)
        return nn.CrossEntropyLoss(weight, label_smoothing=self.settings.get("label_smoothing", 0.0))

    def score(self, logits: np.ndarray, labels: np.ndarray) -> float:
        """The metric, by scikit-learn."""
        if self.kind == "regression":
            return float(sk.mean_absolute_error(labels, logits))
        if self.metric == "macro_f1":
            return float(sk.f1_score(labels, logits.argmax(axis=1), average="macro"))
        scores = logits[:, 1] - logits[:, 0] if self.kind == "binary" else logits
        score = sk.roc_auc_score if self.metric == "roc_auc" else sk.average_precision_score
        return float(score(labels, scores))  # of several labels the mean, as OGB's Evaluator has it


TASKS = [
    Task("multiclass", "macro_f1", {"class_weights": "balanced", "label_smoothing": 0.2}),
    Task("multilabel", "roc_auc", {"class_weights": "balanced"}),
    Task("multilabel", "average_precision", {}),
    Task("binary", "average_precision", {"class_weights": [1, 4.5]}),
    Task("regression", "mae", {"loss": "mae"}),
    Task("regression", "mae", {"loss": "huber"}),
]
FAST = (TASKS[0], TASKS[1], TASKS[4])
CASES = [
    pytest.param(
        task,
        plan,
        marks=[] if plan == PLANS[0] and task in FAST else [pytest.mark.slow],
        id=f"{task.kind}-{task.metric}-{task.settings.get('loss', 'auto')}-{plan[0]}x{plan[1]}",
    )
    for task in TASKS
    for plan in PLANS
]


def plainly(task: Task, data: gnnpipe.Graph) -> list[float]:
    """Losses of plain training; values in units of the training nodes' deviation."""
    assert isinstance(data.features, Tensor)
    stack = build_stack(ModelSpec("gcn", 2, 8, data.num_features, data.num_classes))
    w = leaves({f"{item.name}.{name}": p for item in stack for name, p in item().named_parameters()})
    target = data.labels[data.train_mask]
    if task.kind == "regression":
        target = target.view(-1, 1)
        target = (target - target.mean(dim=0)) / target.std(dim=0, correction=0)
    optimizer, function, losses = torch.optim.Adam(list(w.values()), lr=LR), task.loss(target), []
    for _ in range(EPOCHS):
        optimizer.zero_grad()
        logits = pyg_logits("gcn", 2, w, data.features, edges(dense(data.adjacency)))
        loss = function(logits[data.train_mask], target)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def logits_of(run: gnnpipe.Run, data: gnnpipe.Graph) -> np.ndarray:
    """Logits of the weights on disk, or the values that they predict."""
    assert isinstance(data.features, Tensor)
    weights = load_file(run.folder / "model.safetensors")
    logits = pyg_logits("gcn", 2, weights, data.features, edges(dense(data.adjacency))).double().numpy()
    facts = json.loads((run.folder / "plan.json").read_text())["graph"]
    if "value_mean" in facts:
        logits = logits * np.array(facts["value_deviation"]) + np.array(facts["value_mean"])
    return logits


@pytest.mark.parametrize(("task", "plan"), CASES)
def test_any_plan_equals_plain_training_and_scikit_learn(
    task: Task, plan: tuple[int, int], tmp_path: Path
) -> None:
    data = task.graph()
    run = gnnpipe.train(
        data, stages=plan[0], parts=plan[1], metric=task.metric, out=tmp_path / "run",
        **SETTINGS | task.settings,
    )  # fmt: skip
    # a handful of float32 steps: a hundred times the default tolerance
    assert [record["loss"] for record in run.records()] == pytest.approx(plainly(task, data), rel=1e-4)
    logits, summary = logits_of(run, data), run.summary
    for split, key in (("val", "best_val"), ("test", "test_at_best_val")):
        mask = data.masks[split].numpy()
        expected = task.score(logits[mask], data.labels.numpy()[mask])
        # ranks and counts: the same to the last digits; errors are sums of float32 numbers
        tolerance = 1e-5 if task.kind == "regression" else 1e-12
        assert summary[key] == pytest.approx(expected, rel=tolerance)
    check_tables(run.folder, task, logits, data)


def check_tables(folder: Path, task: Task, logits: np.ndarray, data: gnnpipe.Graph) -> None:
    """classes.csv and confusion.csv say what scikit-learn says."""
    table, matrix = folder / "classes.csv", folder / "confusion.csv"
    assert matrix.exists() == (task.kind in ("binary", "multiclass"))
    assert table.exists() == (task.kind != "regression")
    if task.kind == "regression":
        return
    mask = data.test_mask.numpy()
    truth = data.labels.numpy()[mask]
    found = logits[mask] > 0 if task.kind == "multilabel" else logits[mask].argmax(axis=1)
    labels = range(task.columns)
    expected = sk.precision_recall_fscore_support(truth, found, labels=labels, zero_division=np.nan)
    lines = csv.DictReader(table.read_text().splitlines())
    rows = [row for row in lines if row["split"] == "test"]
    for figures, name in zip(expected, ("precision", "recall", "f1", "support"), strict=True):
        assert [float(row[name] or "nan") for row in rows] == pytest.approx(list(figures), nan_ok=True)
    if matrix.exists():
        counts = [row[1:] for row in csv.reader(matrix.read_text().splitlines())][1:]
        assert np.array_equal(np.array(counts, dtype=int), sk.confusion_matrix(truth, found, labels=labels))


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS[:4])
def test_plans_give_the_same_numbers(task: Task, tmp_path: Path) -> None:
    """Bit for bit where the parts are the same; elsewhere sums have another order."""
    runs = {
        plan: gnnpipe.train(
            task.graph(), stages=plan[0], parts=plan[1], metric=task.metric,
            out=tmp_path / str(plan), **SETTINGS | task.settings,
        ).summary
        for plan in PLANS
    }  # fmt: skip
    for parts in (1, 2):
        for key in ("best_val", "test_at_best_val", "best_epoch", "classes"):
            assert runs[1, parts][key] == runs[2, parts][key]
    assert runs[1, 1]["classes"] == runs[1, 2]["classes"]
    assert runs[1, 1]["best_val"] == pytest.approx(runs[1, 2]["best_val"], rel=1e-12)


@pytest.mark.slow
def test_the_exact_gradient_is_of_the_same_loss(tmp_path: Path) -> None:
    """With two chunks and a gradient that is exact, the check finds no difference and the same loss."""
    task = TASKS[0]
    run = gnnpipe.train(
        task.graph(), out=tmp_path / "run", check_gradient=2, stages=2,
        **SETTINGS | task.settings | {"chunks": 2, "staleness": {"lookahead": 1}},
    )  # fmt: skip
    checked = [record for record in run.records() if "exact_loss" in record]
    assert checked
    for record in checked:
        assert record["exact_loss"] == pytest.approx(record["loss"], rel=1e-5)
        assert record["estimate"]["all"]["relative_error"] < 1e-4  # type: ignore[index]


@pytest.mark.slow
def test_it_goes_on_with_the_same_loss_alone(tmp_path: Path) -> None:
    task = TASKS[0]
    settings = SETTINGS | task.settings | {"checkpoint_every": 2}
    whole = gnnpipe.train(task.graph(), out=tmp_path / "whole", **settings | {"epochs": 8})
    run = gnnpipe.train(task.graph(), out=tmp_path / "run", **settings)
    for key, value in (("class_weights", [1, 1, 1, 2]), ("label_smoothing", 0.0), ("loss", "mse")):
        with pytest.raises(ConfigError, match=f"^{key.replace('_', '-')}: .* can't change on the way"):
            gnnpipe.resume(run, task.graph(), epochs=8, **{key: value})
    more = gnnpipe.resume(run, task.graph(), epochs=8)
    assert [record["loss"] for record in more.records()] == [record["loss"] for record in whole.records()]
    for name in ("classes.csv", "confusion.csv"):
        assert (run.folder / name).read_text() == (whole.folder / name).read_text()


def test_settings_that_do_not_fit_are_refused_before_a_run_begins(tmp_path: Path) -> None:
    out = tmp_path / "run"
    for task, changes, message in (
        (TASKS[0], {"class_weights": [1, 2]}, r"^class-weights: 2 numbers for 4 classes; give one for each"),
        (TASKS[0], {"loss": "mae"}, r"^loss: mae is for values to be predicted"),
        (TASKS[4], {"label_smoothing": 0.1}, r"^label-smoothing: it says nothing about values"),
        (TASKS[0], {"class_weights": "equal"}, r"^class-weights: 'equal' can't be used; write balanced, or"),
        (TASKS[0], {"class_weights": [1, -2]}, r"^class-weights: -2.0 is out of range; use 0 to"),
        (TASKS[0], {"metric": "roc_auc"}, r"^metric: 'roc_auc' does not fit multiclass labels"),
    ):
        with pytest.raises(ConfigError, match=message):
            gnnpipe.train(task.graph(), out=out, **SETTINGS | changes)
        assert not out.exists()


@pytest.mark.parametrize("metric", ["roc_auc", "average_precision"])
def test_labels_that_are_all_alike_can_not_be_ranked(metric: str, tmp_path: Path) -> None:
    data = Task("multilabel", metric).graph()
    labels = data.labels.clone()
    labels[data.val_mask] = torch.tensor([0.0, 1.0, 1.0])
    masks = (data.train_mask, data.val_mask, data.test_mask)
    alike = gnnpipe.Graph.from_edge_index(edges(dense(data.adjacency)), data.features, labels, masks)
    with pytest.raises(DataError, match=f"^metric: {metric} is undefined, as all val labels are alike; use"):
        gnnpipe.train(alike, out=tmp_path / "run", metric=metric, **SETTINGS)
