"""Metrics of all ranks together are scikit-learn's of the gathered scores, and what OGB's Evaluator says."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from torch import Tensor

from gnnpipe.nn import ranking, split_metrics
from gnnpipe.nn.split_metrics import Measure, SplitMetrics
from gnnpipe.nn.tasks import resolve_metric

SPLITS = ("train", "val", "test")


class Gathering:
    """Threads that hand each other values, as ranks do."""

    def __init__(self, num_ranks: int) -> None:
        self._barrier = threading.Barrier(num_ranks)
        self._items: list[Any] = [None] * num_ranks
        self.largest = 0

    def of_rank(self, rank: int) -> Callable[[Any], list[Any]]:
        def gather(item: Any) -> list[Any]:
            self._items[rank] = item
            self._barrier.wait(10)
            items = list(self._items)
            self._barrier.wait(10)
            if isinstance(item, list):
                self.largest = max(self.largest, sum(len(piece.scores) for _, piece in item))
            return items

        return gather


def by_ranks(
    measure: Measure, logits: Tensor, labels: Tensor, masks: dict[str, Tensor], owner: Tensor, num_ranks: int
) -> list[dict[str, float]]:
    """Scores by split, as each rank has them; rank ``owner[i]`` adds node i, in chunks."""
    gathering, found = Gathering(num_ranks), [{} for _ in range(num_ranks)]

    def be(rank: int) -> None:
        gather, own = gathering.of_rank(rank), SplitMetrics(measure)
        for nodes in (owner == rank).nonzero().squeeze(1).split(7):
            own.update(logits[nodes], labels[nodes], {name: mask[nodes] for name, mask in masks.items()})
        own.rank(gather)
        whole = SplitMetrics(measure)
        for state in gather(own.state()):
            whole.merge(state)
        found[rank] = vars(whole.compute())

    threads = [threading.Thread(target=be, args=(rank,)) for rank in range(num_ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return found


def example(task: str, num_nodes: int, seed: int, *, ties: bool) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    num_classes = {"binary": 2, "multilabel": 5, "multiclass": 4}[task]
    logits = 2 * torch.randn(num_nodes, num_classes, generator=generator)
    if ties:
        logits = logits.round()
    if task == "multilabel":
        rate = torch.tensor([0.5, 0.1, 0.9, 0.02, 0.0])  # the last is on no node, and others may be
        labels = (torch.rand(num_nodes, 5, generator=generator) < rate).float()
    else:
        labels = torch.randint(num_classes, (num_nodes,), generator=generator)
    split = torch.randint(3, (num_nodes,), generator=generator)
    return logits, labels, {name: split == index for index, name in enumerate(SPLITS)}


def of_labels(score: Any, truth: np.ndarray, scores: np.ndarray) -> float:
    """OGB's way (ogb.nodeproppred.Evaluator, rocauc of ogbn-proteins): the mean over the labels of which
    nodes of both kinds are known."""
    found = [
        score(truth[:, label], scores[:, label])
        for label in range(truth.shape[1])
        if (truth[:, label] == 1).any() and (truth[:, label] == 0).any()
    ]
    return float(np.mean(found)) if found else 0.0


def by_scikit_learn(metric: str, task: str, logits: Tensor, labels: Tensor) -> float:
    x, y = logits.double().numpy(), labels.numpy()
    if metric in ("roc_auc", "average_precision"):
        score = sk.roc_auc_score if metric == "roc_auc" else sk.average_precision_score
        if task == "binary":
            x, y = x[:, 1:] - x[:, :1], y[:, None]
        return of_labels(score, y, x)
    predicted = x > 0 if task == "multilabel" else x.argmax(axis=1)
    if metric == "accuracy":
        return float(sk.accuracy_score(y, predicted))
    if metric == "balanced_accuracy":
        return float(sk.balanced_accuracy_score(y, predicted))
    return float(sk.f1_score(y, predicted, average="macro" if metric == "macro_f1" else "micro"))


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@settings(max_examples=40, deadline=None)
@given(
    case=st.sampled_from([
        ("binary", "roc_auc"), ("binary", "average_precision"), ("multilabel", "roc_auc"),
        ("multilabel", "average_precision"), ("binary", "accuracy"), ("multilabel", "f1"),
        ("multiclass", "macro_f1"), ("multiclass", "balanced_accuracy"), ("multiclass", "accuracy"),
    ]),
    num_nodes=st.integers(60, 200),
    num_ranks=st.integers(1, 4),
    ties=st.booleans(),
    size=st.sampled_from([1, 5, 1000]),
    seed=st.integers(0, 10_000),
)  # fmt: skip
def test_any_metric_over_any_ranks_is_scikit_learns(
    case: tuple[Any, Any], num_nodes: int, num_ranks: int, ties: bool, size: int, seed: int
) -> None:
    task, metric = case
    assert resolve_metric(metric, task) == metric
    logits, labels, masks = example(task, num_nodes, seed, ties=ties)
    generator = torch.Generator().manual_seed(seed)
    # the last rank has no logits, where there are several: it is of an earlier stage
    owner = torch.randint(max(num_ranks - 1, 1), (num_nodes,), generator=generator)
    with pytest.MonkeyPatch.context() as patch:
        for module in (ranking, split_metrics):
            patch.setattr(module, "PIECE", size)
        scores = by_ranks(Measure(metric, task, logits.shape[1]), logits, labels, masks, owner, num_ranks)
    for split, mask in masks.items():
        expected = by_scikit_learn(metric, task, logits[mask], labels[mask])
        assert [score[split] for score in scores] == pytest.approx([expected] * num_ranks, rel=1e-12)


@pytest.mark.parametrize("metric", ["roc_auc", "average_precision"])
def test_no_message_is_larger_than_a_piece_or_two(metric: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (ranking, split_metrics):
        monkeypatch.setattr(module, "PIECE", 50)
    gathering = Gathering(1)
    logits, labels, masks = example("multilabel", 2000, 0, ties=False)
    measured = SplitMetrics(Measure(metric, "multilabel", 5))
    measured.update(logits, labels, masks)
    gather, rounds = gathering.of_rank(0), 0

    def counting(item: Any) -> list[Any]:
        nonlocal rounds
        rounds += 1
        return gather(item)

    measured.rank(counting)
    assert gathering.largest < 100
    assert rounds > 50


def test_scores_of_any_size_are_ranked_exactly() -> None:
    """As probabilities, those above 37 would tie at 1."""
    for scale in (2.0**-27, 64.0, 2.0**100):
        logits, labels, masks = example("binary", 400, 1, ties=True)
        measured = SplitMetrics(Measure("average_precision", "binary", 2))
        measured.update(logits * scale, labels, masks)
        measured.rank(lambda item: [item])
        expected = by_scikit_learn(
            "average_precision", "binary", logits[masks["test"]], labels[masks["test"]]
        )
        assert measured.compute().test == pytest.approx(expected, rel=1e-12)


def test_figures_by_class_are_scikit_learns() -> None:
    logits, labels, masks = example("multiclass", 300, 4, ties=False)
    logits[:, 3] = -9  # nobody names class 3
    measured = SplitMetrics(Measure("accuracy", "multiclass", 4))
    measured.update(logits, labels, masks)
    classes = measured.classes()
    assert classes is not None
    assert classes.reported == "test"
    truth, predicted = labels[masks["test"]].numpy(), logits[masks["test"]].argmax(1).numpy()
    expected = sk.precision_recall_fscore_support(truth, predicted, labels=range(4), zero_division=np.nan)
    table = classes.test
    for index in range(4):
        found = [table.precision(index), table.recall(index), table.f1(index), table.count[index]]
        found = [np.nan if value is None else value for value in found]
        assert found == pytest.approx([figures[index] for figures in expected], nan_ok=True)
    assert np.array_equal(classes.confusion, sk.confusion_matrix(truth, predicted, labels=range(4)))


def test_without_test_labels_figures_are_those_of_validation() -> None:
    logits, labels, masks = example("multiclass", 300, 4, ties=False)
    masks["test"] = torch.zeros(300, dtype=torch.bool)
    measured = SplitMetrics(Measure("accuracy", "multiclass", 4))
    measured.update(logits, labels, masks)
    classes = measured.classes()
    assert classes is not None
    assert (classes.reported, classes.table) == ("val", classes.val)
    assert sum(map(sum, classes.confusion)) == int(masks["val"].sum())


def test_several_labels_and_many_classes_have_no_confusion_matrix() -> None:
    for task, num_classes in (("multilabel", 5), ("multiclass", 101)):
        measured = SplitMetrics(Measure("macro_f1", task, num_classes))  # type: ignore[arg-type]
        classes = measured.classes()
        assert classes is not None
        assert classes.confusion == ()


def test_torchmetrics_agrees() -> None:
    classification = pytest.importorskip("torchmetrics.functional.classification")
    logits, labels, masks = example("multilabel", 500, 2, ties=True)
    mask, kept = masks["test"], [0, 1, 2]
    for metric, function in (
        ("roc_auc", classification.multilabel_auroc),
        ("average_precision", classification.multilabel_average_precision),
    ):
        measured = SplitMetrics(Measure(metric, "multilabel", 3))
        measured.update(logits[:, kept], labels[:, kept], masks)
        measured.rank(lambda item: [item])
        expected = function(logits[mask][:, kept].sigmoid(), labels[mask][:, kept].long(), num_labels=3)
        assert measured.compute().test == pytest.approx(float(expected), rel=1e-5)
