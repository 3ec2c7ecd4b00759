"""Rows that go by way of host memory, as those of ranks do that share a CUDA device."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from gnnpipe.comm.groups import make_links
from gnnpipe.comm.place import Place
from gnnpipe.comm.stage_links import Messages
from gnnpipe.comm.world import choose_device, sharers
from gnnpipe.errors import ConfigError
from tests.graphs import random_graph
from tests.harness import CPU, Case, Outcome, run_ranks, train


def train_both_ways(rank: int, num_ranks: int, cases: list[Case]) -> list[tuple[Outcome, Outcome]]:
    found = []
    for case in cases:
        stages = num_ranks // case.parts
        found.append((train(case, stages, rank), train(case, stages, rank, through_host=True)))
    return found


@pytest.mark.slow
def test_the_way_changes_nothing(tmp_path: Path) -> None:
    """Pipeline and hybrid, in bits of every width: losses, gradients, logits and bytes."""
    case = Case(random_graph(60, 200), chunks=3)
    cases = [
        replace(case, layers=8),
        replace(case, parts=2, wire="bf16", tables="bf16"),
        replace(case, parts=2, wire="int8", initial="recompute"),
    ]
    for direct, by_host in (
        pair for pairs in run_ranks(4, train_both_ways, cases, folder=tmp_path) for pair in pairs
    ):
        assert by_host.losses == direct.losses
        assert by_host.bytes_sent == direct.bytes_sent
        for ours, expected in zip(by_host.gradients, direct.gradients, strict=True):
            assert ours.keys() == expected.keys()
            assert all(torch.equal(ours[name], expected[name]) for name in ours)
        assert (by_host.logits is None) == (direct.logits is None)
        if by_host.logits is not None and direct.logits is not None:
            assert torch.equal(by_host.logits, direct.logits)


def write_behind_a_send(rank: int, num_ranks: int) -> list[float]:
    links = make_links(CPU, num_ranks, 1, timedelta(seconds=60), through_host=True)
    messages = Messages(Place.of_rank(rank, num_ranks, 1), CPU, links)
    rows = torch.full((3,), float(rank))
    messages.send(rows, 1, tag=0, kind="test")
    rows.fill_(-1.0)
    dist.barrier()  # gloo sends once a receive is posted
    arrived = messages.receive(-1, (3,), tag=0).wait()
    messages.flush()
    return [] if arrived is None else arrived.tolist()


@pytest.mark.slow
def test_what_is_sent_is_a_copy(tmp_path: Path) -> None:
    """Which tells that rows really go by way of another buffer: sent from where they are, they would have
    to stay as they were."""
    assert run_ranks(3, write_behind_a_send, folder=tmp_path) == [[], [0.0] * 3, [1.0] * 3]


@pytest.mark.parametrize(
    ("found", "choice", "size", "device", "on_one"),
    [
        (0, "auto", 2, "cpu", 1),
        (1, "auto", 2, "cpu", 1),  # who does not ask for it does not share
        (2, "auto", 2, "cuda:1", 1),
        (1, "cuda", 1, "cuda:0", 1),
        (1, "cuda", 4, "cuda:0", 4),
        (2, "cuda", 4, "cuda:1", 2),
        (2, "cuda", 3, "cuda:0", 2),
        (2, "cpu", 2, "cpu", 1),
    ],
)
def test_device_of_the_last_process(
    found: int, choice: str, size: int, device: str, on_one: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: found > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: found)
    chosen = choose_device(choice, size, size - 1)
    assert chosen == torch.device(device)
    assert sharers(chosen, size) == on_one


def test_no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="PyTorch sees none"):
        choose_device("cuda", 1)
