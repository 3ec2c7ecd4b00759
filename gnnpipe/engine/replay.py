"""A stage's work on each chunk as recorded CUDA graphs: the host asks once a chunk, not kernel by kernel.

A chunk's forward, backward and weight products are the same operations on the same memory in every epoch;
only the order of the chunks changes. So each is recorded by itself, and replayed in any order.

    # epoch 1   as usual: kernels are compiled, libraries warm up
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
    rows: Tensor | None
    """Where the graph reads what comes from a neighbour."""
    result: Result
    """Where it leaves what came out."""
    alive: list[Tensor]
    """What other graphs read of it: memory that must not be given to anybody else."""

    def replay(self, rows: Tensor | None) -> Result:
        """Do it once more. The result is the caller's to keep: a neighbour may read it while others run."""
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
        # Backward graphs share memory: what one leaves behind is used up before the next one runs.
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
        """The weight products of the chunk that ran backward last."""

        def work(_: Tensor | None) -> tuple[Result, list[Tensor]]:
            self._stage.add_products()
            return (None, None), []

        key = ("products", self._last)
        if self._warm and key not in self._recorded and not self._stage.owes_products:
            self._recorded[key] = None  # an empty graph is none
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
        """Record without running: memory and Python's side of it are as if it had run."""
        if not self._recorded:
            torch.cuda.empty_cache()  # of the epoch without graphs
        # Forward graphs share nothing: what a chunk keeps until its backward lies where another chunk's
        # forward, recorded earlier but replayed later, would have its intermediate rows.
        pool = None if kind == "forward" else self._pool
        graph, into = torch.cuda.CUDAGraph(), None if rows is None else torch.empty_like(rows)
        now = torch.cuda.current_stream(self._stage.device)
        self._stream.wait_stream(now)
        with torch.cuda.stream(self._stream):
            # other threads, such as those that watch over messages, may go on talking to the device
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
