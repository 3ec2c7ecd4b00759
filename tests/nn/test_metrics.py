"""Metrics fed chunk by chunk equal those of all rows at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import rankdata

from gnnpipe.config.run import Metric
from gnnpipe.errors import ConfigError
from gnnpipe.nn.metrics import ClassCounts, is_better
from gnnpipe.nn.split_metrics import Measure, SplitMetrics
from gnnpipe.nn.tasks import resolve_metric


def new(
    metric: Any, num_classes: int, deviation: Sequence[float] = (), *, several: bool = False
) -> SplitMetrics:
    task: Any = "regression" if deviation else "multilabel" if several else "multiclass"
    return SplitMetrics(Measure(metric, task, num_classes, tuple(deviation)))


def by_chunks(metric: str, logits: torch.Tensor, labels: torch.Tensor, num_classes: int) -> float:
    metrics = new(metric, num_classes, several=labels.dim() == 2)
    for part in torch.arange(len(logits)).chunk(7):
        masks = {name: torch.ones(len(part), dtype=torch.bool) for name in ("train", "val", "test")}
        metrics.update(logits[part], labels[part], masks)
    metrics.rank(lambda message: [message])
    score = metrics.compute().test
    assert score is not None
    return score


def test_accuracy() -> None:
    logits, labels = torch.randn(50, 4), torch.randint(4, (50,))
    expected = float((logits.argmax(1) == labels).float().mean())
    assert by_chunks("accuracy", logits, labels, 4) == pytest.approx(expected)


def test_micro_f1() -> None:
    logits, labels = torch.randn(50, 4), (torch.rand(50, 4) > 0.5).float()
    predicted = logits > 0
    hits = (predicted & (labels > 0)).sum()
    expected = float(2 * hits / (predicted.sum() + labels.sum()))
    assert by_chunks("f1", logits, labels, 4) == pytest.approx(expected)


def test_roc_auc_is_the_share_of_pairs_in_order() -> None:
    logits, labels = torch.rand(40, 2), torch.randint(2, (40,))
    score = (logits[:, 1] - logits[:, 0]).double()
    pairs = score[labels == 1].unsqueeze(1) > score[labels == 0].unsqueeze(0)
    assert by_chunks("roc_auc", logits, labels, 2) == pytest.approx(float(pairs.double().mean()))


def ranked_auc(score: np.ndarray, positive: np.ndarray) -> float:
    """By mean ranks (Mann and Whitney), in float64."""
    ranks = rankdata(score)
    above, below = int(positive.sum()), int((~positive).sum())
    return float((ranks[positive].sum() - above * (above + 1) / 2) / (above * below))


@pytest.mark.parametrize("scale", [1e-8, 1.0, 40.0, 1e4, 1e30])
def test_roc_auc_is_exact_for_logits_of_any_size(scale: float) -> None:
    """Above 37 every probability would be 1, and near 0 all would be 1/2 in single precision."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(2, (400,), generator=generator)
    logits = torch.randn(400, 2, generator=generator) + 0.8 * torch.stack([1 - labels, labels], dim=1)
    logits = logits.mul(4).round().div(4) * scale  # some tie
    score = logits[:, 1].double().numpy() - logits[:, 0].double().numpy()
    expected = ranked_auc(score, labels.numpy() == 1)
    assert 0.5 < expected < 1
    assert by_chunks("roc_auc", logits, labels, 2) == pytest.approx(expected, rel=1e-12)


def by_hand(predicted: torch.Tensor, labels: torch.Tensor, num_classes: int) -> tuple[list, list]:
    """Recall and F1 of each class, node by node; None where a class has no node, or nobody names it."""
    recalls, scores = [], []
    for index in range(num_classes):
        truth, found = (labels == index).tolist(), (predicted == index).tolist()
        hits = sum(t and f for t, f in zip(truth, found, strict=True))
        recalls.append(hits / sum(truth) if sum(truth) else None)
        scores.append(2 * hits / (sum(truth) + sum(found)) if sum(truth) + sum(found) else None)
    return recalls, scores


def test_metrics_that_count_every_class_alike() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(90, 5, generator=generator)
    labels = torch.randint(3, (90,), generator=generator)  # class 3 and 4 have no node
    logits[:, 4] = -9  # and nobody names class 4
    recalls, scores = by_hand(logits.argmax(1), labels, 5)
    assert (recalls[3], scores[4]) == (None, None)
    mean = [sum(v for v in values if v is not None) / sum(v is not None for v in values) for values in
            (recalls, scores)]  # fmt: skip
    assert by_chunks("balanced_accuracy", logits, labels, 5) == pytest.approx(mean[0])
    assert by_chunks("macro_f1", logits, labels, 5) == pytest.approx(mean[1])


def test_macro_f1_of_several_labels() -> None:
    logits, labels = torch.randn(50, 4), (torch.rand(50, 4) > 0.5).float()
    scores = [by_hand((logits[:, c] > 0).long(), labels[:, c], 2)[1][1] for c in range(4)]
    assert by_chunks("macro_f1", logits, labels, 4) == pytest.approx(sum(scores) / 4)


def test_a_class_that_is_never_found_shows_in_what_counts_classes() -> None:
    labels = torch.zeros(2000, dtype=torch.int64)
    labels[:50] = 1
    logits = torch.tensor([[1.0, 0.0]]).repeat(2000, 1)
    assert by_chunks("accuracy", logits, labels, 2) == pytest.approx(0.975)
    assert by_chunks("balanced_accuracy", logits, labels, 2) == pytest.approx(0.5)
    assert by_chunks("macro_f1", logits, labels, 2) < 0.5
    metrics = new("accuracy", 2)
    mask = torch.ones(2000, dtype=torch.bool)
    metrics.update(logits, labels, {"train": mask, "val": ~mask, "test": mask})
    classes = metrics.classes()
    assert classes.test == ClassCounts(count=(1950, 50), correct=(1950, 0), predicted=(2000, 0))
    assert classes.val == ClassCounts((0, 0), (0, 0), (0, 0))


def test_resolve() -> None:
    assert resolve_metric("auto", "binary") == "roc_auc"
    assert resolve_metric("accuracy", "binary") == "accuracy"
    with pytest.raises(ConfigError, match="'f1' does not fit multiclass labels; use accuracy or macro_f1"):
        resolve_metric("f1", "multiclass")


@pytest.mark.parametrize("metric", ["accuracy", "f1", "macro_f1", "balanced_accuracy"])
def test_parts_together_are_the_whole(metric: Metric) -> None:
    """Also where a part has no node of a split."""
    logits = torch.randn(40, 2)
    labels = torch.randint(2, (40, 2) if metric == "f1" else (40,))
    masks = {name: torch.zeros(40, dtype=torch.bool) for name in ("train", "val", "test")}
    masks["train"][:30] = masks["val"][20:] = masks["test"][5:25] = True
    several = labels.dim() == 2
    whole, merged = (new(metric, 2, several=several) for _ in range(2))
    whole.update(logits, labels, masks)
    for rows in (slice(0, 15), slice(15, 40)):
        part = new(metric, 2, several=several)
        part.update(logits[rows], labels[rows], {name: mask[rows] for name, mask in masks.items()})
        merged.merge(part.state())
    assert vars(merged.compute()) == pytest.approx(vars(whole.compute()))


def values(num_nodes: int, num_values: int) -> tuple[torch.Tensor, torch.Tensor, list[float]]:
    """Predictions, labels, both in units of the deviation, and the deviation."""
    generator = torch.Generator().manual_seed(2)
    labels = torch.randn(num_nodes, num_values, generator=generator)
    logits = labels + 0.3 * torch.randn(num_nodes, num_values, generator=generator)
    return logits, labels, [2.0 * (column + 1) for column in range(num_values)]


@pytest.mark.parametrize("num_values", [1, 3])
def test_metrics_of_values_are_in_their_units(num_values: int) -> None:
    logits, labels, deviation = values(50, num_values)
    scale = np.array(deviation)
    y, predicted = labels.double().numpy() * scale + 1000, logits.double().numpy() * scale + 1000
    expected = {
        "mae": np.abs(predicted - y).mean(axis=0).mean(),
        "rmse": np.sqrt(((predicted - y) ** 2).mean(axis=0)).mean(),
        "r2": (1 - ((predicted - y) ** 2).sum(axis=0) / ((y - y.mean(axis=0)) ** 2).sum(axis=0)).mean(),
    }
    masks = {name: torch.arange(50) % 3 == index for index, name in enumerate(("train", "val", "test"))}
    everything = {name: torch.ones(50, dtype=torch.bool) for name in masks}
    for metric, value in expected.items():
        whole, parts = (new(metric, num_values, deviation) for _ in range(2))
        whole.update(logits, labels, everything)
        assert whole.compute().test == pytest.approx(value, rel=1e-6)
        assert whole.classes() is None
        for rows in (slice(0, 7), slice(7, 8), slice(8, 50)):
            part = new(metric, num_values, deviation)
            part.update(logits[rows], labels[rows], {name: mask[rows] for name, mask in masks.items()})
            parts.merge(part.state())
        whole = new(metric, num_values, deviation)
        whole.update(logits, labels, masks)
        assert vars(parts.compute()) == pytest.approx(vars(whole.compute()), rel=1e-12)


def test_r2_of_values_that_are_all_alike() -> None:
    ones = torch.ones(6, 1)
    masks = {name: torch.ones(6, dtype=torch.bool) for name in ("train", "val", "test")}
    for predicted, expected in ((ones, 1.0), (2 * ones, 0.0)):
        metrics = new("r2", 1, [1.0])
        metrics.update(predicted, ones, masks)
        assert metrics.compute().test == expected


def test_errors_are_better_when_they_are_lower() -> None:
    assert is_better("mae", 1.0, 2.0)
    assert is_better("rmse", 0.0, 1.0)
    assert is_better("r2", 0.9, -3.0)
    assert is_better("accuracy", 0.5, 0.4)
    for metric in ("mae", "r2", "accuracy"):
        assert not is_better(metric, 0.5, 0.5)  # type: ignore[arg-type]


def test_metrics_that_fit_values() -> None:
    assert resolve_metric("auto", "regression") == "r2"
    assert resolve_metric("mae", "regression") == "mae"
    with pytest.raises(ConfigError, match="'accuracy' does not fit regression labels; use r2 or mae or rmse"):
        resolve_metric("accuracy", "regression")
    with pytest.raises(ConfigError, match="'mae' does not fit binary labels"):
        resolve_metric("mae", "binary")


def test_a_split_without_nodes_has_no_score() -> None:
    masks = {name: torch.full((4,), name != "test") for name in ("train", "val", "test")}
    for metric, deviation in (("accuracy", []), ("roc_auc", []), ("r2", [1.0, 2.0])):
        metrics = new(metric, 2, deviation)
        labels = torch.rand(4, 2) if deviation else torch.tensor([0, 1, 0, 1])
        metrics.update(torch.rand(4, 2), labels, masks)
        assert metrics.compute().test is None
