"""The loss of a chunk and its gradient; sums travel, division happens once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def chunk_loss(logits: Tensor, labels: Tensor, rows: Tensor, num_train: int) -> tuple[Tensor, Tensor]:
    """Sum of the training nodes' losses in a chunk, and the gradient of the *mean over all chunks*.

    Cross-entropy for class numbers; for 0/1 labels binary cross-entropy, averaged over a node's labels. The
    derivative is written out, and nothing here waits for a device.

    Args:
        logits: ``[n, num_classes]``.
        labels: ``[n]`` or ``[n, num_classes]``.
        rows: int64, the training nodes among the n.
        num_train: training nodes of the whole graph.

    Returns:
        the sum, a tensor of one number, and the gradient with respect to ``logits`` of sum / num_train.
    """
    chosen, target = logits.detach().index_select(0, rows), labels.index_select(0, rows)
    if labels.dim() == 2:
        num_labels = labels.shape[1]
        total = F.binary_cross_entropy_with_logits(chosen, target, reduction="sum") / num_labels
        found = chosen.sigmoid_().sub_(target).div_(num_labels * num_train)
    else:
        found = F.log_softmax(chosen, dim=1)
        column = target.unsqueeze(1)
        total = -found.gather(1, column).sum()
        found.exp_().scatter_add_(1, column, torch.full_like(column, -1, dtype=found.dtype)).div_(num_train)
    return total, torch.zeros_like(logits).index_copy_(0, rows, found)
