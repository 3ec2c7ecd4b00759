"""Losses and their gradients, chunk by chunk, are those of `torch.nn` over all training nodes at once."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn

from gnnpipe.config.run import LossConfig, LossName
from gnnpipe.errors import ConfigError
from gnnpipe.nn.loss import Loss
from tests.engine.test_waits import WAITING, Counting

TASKS = ("multiclass", "binary", "multilabel", "regression")


def example(task: str, num_nodes: int, seed: int, size: float = 3.0) -> tuple[Tensor, Tensor, Tensor]:
    """Logits and labels of all nodes in float64, and the training nodes; the last class or label is rare."""
    generator = torch.Generator().manual_seed(seed)
    columns = 2 if task == "binary" else 4
    logits = size * torch.randn(num_nodes, columns, generator=generator, dtype=torch.float64)
    if task == "regression":
        labels = torch.randn(num_nodes, columns, generator=generator, dtype=torch.float64)
    elif task == "multilabel":
        labels = (torch.rand(num_nodes, columns, generator=generator) > 0.6).double()
    else:
        labels = torch.randint(columns, (num_nodes,), generator=generator)
    mask = torch.rand(num_nodes, generator=generator) > 0.4
    mask[0] = True
    return logits, labels, mask


def torchs(config: LossConfig, task: str, weights: Tensor | None) -> nn.Module:
    """The loss of torch.nn for these settings, with the class weights as numbers."""
    if task == "regression":
        kinds: dict[str, nn.Module] = {"mae": nn.L1Loss(), "huber": nn.HuberLoss()}
        return kinds.get(config.loss, nn.MSELoss())
    if task == "multilabel":
        return nn.BCEWithLogitsLoss(pos_weight=weights)
    return nn.CrossEntropyLoss(weight=weights, label_smoothing=config.label_smoothing)


def by_torch(
    config: LossConfig, task: str, weights: Tensor | None, logits: Tensor, labels: Tensor
) -> tuple[float, Tensor]:
    """The mean loss of training nodes and its gradient, by autograd."""
    if task == "multilabel":  # torch has no smoothing here: it is that of the labels
        labels = labels * (1 - config.label_smoothing) + config.label_smoothing / 2
    logits = logits.clone().requires_grad_()
    loss = torchs(config, task, weights)(logits, labels)
    loss.backward()
    assert logits.grad is not None
    return float(loss.detach()), logits.grad


def by_chunks(
    loss: Loss, logits: Tensor, labels: Tensor, mask: Tensor, num_chunks: int
) -> tuple[float, Tensor]:
    if loss.weights is not None:
        loss = replace(loss, weights=loss.weights.double())
    total, gradients = torch.zeros((), dtype=torch.float64), []
    for nodes in torch.arange(len(logits)).tensor_split(num_chunks):
        before = logits[nodes].clone()
        of_chunk, gradient = loss.of_chunk(logits[nodes], labels[nodes], mask[nodes].nonzero().squeeze(1))
        assert torch.equal(logits[nodes], before)
        total += of_chunk
        gradients.append(gradient)
    return float(total) / loss.divisor, torch.cat(gradients)


@settings(max_examples=60, deadline=None)
@given(
    task=st.sampled_from(TASKS),
    name=st.sampled_from(["mse", "mae", "huber"]),
    numbers=st.none() | st.lists(st.integers(0, 8), min_size=4, max_size=4) | st.just("balanced"),
    smoothing=st.sampled_from([0.0, 0.1, 0.75]),
    num_nodes=st.integers(1, 40),
    num_chunks=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
def test_any_loss_is_torchs(
    task: Any, name: LossName, numbers: Any, smoothing: float, num_nodes: int, num_chunks: int, seed: int
) -> None:
    logits, labels, mask = example(task, num_nodes, seed)
    if task == "regression":
        config = LossConfig(name)
    else:
        weights = numbers if numbers in (None, "balanced") else tuple(n / 4 for n in numbers)
        weights = weights[: logits.shape[1]] if isinstance(weights, tuple) else weights
        config = LossConfig("auto", weights, smoothing)
        if isinstance(weights, tuple) and task != "multilabel":
            assume(any(weights[label] for label in labels[mask].tolist()))
    loss = Loss.of(config, task, labels, mask, logits.shape[1])
    as_numbers = None if loss.weights is None else loss.weights.double()
    expected, gradient = by_torch(config, task, as_numbers, logits[mask], labels[mask])
    found, found_gradient = by_chunks(loss, logits, labels, mask, num_chunks)
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-14)
    torch.testing.assert_close(found_gradient[mask], gradient, rtol=1e-10, atol=1e-14)
    assert not found_gradient[~mask].any()


def test_weights_as_given_are_torchs_weights() -> None:
    """In float32, as runs have them."""
    logits, labels, mask = example("multiclass", 50, 3)
    given = (0.1, 3.0, 0.0, 7.7)
    loss = Loss.of(LossConfig("auto", given), "multiclass", labels, mask, 4)
    expected = nn.CrossEntropyLoss(weight=torch.tensor(given))(logits[mask].float(), labels[mask])
    total, _ = loss.of_chunk(logits.float(), labels, mask.nonzero().squeeze(1))
    assert float(total) / loss.divisor == pytest.approx(float(expected), rel=1e-6)


def test_balanced_classes_weigh_as_scikit_learns() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.multinomial(torch.tensor([0.7, 0.25, 0.05]), 300, replacement=True, generator=generator)
    labels[:5] = -1  # no label, and so in no split
    mask = torch.arange(300) >= 100
    loss = Loss.of(LossConfig("auto", "balanced"), "multiclass", labels, mask, 4)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels[mask].numpy())
    assert loss.weights is not None
    assert loss.weights.tolist() == pytest.approx([*expected, 1.0], rel=1e-6)  # class 3 has no node
    assert loss.divisor == pytest.approx(200, rel=1e-6)


def test_balanced_labels_weigh_by_how_often_they_are_0() -> None:
    labels = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0], [torch.nan] * 3])
    mask = torch.tensor([True, True, True, False])
    loss = Loss.of(LossConfig("auto", "balanced"), "multilabel", labels, mask, 3)
    assert loss.weights is not None
    assert loss.weights.tolist() == [2.0, 1.0, 1.0]  # of labels that all or none have nothing follows
    assert loss.divisor == 3


@pytest.mark.parametrize("size", [60.0, 1e4])
@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_confident_logits_have_a_finite_loss(task: Any, size: float) -> None:
    logits, labels, mask = example(task, 60, 1, size)
    config = LossConfig("auto", "balanced", 0.1)
    loss = Loss.of(config, task, labels, mask, 4)
    total, gradient = loss.of_chunk(logits.float(), labels, mask.nonzero().squeeze(1))
    assert math.isfinite(float(total))
    assert bool(gradient.isfinite().all())


@pytest.mark.parametrize("task", TASKS)
def test_nothing_waits_for_the_device(task: Any) -> None:
    """No operation whose result the host has to know, with everything that a loss may have."""
    logits, labels, mask = example(task, 60, 1)
    config = LossConfig("huber") if task == "regression" else LossConfig("auto", "balanced", 0.1)
    loss = Loss.of(config, task, labels, mask, logits.shape[1])
    rows = mask.nonzero().squeeze(1)
    with Counting() as counting:
        loss.of_chunk(logits.float(), labels, rows)
    assert sum(counting.found.values()) > 5
    assert not WAITING & set(counting.found)


REFUSED: list[tuple[LossConfig, Any, str]] = [
    (LossConfig("mae"), "multiclass", "^loss: mae is for values to be predicted, and labels are multiclass"),
    (LossConfig("mse"), "multilabel", "^loss: mse is for values"),
    (LossConfig("auto", "balanced"), "regression", "^class-weights: it says nothing about values"),
    (LossConfig("auto", None, 0.1), "regression", "^label-smoothing: it says nothing about values"),
    (LossConfig("auto", (1.0, 2.0)), "multiclass", "^class-weights: 2 numbers for 4 classes; give one for"),
    (LossConfig("auto", (1.0,) * 5), "multilabel", "^class-weights: 5 numbers for 4 labels"),
    (
        LossConfig("auto", (0.0, 0.0, 0.0, 1.0)),
        "multiclass",
        "^class-weights: no training node is of a class",
    ),
]


@pytest.mark.parametrize(("config", "task", "message"), REFUSED)
def test_settings_that_do_not_fit_the_labels(config: LossConfig, task: Any, message: str) -> None:
    logits, labels, mask = example(task, 20, 0)
    if task == "multiclass":
        labels = labels.clamp(max=2)
    with pytest.raises(ConfigError, match=message):
        Loss.of(config, task, labels, mask, logits.shape[1])
