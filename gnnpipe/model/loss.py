"""The loss of a chunk and its gradient; sums travel, division happens once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def chunk_loss(logits: Tensor, labels: Tensor, mask: Tensor, num_train: int) -> tuple[float, Tensor]:
    """Sum of the training nodes' losses in a chunk, and the gradient of the *mean over all chunks*.

    Cross-entropy for class numbers; for 0/1 labels binary cross-entropy, averaged over a node's labels.

    Args:
        logits: ``[n, num_classes]``.
        labels: ``[n]`` or ``[n, num_classes]``.
        mask: bool ``[n]``, the training nodes.
        num_train: training nodes of the whole graph.

    Returns:
        the sum, and the gradient with respect to ``logits`` of sum / num_train.
    """
    with torch.enable_grad():
        leaf = logits.detach().requires_grad_()
        if labels.dim() == 2:
            per_label = F.binary_cross_entropy_with_logits(leaf[mask], labels[mask], reduction="sum")
            total = per_label / labels.shape[1]
        else:
            total = F.cross_entropy(leaf[mask], labels[mask], reduction="sum")
        (gradient,) = torch.autograd.grad(total / num_train, leaf)
    return float(total.detach()), gradient
