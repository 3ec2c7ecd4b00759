"""An epoch asks a device for many things and waits for few: counted on a CPU, operation by operation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from gnnpipe import ops
from gnnpipe.comm.groups import Links
from gnnpipe.config.resolved import StalenessSettings
from gnnpipe.engine.nonfinite import finite_gradients
from gnnpipe.engine.replay import replayed
from gnnpipe.ops.mix import Mix
from gnnpipe.ops.torch import TorchOps
from gnnpipe.schedule.staleness import chunk_orders
from tests.graphs import random_graph
from tests.harness import Case, make_engine, make_stage

# What needs to know numbers on the host, and so waits for a device.
WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "is_nonzero", "equal"}
# What only says how memory is to be seen or taken.
FREE = {
    *(
        "view",
        "slice",
        "select",
        "t",
        "transpose",
        "unsqueeze",
        "squeeze",
        "expand",
        "split",
        "detach",
        "alias",
    ),
    *("as_strided", "empty", "empty_like", "_unsafe_view", "diagonal", "unbind", "permute", "lift_fresh"),
    *("empty_strided", "new_empty_strided"),
}


class Counting(TorchDispatchMode):
    """Counts operations by name."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.found[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


class OneLaunchEach(TorchOps):
    """A back end whose every step is one kernel, as Triton's are; PyTorch's own operations do the work."""

    hashes_ahead = False

    def __init__(self, counting: Counting) -> None:
        self._counting = counting

    def _once(self, step: Callable[..., Any], *arguments: Any) -> Any:
        self._counting.found["kernel"] += 1
        with _disable_current_modes():
            return step(*arguments)

    def pull(self, *arguments: Any, add_to: Tensor | None = None, mix: Mix | None = None) -> Tensor:
        return self._once(super().pull, *arguments, add_to, mix)

    def drop(self, *arguments: Any) -> None:
        self._once(super().drop, *arguments)

    def drop_back(self, *arguments: Any) -> None:
        self._once(super().drop_back, *arguments)

    def weigh(self, *arguments: Any) -> None:
        self._once(super().weigh, *arguments)


def test_an_epoch_of_32_chunks_waits_little_and_launches_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """GCNII-32; before, the host waited 1,056 times and launched 25,195 kernels."""
    case = Case(random_graph(320, 1000), "gcnii", 32, chunks=32, staleness=REUSE)
    stage = make_stage(case)
    engine, _ = make_engine(case, stage, Links())
    orders, counting = chunk_orders("shuffled", 32, 0), Counting()
    monkeypatch.setattr(ops, "of", lambda device: OneLaunchEach(counting))
    engine.run_epoch(0, next(orders))
    counting.found.clear()
    with counting:
        engine.run_epoch(1, next(orders))
        assert finite_gradients(stage)
    assert sum(counting.found[name] for name in WAITING) <= 10, counting.found
    launches = sum(count for name, count in counting.found.items() if name not in FREE)
    assert 2 * 32 * 32 < launches <= 13_000, counting.found


@pytest.mark.parametrize("gradient", ["corrected", "reuse"])
def test_fitted_weights_are_read_once_an_epoch(gradient: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rule = StalenessSettings("default", "shuffled", 1, gradient, "fitted", "dropped", 1, 0, 0)  # type: ignore[arg-type]
    case = Case(random_graph(60, 200), "gcnii", 8, chunks=4, staleness=rule)
    stage = make_stage(case)
    engine, _ = make_engine(case, stage, Links())
    engine.run_epoch(0, [0, 1, 2, 3])
    with Counting() as counting:
        engine.run_epoch(1, [2, 1, 0, 3])
    assert sum(counting.found[name] for name in WAITING) <= 20  # and not one a layer and chunk, 32


def test_a_cpu_records_nothing() -> None:
    stage = make_stage(Case(random_graph(30, 60), chunks=3))
    assert replayed(stage) is stage


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("chunks", [1, 4])
def test_recorded_graphs_give_the_same_bits(chunks: int) -> None:
    from benchmarks.gpu import check

    case = check.Case("gcnii", False, "reuse", "fp32", chunks, epochs=8)
    graph, device = check._graph(case, 900), torch.device("cuda")
    eager, replay = (check.train(case, graph, device, graphs=graphs) for graphs in (False, True))
    assert check._same(replay, eager)


REUSE = StalenessSettings("default", "shuffled", 1, "reuse", 0.7, "dropped", 1, 0, 0)
