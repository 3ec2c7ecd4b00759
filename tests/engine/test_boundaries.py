"""What crosses stage boundaries: fewer bytes a row, and initial rows that don't cross at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gnnpipe.comm.wire import Wire
from gnnpipe.config.run import WireFormat
from gnnpipe.schedule.staleness import chunk_orders
from tests.engine.test_exact import assert_same_training
from tests.engine.test_parts import assert_bytes_as_predicted, assert_same_logits, merged
from tests.graphs import random_graph
from tests.harness import Case, Outcome, descend, gradients, make_stage, run_ranks, train
from tests.reference import exact_epochs


@given(st.integers(0, 5), st.integers(1, 9), st.floats(-20, 20), st.integers(0, 10**6))
def test_int8_is_off_by_half_a_step_or_by_one(n: int, width: int, size: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(2, n, width, generator=generator) * 10.0**size
    noise = torch.randint(0, 256, rows.shape, generator=generator, dtype=torch.uint8)
    wire = Wire("int8")
    step = rows.abs().amax(dim=-1, keepdim=True) / 127 if rows.numel() else rows
    assert wire.encode(rows).shape == wire.message((2, n, width))[0]
    # and float32 arithmetic on numbers of up to 127 steps
    decoded = wire.decode(wire.encode(rows))
    small = (rows > 0) & (rows < step)
    assert ((decoded - rows).abs() <= 0.501 * step)[~small].all()
    assert ((decoded - rows).abs() <= 1.001 * step).all()
    assert torch.equal(decoded > 0, rows > 0)  # what a ReLU let through still shows
    assert ((wire.decode(wire.encode(rows, noise)) - rows).abs() <= 1.001 * step).all()


def test_random_rounding_is_right_on_average() -> None:
    rows = torch.randn(1, 50, 16, generator=torch.Generator().manual_seed(0))
    wire = Wire("int8")
    every = [torch.full(rows.shape, byte, dtype=torch.uint8) for byte in range(256)]
    mean = torch.stack([wire.decode(wire.encode(rows, noise)) for noise in every]).mean(dim=0)
    step = rows.abs().amax(dim=-1, keepdim=True) / 127
    # 256 values of the noise resolve a step into as many; the rest is float32 rounding of sums
    assert ((mean - rows).abs() <= step / 256).all()


def test_rows_of_zeros_stay_so() -> None:
    wire = Wire("int8")
    assert torch.equal(wire.decode(wire.encode(torch.zeros(1, 3, 4))), torch.zeros(1, 3, 4))


def test_bf16_keeps_eight_bits() -> None:
    rows = torch.randn(2, 5, 6)
    torch.testing.assert_close(Wire("bf16").decode(Wire("bf16").encode(rows)), rows, rtol=2**-8, atol=0)


def coded(wire: WireFormat) -> Case:
    return Case(random_graph(60, 240), "gcnii", 4, chunks=3, wire=wire, epochs=3)


def train_coded(rank: int, num_ranks: int) -> list[Outcome]:
    return [train(coded(wire), num_ranks, rank) for wire in ("bf16", "int8")]


def by_hand(case: Case) -> Outcome:
    """Two stages in one process; what they hand over goes through the code."""
    graph, wire = case.graph(), Wire(case.wire)
    first, second = (make_stage(case, 2, rank, graph) for rank in (0, 1))
    orders = chunk_orders(case.staleness.order or "fixed", case.chunks, case.seed)
    outcome = Outcome([], [], {}, None)

    def across(rows: Tensor | None, noise: Tensor | None = None) -> Tensor:
        assert rows is not None
        return wire.decode(wire.encode(rows, noise))

    for epoch in range(case.epochs):
        order = next(orders)
        for stage in (first, second):
            stage.begin_epoch(epoch, order)
            stage.prepare()
        actions = case.plan(2).schedule.stages[0]
        losses = [
            float(second.forward(action, across(first.forward(action, None)[0]))[1])
            for action in actions[: case.chunks]
        ]
        for action in actions[case.chunks :]:
            back = second.backward(action, None)
            second.add_products()
            noise = second.noise(action.leaves) if case.wire == "int8" else None
            first.backward(action, across(back, noise))
            first.add_products()
        outcome.losses.append(sum(losses) / first.loss.divisor)
        outcome.gradients.append(gradients(first) | gradients(second))
        for stage in (first, second):
            descend(stage)
    return outcome


@pytest.mark.slow
def test_stages_see_decoded_rows_and_count_encoded_bytes(tmp_path: Path) -> None:
    by_rank = run_ranks(2, train_coded, folder=tmp_path)
    plain = train(coded("fp32"))
    for index, wire in enumerate(("bf16", "int8")):
        outcomes = [found[index] for found in by_rank]
        ours, expected = merged(outcomes, 1), by_hand(coded(wire))
        assert ours.losses == expected.losses
        for mine, theirs in zip(ours.gradients, expected.gradients, strict=True):
            assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
        assert_bytes_as_predicted(coded(wire), 2, outcomes)
        assert ours.losses != plain.losses
        assert ours.losses == pytest.approx(
            plain.losses, rel=0.02
        )  # a step is 1/127 of a row's largest entry


def recomputed(num_parts: int) -> list[Case]:
    sparse = random_graph(60, 200, num_features=24, sparse_features=True)
    case = Case(sparse, "gcnii", 4, parts=num_parts, initial="recompute")
    return [
        case,
        replace(case, data=random_graph(60, 200)),
        replace(case, chunks=4),
        replace(case, model="gcn"),
    ]


def train_recomputed(rank: int, num_ranks: int, num_parts: int) -> list[Outcome]:
    return [train(case, num_ranks // num_parts, rank) for case in recomputed(num_parts)]


@pytest.mark.parametrize(
    ("stages", "parts"), [(2, 1), *(pytest.param(*plan, marks=pytest.mark.slow) for plan in ((3, 1), (2, 2)))]
)
def test_recomputed_initial_rows_change_nothing_but_bytes(stages: int, parts: int, tmp_path: Path) -> None:
    """All ranks agree on the shared weights' gradients bit for bit (`merged`)."""
    by_rank = run_ranks(stages * parts, train_recomputed, parts, folder=tmp_path)
    for index, case in enumerate(recomputed(parts)):
        outcomes = [found[index] for found in by_rank]
        reference = exact_epochs(case) if case.chunks == 1 else in_one_process(case)
        ours = merged(outcomes, parts)
        assert_same_training(ours, reference)
        assert_same_logits(ours, reference)
        assert_bytes_as_predicted(case, stages, outcomes)


def in_one_process(case: Case) -> Outcome:
    from tests.reference import stale_epochs

    return stale_epochs(case, case.graph())
