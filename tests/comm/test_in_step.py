"""Messages and computing kept apart, as CUDA needs while kernels are loaded; waits that a device does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from gnnpipe.comm import transport, watchdog
from gnnpipe.comm.transport import Carrier
from gnnpipe.comm.watchdog import Waiting, WaitTimeoutError
from gnnpipe.engine.stage import Stage
from gnnpipe.system import memory
from gnnpipe.system.memory import copy_to_host
from tests.graphs import random_graph
from tests.harness import Case, Outcome, run_ranks, train

CASE = Case(random_graph(60, 200), layers=6)
CASES = [
    CASE,  # one chunk: the receive of the gradient is posted before anything was computed
    replace(CASE, chunks=3, wire="int8"),
    replace(CASE, chunks=3, parts=2, initial="recompute", tables="bf16"),
    replace(CASE, chunks=2, parts=2, halo="stale"),
]


class Tracked(transport.Transfer):
    """A transfer that is known while it is under way."""

    under_way: ClassVar[list[Tracked]] = []

    def __post_init__(self) -> None:
        if not callable(self.work):  # else it is posted by `wait`
            self.under_way.append(self)

    def wait(self) -> None:
        super().wait()
        if self in self.under_way:
            self.under_way.remove(self)


def watched(rank: int, num_ranks: int, cases: list[Case]) -> list[tuple[int, Outcome, Outcome]]:
    """For each case most transfers under way while a chunk is computed in step; outcomes in step and not."""
    most = 0
    forward, backward = Stage.forward, Stage.backward

    def look(function: Any) -> Any:
        def compute(*arguments: Any) -> Any:
            nonlocal most
            most = max(most, len(Tracked.under_way))
            return function(*arguments)

        return compute

    found = []
    for case in cases:
        plain = train(case, num_ranks // case.parts, rank)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(transport, "Transfer", Tracked)
            patch.setattr(Stage, "forward", look(forward))
            patch.setattr(Stage, "backward", look(backward))
            most = 0
            in_step = train(case, num_ranks // case.parts, rank, in_step=True)
        found.append((most, in_step, plain))
    return found


@pytest.mark.slow
def test_no_message_is_under_way_while_a_chunk_is_computed(tmp_path: Path) -> None:
    """And numbers are the same, bit for bit. Gloo's sends end when they are received, as NCCL's do."""
    for rank in run_ranks(4, watched, CASES, folder=tmp_path):
        for under_way, in_step, plain in rank:
            assert under_way == 0
            assert in_step.losses == plain.losses
            assert in_step.bytes_sent == plain.bytes_sent
            for ours, expected in zip(in_step.gradients, plain.gradients, strict=True):
                assert all(torch.equal(ours[name], expected[name]) for name in ours)


def test_only_the_first_time_of_a_kind_goes_in_step() -> None:
    carrier, seen = Carrier(loads_lazily=True), []
    for work in ("epoch", "epoch", "evaluation", "epoch", "evaluation"):
        with carrier.first_time(work):
            seen.append(carrier.in_step)
        assert not carrier.in_step
    assert seen == [True, False, True, False, False]
    with Carrier().first_time("epoch"):
        assert not Carrier().in_step


class Event:
    """Happens after it was asked for a number of times."""

    def __init__(self, after: int) -> None:
        self._after = after

    def query(self) -> bool:
        self._after -= 1
        return self._after < 0


def device_that_waits(monkeypatch: pytest.MonkeyPatch, *events: Event) -> None:
    left = list(events)
    monkeypatch.setattr(watchdog.devices, "mark", lambda _: left.pop(0))


def test_waits_of_the_device_are_waited_for_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    device_that_waits(monkeypatch, Event(0), Event(3))
    waiting = Waiting(1, timeout=60.0)
    for sender in ("rows of stage 0", "rows of stage 2"):
        waiting.later(sender, torch.device("cuda"))
    waiting.settle()
    waiting.settle()  # nothing is left


def test_a_wait_of_the_device_that_is_in_vain_names_the_culprit(monkeypatch: pytest.MonkeyPatch) -> None:
    device_that_waits(monkeypatch, Event(2), Event(10**9))
    waiting = Waiting(1, timeout=0.05)
    for sender in ("rows of stage 0 (rank 0)", "rows of stage 2 (rank 2)"):
        waiting.later(sender, torch.device("cuda"))
    with pytest.raises(WaitTimeoutError, match=r"waited 0.05 s \(--timeout\) in vain for rows of stage 2"):
        waiting.settle()


def test_on_a_cpu_nothing_is_noted() -> None:
    waiting = Waiting()
    waiting.later("rows", torch.device("cpu"))
    waiting.settle()


def test_copies_to_the_host_are_waited_for_together(monkeypatch: pytest.MonkeyPatch) -> None:
    finished: list[torch.device] = []
    monkeypatch.setattr(memory, "finish", finished.append)
    sources = [torch.arange(3), torch.ones(2, 2)]
    targets = [memory.host_like(source) for source in sources]
    copy_to_host(zip(sources, targets, strict=True))
    assert all(torch.equal(*pair) for pair in zip(sources, targets, strict=True))
    assert finished == [torch.device("cpu")]


def test_host_copies_of_rows_on_a_device_are_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others would make the host wait for each of them."""
    asked: list[bool] = []
    empty = torch.empty

    def note(*arguments: Any, pin_memory: bool = False, **options: Any) -> torch.Tensor:
        asked.append(pin_memory)
        return empty(*arguments, **options)

    monkeypatch.setattr(torch, "empty", note)

    class OnDevice:
        is_cuda, shape, dtype = True, (2, 3), torch.float32

    memory.host_like(OnDevice())  # type: ignore[arg-type]
    memory.host_like(torch.ones(2))
    assert asked == [True, False]
