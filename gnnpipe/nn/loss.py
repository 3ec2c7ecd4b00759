"""The loss of a chunk and its gradient; sums travel, division happens once.

Gradients are written out, so that nothing here waits for the device. With ``x`` the logits of a training
node, ``y`` its label, ``s`` the label smoothing and ``C`` the number of classes or labels:

    classes         p = softmax(x), w the weight of a class
                    loss      (1 - s) w_y (-log p_y)  +  s/C sum_c w_c (-log p_c)
                    gradient  A p  -  (1 - s) w_y onehot(y)  -  s/C w,   A = (1 - s) w_y + s/C sum_c w_c
                    divided by the sum of w_y over all training nodes
    several labels  q = sigmoid(x), w the weight of a label that is 1, t = (1 - s) y + s/2
                    loss      w t (-log q)  +  (1 - t) (-log (1 - q))
                    gradient  (1 + (w - 1) t) q  -  w t
                    divided by C and the number of training nodes
    values          d = x - y: squared d^2, absolute |d|, Huber d^2 / 2 up to |d| = 1 and |d| - 1/2 from there
                    divided by the number of values and of training nodes

They equal `torch.nn`'s CrossEntropyLoss (weight, label_smoothing), BCEWithLogitsLoss (pos_weight), MSELoss,
L1Loss and HuberLoss.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from gnnpipe.config.run import BALANCED, LossConfig
from gnnpipe.errors import ConfigError
from gnnpipe.graph.data import Task

Form = Literal["classes", "labels", "mse", "mae", "huber"]
"""Cross-entropy, binary cross-entropy of several labels a node, or a loss of values."""


@dataclass(frozen=True)
class Loss:
    """The mean loss of a graph's training nodes."""

    form: Form
    divisor: float
    """Sum of the training nodes' weights over the whole graph; without weights, their number."""
    weights: Tensor | None = None
    """float32 ``[num_classes]``: weight of each class, or of each label where it is 1; None: all are 1."""
    smoothing: float = 0.0

    @classmethod
    def of(
        cls, settings: LossConfig, task: Task, labels: Tensor, train_mask: Tensor, num_classes: int
    ) -> Loss:
        """The loss that was asked for. It depends on all training labels, so each rank is given the whole
        graph's, and they agree to the bit.

        Args:
            settings: loss, class weights and smoothing.
            task: kind of labels.
            labels: of all nodes, in any order.
            train_mask: training nodes among them.
            num_classes: number of classes, labels or values.

        Raises:
            ConfigError: the settings don't fit the labels.
        """
        _check_fits(settings, task, num_classes)
        num_train = int(train_mask.sum())
        if task == "regression":
            return cls("mse" if settings.loss == "auto" else settings.loss, num_train)
        form: Form = "labels" if task == "multilabel" else "classes"
        plain = cls(form, num_train, None, settings.label_smoothing)
        if settings.class_weights is None:
            return plain
        known = labels[train_mask]
        counts = known.sum(dim=0) if form == "labels" else known.bincount(minlength=num_classes)
        weights = _weights(settings.class_weights, form, counts.double(), num_train).float()
        if form == "labels":
            return replace(plain, weights=weights)
        divisor = float((weights.double() * counts).sum())
        if not divisor:
            raise ConfigError(
                "class-weights: no training node is of a class that has a weight, so there is nothing to "
                "train on; give those classes one"
            )
        return replace(plain, weights=weights, divisor=divisor)

    def on(self, device: torch.device) -> Loss:
        """The same loss, for logits on a device."""
        return self if self.weights is None else replace(self, weights=self.weights.to(device))

    def of_chunk(self, logits: Tensor, labels: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Sum of the training nodes' losses in a chunk, and its share of the gradient of the *mean* loss.

        Args:
            logits: ``[n, num_classes]``.
            labels: ``[n]`` or ``[n, num_classes]``.
            rows: int64: the training nodes among the n.

        Returns:
            the sum, a tensor of one number, and the gradient of ``sum / divisor``, as large as ``logits``.
        """
        chosen, target = logits.detach().index_select(0, rows), labels.index_select(0, rows)
        weights = None if self.weights is None else self.weights.to(chosen.dtype)
        if self.form == "classes":
            total, gradient = _of_classes(chosen, target, weights, self.smoothing)
            gradient = gradient.div_(self.divisor)
        else:
            num_columns = labels.shape[1]
            if self.form == "labels":
                total, gradient = _of_labels(chosen, target, weights, self.smoothing)
                gradient = gradient.div_(num_columns * self.divisor)
            else:
                total, gradient, factor = _OF_VALUES[self.form](chosen.sub_(target))
                gradient = gradient.mul_(factor / (num_columns * self.divisor))
            total = total / num_columns
        # nodes that are not trained on have no gradient
        return total, torch.zeros_like(logits).index_copy_(0, rows, gradient)


def _of_classes(
    logits: Tensor, target: Tensor, weights: Tensor | None, smoothing: float
) -> tuple[Tensor, Tensor]:
    """Cross-entropy's sum and its gradient, by the formulas above; ``logits`` are overwritten."""
    log_p = F.log_softmax(logits, dim=1)
    column = target.unsqueeze(1)
    if weights is None and not smoothing:  # the usual loss needs no pass of its own over the logits
        total = -log_p.gather(1, column).sum()
        return total, log_p.exp_().scatter_add_(1, column, torch.full_like(column, -1, dtype=log_p.dtype))
    if weights is None:
        weights = torch.ones(logits.shape[1], dtype=log_p.dtype, device=log_p.device)
    share = smoothing / logits.shape[1] * weights
    own = (1 - smoothing) * weights[column]
    total = -(own * log_p.gather(1, column)).sum()
    if smoothing:
        total = total - (share * log_p.sum(dim=0)).sum()
    gradient = log_p.exp_().mul_(own + share.sum())
    if smoothing:
        gradient = gradient.sub_(share)
    return total, gradient.scatter_add_(1, column, -own)


def _of_labels(
    logits: Tensor, target: Tensor, weights: Tensor | None, smoothing: float
) -> tuple[Tensor, Tensor]:
    """Binary cross-entropy's sum and its gradient; ``logits`` and ``target`` are overwritten."""
    if smoothing:
        target = target.mul_(1 - smoothing).add_(smoothing / 2)
    if weights is None:
        total = F.binary_cross_entropy_with_logits(logits, target, reduction="sum")
        return total, logits.sigmoid_().sub_(target)
    # w t softplus(-x) + (1 - t) softplus(x) = slope softplus(-x) + x - t x, as softplus(x) = softplus(-x) + x
    slope = target * (weights - 1) + 1
    losses = F.softplus(-logits).mul_(slope).add_(logits).addcmul_(target, logits, value=-1)
    return losses.sum(), logits.sigmoid_().mul_(slope).sub_(target.mul_(weights))


# Losses of values: from the differences to the sum, its gradient, and a factor of the gradient. Differences
# are overwritten.
_OF_VALUES: dict[str, Callable[[Tensor], tuple[Tensor, Tensor, float]]] = {
    "mse": lambda off: (off.square().sum(), off, 2.0),
    "mae": lambda off: (off.abs().sum(), off.sign_(), 1.0),
    "huber": lambda off: (F.huber_loss(off, torch.zeros_like(off), reduction="sum"), off.clamp_(-1, 1), 1.0),
}


def _weights(asked: str | tuple[float, ...], form: Form, counts: Tensor, num_train: int) -> Tensor:
    """float64 ``[num_classes]``: the weight of each class or label.

    Args:
        asked: numbers, or balanced.
        form: classes, or several labels.
        counts: training nodes of each class, or with each label.
        num_train: training nodes.
    """
    if asked != BALANCED:
        return torch.tensor(asked, dtype=torch.float64)
    if form == "labels":
        weights = (num_train - counts) / counts
    else:  # scikit-learn's: nodes weigh 1 on average
        weights = num_train / (int((counts > 0).sum()) * counts)
    # of what no training node has there is no telling; a label that all have needs no weight either
    return weights.masked_fill((counts == 0) | (weights == 0), 1.0)


def _check_fits(settings: LossConfig, task: Task, num_classes: int) -> None:
    if task != "regression" and settings.loss != "auto":
        raise ConfigError(
            f"loss: {settings.loss} is for values to be predicted, and labels are {task}; leave it out, or "
            "give --task regression"
        )
    weights = settings.class_weights
    for key, given in (("class-weights", weights), ("label-smoothing", settings.label_smoothing)):
        if task == "regression" and given:
            raise ConfigError(
                f"{key}: it says nothing about values to be predicted, which are no classes; leave it out"
            )
    if isinstance(weights, tuple) and len(weights) != num_classes:
        what = "labels" if task == "multilabel" else "classes"
        raise ConfigError(
            f"class-weights: {len(weights)} numbers for {num_classes} {what}; give one for each, in their "
            f"order, or {BALANCED}"
        )
