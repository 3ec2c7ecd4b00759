"""Trained runs answer over their own processes: every model x plan, and every metric from the answers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gnnpipe
from gnnpipe.cli.main import main
from gnnpipe.config.run import Model
from gnnpipe.graph.data import Graph
from gnnpipe.graph.ids import NodeIds
from gnnpipe.records.folder import RunFolder
from gnnpipe.run.answers.results import Predictions
from tests.cli.commands import BIN, run
from tests.run.answers.runs import MODELS, directed, expected

pytestmark = pytest.mark.slow

PLANS = [(1, 1), (2, 1), (1, 2), (2, 2)]
SMALL: dict[str, Any] = {
    "layers": 4, "hidden": 8, "epochs": 8, "eval_every": 2, "threads": 1, "checkpoint_every": 0,
    "device": "cpu",
}  # fmt: skip


def named(data: Graph) -> Graph:
    """The graph with ids and names of classes as files have them."""
    ids = NodeIds.of_text([f"n{(7 * node) % data.num_nodes}" for node in range(data.num_nodes)])
    return replace(data, ids=ids, class_names=("ant", "bee, wild", "cow"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weighted, directed graph with isolated nodes, as a user's graph folder."""
    path = tmp_path_factory.mktemp("graph") / "graph"
    named(directed(120)).save(path)
    return path


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("stages", "parts"), PLANS)
def test_answers_are_those_of_one_process(
    model: Model, stages: int, parts: int, folder: Path, tmp_path: Path
) -> None:
    data = named(directed(120))
    run = gnnpipe.train(
        folder, model=model, stages=stages, parts=parts, metric="accuracy", out=tmp_path / "run", **SMALL
    )
    logits, hidden = expected(RunFolder(run.folder), data)
    found, rows = run.predict(), run.embed()
    torch.testing.assert_close(torch.from_numpy(found.logits), logits)
    torch.testing.assert_close(torch.from_numpy(rows.rows), hidden[-1])
    assert rows.layer == (3 if model in ("gcn", "sage") else 4)
    assert found.names.tolist() == [f"n{(7 * node) % 120}" for node in range(120)]
    assert found.class_names == ("ant", "bee, wild", "cow")
    right = torch.from_numpy(found.classes == data.labels.numpy())
    assert int(right[data.val_mask].sum()) / int(data.val_mask.sum()) == run.summary["best_val"]
    assert int(right[data.test_mask].sum()) / int(data.test_mask.sum()) == run.summary["test_at_best_val"]
    # a rank takes less memory than in training
    assert len(found.peak_memory_bytes) == stages * parts
    assert max(found.peak_memory_bytes) <= 1.02 * max(run.summary["peak_memory_bytes"])
    # over other processes the sums are rounded in another order
    other = run.predict(stages=3 - stages, parts=3 - parts)
    torch.testing.assert_close(torch.from_numpy(other.logits), logits)
    assert len(other.peak_memory_bytes) == (3 - stages) * (3 - parts)


def pairs(scores: np.ndarray, positive: np.ndarray) -> float:
    """ROC AUC by comparing every pair."""
    above, below = scores[positive][:, None], scores[~positive][None]
    return float((2 * (above > below) + (above == below)).sum() / (2 * above.size * below.size))


def f1_of_each(predicted: np.ndarray, truth: np.ndarray) -> list[float]:
    """F1 of each column of booleans that occurs."""
    return [
        2 * int((p & t).sum()) / int(p.sum() + t.sum())
        for p, t in zip(predicted.T, truth.T, strict=True)
        if (p | t).any()
    ]


def score(metric: str, found: Predictions, data: Graph, mask: np.ndarray) -> float:
    """A metric from predictions, without code of the package."""
    truth, logits = data.labels.numpy()[mask], found.logits[mask].astype(np.float64)
    if metric in ("r2", "mae", "rmse"):
        assert found.values is not None
        off = found.values[mask] - truth.reshape(len(truth), -1)
        if metric == "r2":
            spread = ((truth - truth.mean(axis=0)) ** 2).sum(axis=0)
            return float((1 - (off**2).sum(axis=0) / spread).mean())
        return float(np.abs(off).mean() if metric == "mae" else np.sqrt((off**2).mean(axis=0)).mean())
    assert found.classes is not None
    predicted = found.classes[mask]
    if metric == "roc_auc":
        return pairs(logits[:, 1] - logits[:, 0], truth == 1)
    if metric == "accuracy":
        return float((predicted == truth).mean())
    if metric == "balanced_accuracy":
        return float(np.mean([(predicted == of)[truth == of].mean() for of in np.unique(truth)]))
    if truth.ndim == 1:
        columns = np.arange(data.num_classes)
        predicted, truth = predicted[:, None] == columns, truth[:, None] == columns
    both = predicted & (truth > 0)
    if metric == "f1":
        return 2 * int(both.sum()) / int(predicted.sum() + (truth > 0).sum())
    return float(np.mean(f1_of_each(predicted, truth > 0)))


KINDS: dict[str, dict[str, Any]] = {
    "classes": {}, "two": {"num_classes": 2}, "labels": {"multilabel": True}, "values": {"num_values": 2},
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "metric"),
    [
        ("classes", "macro_f1"),
        ("classes", "balanced_accuracy"),
        ("two", "accuracy"),
        ("two", "roc_auc"),
        ("labels", "f1"),
        ("labels", "macro_f1"),
        ("values", "r2"),
        ("values", "mae"),
        ("values", "rmse"),
    ],
)
def test_every_metric_follows_from_the_answers(kind: str, metric: Any, tmp_path: Path) -> None:
    data = directed(120, **KINDS[kind])
    run = gnnpipe.train(
        data, model="gcn", stages=2, parts=2, chunks=2, metric=metric, out=tmp_path / "run", **SMALL
    )
    found = run.predict()  # of the graph in memory that it was trained on
    # of classes the very number; values are standardised as float32, in which metrics are computed
    near = 1e-6 if kind == "values" else 1e-15
    for split, told in (("val", run.summary["best_val"]), ("test", run.summary["test_at_best_val"])):
        assert score(metric, found, data, data.masks[split].numpy()) == pytest.approx(told, rel=near)


def test_from_the_shell(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    gnnpipe.train(folder, model="gcn", stages=2, out="run", **SMALL)
    capfd.readouterr()
    assert main(["predict", "run", "--nodes", "test", "--out", "test.csv"]) == 0
    assert capfd.readouterr().out == "predictions of 24 nodes in test.csv\n"
    heads, *lines = Path("test.csv").read_text().splitlines()
    assert heads.startswith('node,class,probability_ant,"probability_bee, wild",probability_cow,logit_ant,')
    nodes = named(directed(120)).test_mask.nonzero().flatten().tolist()
    assert [line.split(",")[0] for line in lines] == [f"n{7 * node % 120}" for node in nodes]
    assert main(["predict", "run", "--out", "test.csv"]) == 2
    assert "out: 'test.csv' exists already" in capfd.readouterr().err
    named(directed(240, seed=1)).save("larger")
    assert main(["predict", "run", "--graph", "larger", "--embed", "-1", "--out", "rows.npz"]) == 0
    arrays = np.load("rows.npz")
    assert (arrays["rows"].shape, int(arrays["layer"]), str(arrays["node"][1])) == ((240, 8), 3, "n7")
    directed(120, num_features=9).save("wider")
    assert main(["predict", "run", "--graph", "wider", "--out", "x.csv"]) == 2
    assert "features: 'graph' has 9, and 'run' was trained on 6" in capfd.readouterr().err
    assert main(["predict", "run"]) == 2
    assert "out: it is missing; name a file" in capfd.readouterr().err
    assert not Path("x.csv").exists()


SCRIPT = """
import os
import gnnpipe
run = gnnpipe.train(
    stages=2, synthetic={"num_nodes": 400, "blocks_per_class": 2}, layers=4, hidden=8, epochs=4,
    threads=1, out="run",
)
found = run.predict(out="x.npz")
rows = run.embed(0)
os.write(1, f"{found.logits.sum()} {rows.rows.sum()} {os.path.exists('x.npz')}\\n".encode())
"""


def test_under_torchrun_every_rank_gets_the_answers(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    done = run([str(BIN / "torchrun"), "--nproc-per-node", "2", "script.py"], tmp_path)
    assert done.returncode == 0, done.stderr
    trained = gnnpipe.open(tmp_path / "run")
    found = trained.predict()
    line = f"{found.logits.sum()} {trained.embed(0).rows.sum()} True"
    assert sorted(done.stdout.splitlines()) == [line] * 2
    assert np.array_equal(np.load(tmp_path / "x.npz")["logits"], found.logits)


@pytest.mark.parametrize(("stages", "parts"), [(1, 1), (2, 1), (1, 2)])
def test_a_process_takes_less_memory_than_in_training(stages: int, parts: int, tmp_path: Path) -> None:
    """Though an idle one takes 230 MiB; docs/predictions.md has a larger graph."""
    run = gnnpipe.train(
        synthetic={"num_nodes": 40_000}, model="gcnii", layers=8, hidden=64, epochs=2, eval_every=2,
        stages=stages, parts=parts, checkpoint_every=0, threads=1, device="cpu", out=tmp_path / "run",
    )  # fmt: skip
    for found in (run.predict(), run.embed(3)):
        for taken, trained in zip(found.peak_memory_bytes, run.summary["peak_memory_bytes"], strict=True):
            assert taken < 0.8 * trained


def test_a_graph_that_has_changed_is_refused(tmp_path: Path) -> None:
    data = directed(120)
    data.save(tmp_path / "graph")
    run = gnnpipe.train(tmp_path / "graph", model="gcn", out=tmp_path / "run", **SMALL)
    for change in ({"adjacency": directed(120, seed=3).adjacency}, {"features": data.features.flip(1)}):
        replace(data, **change).save(tmp_path / "graph", overwrite=True)
        with pytest.raises(ValueError, match="graph: 'graph' has changed since"):
            run.predict()
    assert run.predict(tmp_path / "graph").logits.shape == (120, 3)


def test_runs_of_older_versions_predict(tmp_path: Path) -> None:
    old = Path(__file__).parents[2] / "data" / "runs-2026-11"
    for name in ("gcnii", "resgcn"):
        summary = json.loads((old / name / "summary.json").read_text())
        found = gnnpipe.predict(old / name, threads=1)
        data = gnnpipe.load(**{key: gnnpipe.open(old / name).config.__dict__[key] for key in ("synthetic",)})
        right = torch.from_numpy(found.classes == data.labels.numpy())[data.test_mask]
        assert int(right.sum()) / len(right) == summary["test_at_best_val"]
