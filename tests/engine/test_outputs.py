"""Operations that write into a given tensor, whose number format no backend has to convert on the way."""

from __future__ import annotations

from typing import Any

import pytest
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gnnpipe.config.run import Model
from tests.graphs import random_graph
from tests.harness import Case, train


class Outputs(TorchDispatchMode):
    """Notes operations whose ``out`` has another format than the numbers that go into it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0
        self.mixed: set[str] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = (kwargs or {}).get("out")
        if isinstance(out, Tensor) and out.is_floating_point():
            self.seen += 1
            inputs = [
                leaf for leaf in tree_leaves(args) if isinstance(leaf, Tensor) and leaf.is_floating_point()
            ]
            if any(tensor.dtype != out.dtype for tensor in inputs):
                self.mixed.add(str(function))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("model", ["gcn", "sage", "gcnii", "resgcn"])
@pytest.mark.parametrize("sparse", [False, True])
def test_nothing_is_written_in_another_format_than_it_is_computed_in(model: Model, sparse: bool) -> None:
    """With bf16 tables, where CPUs convert and products on CUDA refuse."""
    case = Case(random_graph(60, 200, sparse_features=sparse), model=model, chunks=3, tables="bf16")
    with Outputs() as outputs:
        train(case)
    assert outputs.seen
    assert not outputs.mixed
