"""Values to be predicted, in the units that a model learns them in."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gnnpipe.graph.data import Graph


@dataclass(frozen=True)
class Standard:
    """Mean and deviation of each value over the training nodes.

    A deep network hardly learns targets of 1000: it predicts ``(value - mean) / deviation``.
    """

    mean: tuple[float, ...] = ()
    """Empty where labels are classes."""
    deviation: tuple[float, ...] = ()
    """Standard deviation; 1 where all training nodes have the same value."""


def standard_of(data: Graph) -> Standard:
    """Mean and deviation of a graph's values; of the whole graph, so that they don't depend on its cut."""
    if not data.regression:
        return Standard()
    values = _rows(data.labels)[data.train_mask].double()
    deviation = values.std(dim=0, correction=0)
    # a mean of equal numbers may be off by rounding
    constant = (values == values[0]).all(dim=0)
    return Standard(tuple(values.mean(dim=0).tolist()), tuple(deviation.masked_fill(constant, 1.0).tolist()))


def standardized(labels: Tensor, standard: Standard) -> Tensor:
    """float32 ``[num_nodes, num_values]``, as a model learns values; classes stay as they are."""
    if not standard.mean:
        return labels
    mean, deviation = (
        torch.tensor(numbers, dtype=torch.float64) for numbers in (standard.mean, standard.deviation)
    )
    return ((_rows(labels).double() - mean) / deviation).float()


def _rows(labels: Tensor) -> Tensor:
    return labels.unsqueeze(1) if labels.dim() == 1 else labels
