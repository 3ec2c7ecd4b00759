"""A stage's work on each chunk as recorded CUDA graphs: one launch a chunk, not one a kernel.

A chunk's forward, backward and weight products are the same operations on the same memory in every epoch;
only the order of the chunks changes. So each is recorded as a graph of its own, replayed in any order.

    # epoch 1   without graphs: kernels are compiled, libraries warm up
    # epoch 2   F2: record, replay | F0: record, replay | ... | B0: record, replay | ...
    # epoch 3   F1: replay | F2: replay | ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from gnnpipe.engine.stage import Stage
from gnnpipe.schedule.actions import Action

Result = tuple[Tensor | None, Tensor | None]


@dataclass(frozen=True)
class Recorded:
    """One action of one chunk."""

    graph: torch.cuda.CUDAGraph
    """The recorded kernels."""
    rows: Tensor | None
    """Buffer from which the graph reads the rows of a neighbour; None if it reads none."""
    result: Result
    """Buffers in which the graph leaves its results."""
    alive: list[Tensor]
    """Tensors that other graphs read. A reference keeps their memory from being handed out again."""

    def replay(self, rows: Tensor | None) -> Result:
        """Run the action on ``rows``. Results are copies, which a neighbour may read while graphs go on."""
        if self.rows is not None and rows is not None:
            self.rows.copy_(rows)
        self.graph.replay()
        out, loss = self.result
        return None if out is None else out.clone(), None if loss is None else loss.clone()


class Replay:
    """Stands in for a stage in the engine; see `Stage` for what the methods take and return.

    Args:
        stage: on a CUDA device, whose work `repeats`.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._warm = False
        self._addresses: list[int] = []
        self._stream = torch.cuda.Stream(stage.device)
        self._last = 0
        self._forget()

    def _forget(self) -> None:
        self._recorded: dict[tuple[str, int], Recorded | None] = {}
        # Backward graphs share one memory pool: what one leaves is used up before the next one runs.
        self._pool = torch.cuda.graph_pool_handle()

    def begin_epoch(self, epoch: int, order: list[int]) -> None:
        """Begin the stage's epoch; record anew if weights or gradients have moved."""
        self._stage.begin_epoch(epoch, order)
        weights = list(self._stage.modules.parameters())
        addresses = [tensor.data_ptr() for tensor in weights]
        addresses += [weight.grad.data_ptr() for weight in weights if weight.grad is not None]
        self._warm = bool(self._addresses)
        if addresses != self._addresses:
            self._forget()
        self._addresses = addresses

    def prepare(self) -> None:
        """Compute what depends on the weights alone."""

        def work(_: Tensor | None) -> tuple[Result, list[Tensor]]:
            self._stage.prepare()
            return (None, None), []

        if self._stage.prepares:  # CUDA refuses to replay an empty graph
            self._run(("prepare", 0), None, work)

    def forward(self, action: Action, rows: Tensor | None) -> Result:
        """A chunk forward."""
        index = self._stage.entering(action)

        def work(rows: Tensor | None) -> tuple[Result, list[Tensor]]:
            result = self._stage.forward(action, rows)
            return result, list(_tensors(self._stage.kept_of(index)))

        return self._run(("forward", index), rows, work)

    def backward(self, action: Action, rows: Tensor | None) -> Tensor | None:
        """A chunk backward."""
        self._last = self._stage.entering(action)

        def work(rows: Tensor | None) -> tuple[Result, list[Tensor]]:
            return (self._stage.backward(action, rows), None), []

        return self._run(("backward", self._last), rows, work)[0]

    def add_products(self) -> None:
        """Compute the gradients of weights that the chunk which ran backward last has left."""

        def work(_: Tensor | None) -> tuple[Result, list[Tensor]]:
            self._stage.add_products()
            return (None, None), []

        key = ("products", self._last)
        if self._warm and key not in self._recorded and not self._stage.owes_products:
            self._recorded[key] = None  # CUDA refuses to replay an empty graph
        self._run(key, None, work)

    def _run(
        self,
        key: tuple[str, int],
        rows: Tensor | None,
        work: Callable[[Tensor | None], tuple[Result, list[Tensor]]],
    ) -> Result:
        if not self._warm:
            return work(rows)[0]
        if key not in self._recorded:
            self._recorded[key] = self._record(key[0], rows, work)
        recorded = self._recorded[key]
        return (None, None) if recorded is None else recorded.replay(rows)

    def _record(
        self,
        kind: str,
        rows: Tensor | None,
        work: Callable[[Tensor | None], tuple[Result, list[Tensor]]],
    ) -> Recorded:
        """Record an action without running its kernels; Python's part of it does run.

        Args:
            kind: forward, backward or products.
            rows: rows from a neighbour, for their shape.
            work: the action; returns its results and the tensors to keep alive.
        """
        if not self._recorded and self._stage.place.num_stages == 1:
            # Give back the memory of the epoch without graphs. That waits for the whole device, and so for a
            # receive that is posted; the neighbour may send only after this chunk.
            torch.cuda.empty_cache()
        # Each forward graph has a pool of its own. In a shared one the saved activations of a chunk could lie
        # where another chunk's forward has its intermediate rows: recorded earlier, but replayed later.
        #
        #     recorded   F0 | F1      F1's saved activations reuse what F0 has freed
        #     replayed   F1 | F0      F0 would overwrite them
        pool = None if kind == "forward" else self._pool
        graph, into = torch.cuda.CUDAGraph(), None if rows is None else torch.empty_like(rows)
        now = torch.cuda.current_stream(self._stage.device)
        self._stream.wait_stream(now)
        with torch.cuda.stream(self._stream):
            # thread_local: threads that watch over messages may go on calling CUDA during the capture
            graph.capture_begin(pool=pool, capture_error_mode="thread_local")
            try:
                result, alive = work(into)
            finally:
                graph.capture_end()
        now.wait_stream(self._stream)
        return Recorded(graph, into, result, alive)


def replayed(stage: Stage) -> Stage | Replay:
    """The stage's work as recorded graphs, where that is possible; else the stage."""
    return Replay(stage) if stage.device.type == "cuda" and stage.repeats else stage


def _tensors(item: Any) -> Iterator[Tensor]:
    """All tensors that an object holds, in containers and dataclasses too."""
    if isinstance(item, Tensor):
        yield item
    elif isinstance(item, list | tuple):
        for each in item:
            yield from _tensors(each)
    elif is_dataclass(item):
        for each in fields(item):
            yield from _tensors(getattr(item, each.name, None))  # not set yet
