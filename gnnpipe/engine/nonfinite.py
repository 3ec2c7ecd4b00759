"""Where numbers went wrong: the first rows of an epoch, in the order of computation, that are not finite."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from gnnpipe.engine.stage import Stage


@dataclass(frozen=True, order=True)
class NonFinite:
    """What one rank found first."""

    order: int
    """Smaller is earlier in an epoch."""
    layer: str
    what: str
    chunk: int | None
    """None where it is not of one chunk."""
    rank: int

    def __str__(self) -> str:
        chunk = "" if self.chunk is None else f" of chunk {self.chunk}"
        return f"{self.what} {self.layer}{chunk}, on rank {self.rank}"


def first_nonfinite(stage: Stage, rank: int) -> NonFinite | None:
    """What this rank's tables and gradients show of an epoch that has just ended; None if all is finite.

    What enters a layer is in its table. With one chunk, layers may share a table of gradients; then the
    gradients of weights tell.
    """
    return min(_found(stage, rank), default=None)


def finite_gradients(stage: Stage) -> bool:
    """Whether the gradients of all weights are finite, as their largest entries tell; read at once."""
    found = [gradient for _, gradient in _gradients(stage)]
    return not found or bool(torch.stack(torch._foreach_norm(found, math.inf)).isfinite().all())


def clear_nonfinite(stage: Stage) -> None:
    """Put 0 for what is not finite in the tables, as if those rows had not been computed yet.

    So too in the rows of a stale halo that the next epoch reads, once they have arrived; the other parts do
    the same.
    """
    stage.settle()
    for layer in stage.layers:
        tensors: list[Tensor] = []
        if layer.rows is not None:
            table = layer.rows.table
            tensors += [table.rows, table.newest, table.snapshot, *layer.rows.boundary.state().values()]
        if layer.gradients is not None:
            gradients = layer.gradients.table
            tensors += [gradients.rows, gradients.newest, *layer.gradients.boundary.state().values()]
            gradients.fit.nan_to_num_(0.0, 0.0, 0.0)
        for rows in tensors:
            rows.nan_to_num_(0.0, 0.0, 0.0)


def first_of(found: Iterable[NonFinite | None]) -> NonFinite | None:
    """The earliest of what all ranks found."""
    return min((item for item in found if item is not None), default=None)


def _found(stage: Stage, rank: int) -> Iterator[NonFinite]:
    last = 10**9  # behind every layer
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
    for number, data in enumerate(stage.chunks):
        if not torch.isfinite(rows[data.chunk.start : data.chunk.stop]).all():
            return number
    return None


def _gradients(stage: Stage) -> Iterator[tuple[tuple[str, int], Tensor]]:
    for layer in stage.layers:
        for weight in layer.module.parameters():
            if weight.grad is not None:
                yield (layer.spec.name, layer.spec.number), weight.grad
