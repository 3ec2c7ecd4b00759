"""Metrics fed chunk by chunk equal those of all rows at once."""

from __future__ import annotations

import pytest
import torch

from gnnpipe.base.config import Metric
from gnnpipe.base.errors import ConfigError
from gnnpipe.model.metrics import SplitMetrics
from gnnpipe.model.tasks import resolve_metric


def by_chunks(metric: str, logits: torch.Tensor, labels: torch.Tensor, num_classes: int) -> float:
    metrics = SplitMetrics(metric, num_classes)  # type: ignore[arg-type]
    for part in torch.arange(len(logits)).chunk(7):
        masks = {name: torch.ones(len(part), dtype=torch.bool) for name in ("train", "val", "test")}
        metrics.update(logits[part], labels[part], masks)
    return metrics.compute()["test"]


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


def test_confident_scores_do_not_tie() -> None:
    """In single precision their probabilities would all be 1."""
    logits = torch.stack([torch.zeros(4), torch.tensor([20.0, 21.0, 22.0, 23.0])], dim=1)
    assert by_chunks("roc_auc", logits, torch.tensor([0, 1, 0, 1]), 2) == pytest.approx(0.75)


def test_resolve() -> None:
    assert resolve_metric("auto", "binary") == "roc_auc"
    assert resolve_metric("accuracy", "binary") == "accuracy"
    with pytest.raises(ConfigError, match="metric: 'f1' does not fit multiclass labels; use accuracy"):
        resolve_metric("f1", "multiclass")


@pytest.mark.parametrize("metric", ["accuracy", "f1", "roc_auc"])
def test_parts_together_are_the_whole(metric: Metric) -> None:
    """Also where a part has no node of a split."""
    logits = torch.randn(40, 2)
    labels = torch.randint(2, (40, 2) if metric == "f1" else (40,))
    masks = {name: torch.zeros(40, dtype=torch.bool) for name in ("train", "val", "test")}
    masks["train"][:30] = masks["val"][20:] = masks["test"][5:25] = True
    whole, merged = SplitMetrics(metric, 2), SplitMetrics(metric, 2)
    whole.update(logits, labels, masks)
    for rows in (slice(0, 15), slice(15, 40)):
        part = SplitMetrics(metric, 2)
        part.update(logits[rows], labels[rows], {name: mask[rows] for name, mask in masks.items()})
        merged.merge(part.state())
    assert merged.compute() == pytest.approx(whole.compute())
