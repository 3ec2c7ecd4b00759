"""Where numbers went wrong: the first rows in an epoch's order of computation that are not finite."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from gnnpipe.engine.stage import Stage


@dataclass(frozen=True, order=True)
class NonFinite:
    """The first rows of a rank that are not finite."""

    order: int
    """Sorts by time of computation: smaller is earlier in an epoch."""
    layer: str
    """Name of the layer."""
    what: str
    """Kind of numbers: rows, gradients of aggregates, gradients of weights."""
    chunk: int | None
    """Number of the chunk; None for weights, which belong to no chunk."""
    rank: int

    def __str__(self) -> str:
        chunk = "" if self.chunk is None else f" of chunk {self.chunk}"
        return f"{self.what} {self.layer}{chunk}, on rank {self.rank}"


def first_nonfinite(stage: Stage, rank: int) -> NonFinite | None:
    """The first numbers of an epoch that has just ended that are not finite; None if all are.

    Tables hold the rows that entered each layer. With one chunk, layers may share a gradient table, which
    holds only the last one's; then the gradients of weights tell.
    """
    return min(_all_nonfinite(stage, rank), default=None)


def finite_gradients(stage: Stage) -> Tensor:
    """Whether the gradients of all weights are finite: a bool on the device, whose reader waits for that."""
    gradients = [gradient for _, gradient in _gradients(stage)]
    if not gradients:
        return torch.ones((), dtype=torch.bool)
    return torch.stack(torch._foreach_norm(gradients, math.inf)).isfinite().all()


def clear_nonfinite(stage: Stage) -> None:
    """Replace numbers in the tables that are not finite by 0, as if those rows had not been computed yet.

    Rows of a stale halo, which the next epoch reads, are waited for and cleared as well; so all parts of a
    stage must call this together.
    """
    stage.settle()
    for layer in stage.layers:
        for rows in layer.kept_tensors():
            rows.nan_to_num_(0.0, 0.0, 0.0)


def first_of(found: Iterable[NonFinite | None]) -> NonFinite | None:
    """The earliest of those that the ranks found; None if none found any."""
    return min((of_rank for of_rank in found if of_rank is not None), default=None)


def _all_nonfinite(stage: Stage, rank: int) -> Iterator[NonFinite]:
    # An epoch computes rows from the first layer to the last, then gradients from the last to the first,
    # those of weights behind those of rows:
    #
    #     rows       0 1 2 ...                    order = number
    #     gradients            ... 2 1 0          order = 2 last - number
    #     weights                       ... 1 0   order = 3 last - number
    last = 10**9  # more than any model has layers
    for layer in stage.layers:
        number, name = layer.spec.number, layer.spec.name
        if layer.rows is not None:
            chunk = _chunk(stage, layer.rows.table.rows)
            if chunk is not None:
                yield NonFinite(number, name, "in the rows that enter", chunk, rank)
        if layer.gradients is not None:
            chunk = _chunk(stage, layer.gradients.table.rows)
            if chunk is not None:
                yield NonFinite(2 * last - number, name, "in the gradient of the aggregates of", chunk, rank)
    for (name, number), gradient in _gradients(stage):
        if not torch.isfinite(gradient).all():
            yield NonFinite(3 * last - number, name, "in the gradient of the weights of", None, rank)


def _chunk(stage: Stage, rows: Tensor) -> int | None:
    """The first chunk with a row that is not finite."""
    for index, data in enumerate(stage.chunks):
        if not torch.isfinite(rows[data.chunk.start : data.chunk.stop]).all():
            return index
    return None


def _gradients(stage: Stage) -> Iterator[tuple[tuple[str, int], Tensor]]:
    for layer in stage.layers:
        for weight in layer.module.parameters():
            if weight.grad is not None:
                yield (layer.spec.name, layer.spec.number), weight.grad
