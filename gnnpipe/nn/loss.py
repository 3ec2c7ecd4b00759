"""The loss of a chunk and its gradient; sums travel, division happens once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def chunk_loss(
    logits: Tensor, labels: Tensor, rows: Tensor, num_train: int, *, regression: bool = False
) -> tuple[Tensor, Tensor]:
    """Sum of the training nodes' losses in a chunk, and its share of the gradient of the *mean* loss.

    Class numbers: cross-entropy ``-log p_y``, with gradient ``p - onehot(y)``. 0/1 labels: binary
    cross-entropy, averaged over a node's labels, with gradient ``sigmoid(logit) - y``. Values (regression):
    squared error, averaged over a node's values, with gradient ``2 (logit - y)``. Gradients are written out,
    so that nothing here waits for the device.

    Args:
        logits: ``[n, num_classes]``.
        labels: ``[n]`` or ``[n, num_classes]``.
        rows: int64: the training nodes among the n.
        num_train: number of training nodes of the whole graph.
        regression: whether labels are values ``[n, num_classes]``.

    Returns:
        the sum, a tensor of one number, and the gradient of ``sum / num_train``, of the shape of ``logits``.
    """
    chosen, target = logits.detach().index_select(0, rows), labels.index_select(0, rows)
    if regression:
        num_values = labels.shape[1]
        off = chosen.sub_(target)
        total = off.square().sum() / num_values
        gradient = off.mul_(2 / (num_values * num_train))
    elif labels.dim() == 2:
        num_labels = labels.shape[1]
        total = F.binary_cross_entropy_with_logits(chosen, target, reduction="sum") / num_labels
        gradient = chosen.sigmoid_().sub_(target).div_(num_labels * num_train)
    else:
        log_p = F.log_softmax(chosen, dim=1)
        column = target.unsqueeze(1)
        total = -log_p.gather(1, column).sum()
        minus_one = torch.full_like(column, -1, dtype=log_p.dtype)
        gradient = log_p.exp_().scatter_add_(1, column, minus_one).div_(num_train)
    # nodes that are not trained on have no gradient
    return total, torch.zeros_like(logits).index_copy_(0, rows, gradient)
