"""Several ranks: invariants 2, 4, 5 and 8."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gnnpipe.engine.engine import COMMUNICATION_LAYER
from gnnpipe.schedule.volume import pipeline_bytes
from tests.engine.test_exact import MODELS
from tests.graphs import random_graph
from tests.harness import Case, Outcome, run_ranks, train

ODD = 7


def cases(stages: int) -> list[Case]:
    """Every layer kind with 1, S, 4 S and an odd number of chunks; sparse features; nodes without edges."""
    graph = random_graph(60, 150, num_features=24, sparse_features=True)
    return [
        Case(graph, model, layers=5, chunks=chunks, epochs=3)
        for model in MODELS
        for chunks in sorted({1, stages, 4 * stages, ODD})
    ] + [Case(graph, model, layers=5, chunks=ODD, epochs=3, lookahead=2) for model in MODELS]


def train_all(rank: int, num_ranks: int) -> list[Outcome]:
    return [train(case, num_ranks, rank) for case in cases(num_ranks)]


@pytest.mark.parametrize("stages", [2, *(pytest.param(s, marks=pytest.mark.slow) for s in (3, 4))])
def test_stages_equal_one_process_bit_for_bit(stages: int, tmp_path: Path) -> None:
    by_rank = run_ranks(stages, train_all, folder=tmp_path)
    for index, case in enumerate(cases(stages)):
        whole = train(case)
        parts = [outcomes[index] for outcomes in by_rank]
        assert [sum(losses) for losses in zip(*(part.losses for part in parts), strict=True)] == whole.losses
        for epoch, expected in enumerate(whole.gradients):
            found = {name: g for part in parts for name, g in part.gradients[epoch].items()}
            assert found.keys() == expected.keys()
            for name, gradient in expected.items():
                assert torch.equal(found[name], gradient), (case.model, case.chunks, epoch, name)
        assert parts[-1].logits is not None
        assert whole.logits is not None
        assert torch.equal(parts[-1].logits, whole.logits)
        streams = 2 if case.model == "gcnii" else 1
        sent = sum(part.bytes_sent.get(COMMUNICATION_LAYER, 0) for part in parts)
        assert sent == case.epochs * pipeline_bytes(
            [case.hidden] * (stages - 1), case.data.num_nodes, streams
        )


def train_tiny(rank: int, num_ranks: int) -> Outcome:
    return train(tiny(), num_ranks, rank)


def tiny() -> Case:
    """One node a chunk."""
    return Case(random_graph(6, 12), "gcnii", layers=2, chunks=6)


def test_chunks_of_one_node(tmp_path: Path) -> None:
    parts = run_ranks(2, train_tiny, folder=tmp_path)
    whole = train(tiny())
    assert [sum(losses) for losses in zip(*(part.losses for part in parts), strict=True)] == whole.losses


def fail_on_one(rank: int, num_ranks: int) -> None:
    if rank == 1:
        raise ZeroDivisionError("on purpose")
    torch.distributed.barrier()


def test_harness_reports_the_rank_that_failed_first(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="rank 1 failed first"):
        run_ranks(2, fail_on_one, folder=tmp_path)
