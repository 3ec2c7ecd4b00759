"""Plans, volumes, memory and timelines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnnpipe.errors import PlanError
from gnnpipe.schedule.actions import lifo
from gnnpipe.schedule.plan import make_plan
from gnnpipe.schedule.timeline import HaloWait, RankTimeline, Span, breakdowns
from gnnpipe.schedule.volume import (
    BUCKET_BYTES,
    HaloRows,
    LayerRows,
    buckets,
    halo_bytes,
    pipeline_bytes,
    weight_bytes,
)


@given(st.integers(1, 20), st.integers(0, 100))
def test_layers_are_shared_out_evenly(stages: int, more: int) -> None:
    plan = make_plan(stages, 1, 4, stages + more, 100)
    sizes = [last - first for first, last in plan.layer_ranges]
    assert sum(sizes) == stages + more
    assert max(sizes) - min(sizes) <= 1
    assert [plan.stage_of(layer) for layer in range(stages + more)] == sorted(
        stage for stage, size in enumerate(sizes) for _ in range(size)
    )


@given(st.integers(1, 6), st.integers(1, 20))
def test_simulated_bubble_is_the_closed_form(stages: int, chunks: int) -> None:
    plan = make_plan(stages, 1, chunks, 4 * stages, 100)
    work = 2 * 4 * chunks
    assert plan.bubble == pytest.approx(1 - work / plan.makespan())


def test_makespan_of_exact_lookahead() -> None:
    """Eight stages of 4 layers, in convolutions of the whole graph either way: 5.1 with lookahead 1 over 128
    chunks, 4.9 for the stale pipeline with 32, and 32 for one chunk."""
    units = [
        make_plan(8, 1, chunks, 32, 10_000, lookahead).makespan() / 2 / chunks
        for chunks, lookahead in ((128, 1), (32, 0), (1, 0))
    ]
    assert [round(unit, 1) for unit in units] == [5.1, 4.9, 32]


@given(st.integers(1, 4), st.integers(1, 12), st.integers(0, 6))
def test_makespan_is_no_less_than_the_work(stages: int, chunks: int, lookahead: int) -> None:
    plan = make_plan(stages, 1, chunks, 2 * stages, 100, lookahead)
    assert plan.lookahead <= chunks - 1
    assert 2 * 2 * chunks <= plan.makespan() <= 2 * 2 * stages * chunks
    assert plan.makespan(0.5) == pytest.approx(1.5 * plan.makespan())


@pytest.mark.parametrize(
    ("stages", "parts", "chunks", "message"),
    [
        (0, 1, 1, "stages: 0 is too small"),
        (1, 0, 1, "parts: 0 is too small"),
        (9, 1, 1, "stages: 9 stages can't share 8 layers; use --stages 8 or fewer"),
        (1, 101, 1, "parts: 101 parts of a graph of 100 nodes would leave some empty; use --parts 100 or"),
        (2, 1, 0, "chunks: 0 does not fit a graph of 100 nodes; use 1 to 100"),
        (2, 1, 101, "chunks: 101 does not fit a graph of 100 nodes"),
        (2, 3, 34, "chunks: 34 does not fit a graph of 100 nodes in 3 parts; use 1 to 33"),
    ],
)
def test_errors(stages: int, parts: int, chunks: int, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        make_plan(stages, parts, chunks, 8, 100)


def test_published_volumes() -> None:
    """The published system's pipeline, 8 stages, hidden 100 and 1000 (gnnpipe_a5000.csv), in GiB."""
    published = {
        (89_250, 100, 1): 0.47,
        (89_250, 100, 2): 0.93,
        (232_965, 100, 1): 1.22,
        (5_201, 1000, 1): 0.27,
    }
    for (nodes, hidden, streams), gib in published.items():
        assert round(pipeline_bytes([hidden] * 7, nodes, streams) / 2**30, 2) == gib


def test_halo_volume() -> None:
    layers = [LayerRows(4, False, 0), LayerRows(0, False, 7), LayerRows(2, True, 0)]
    assert halo_bytes(layers, HaloRows(10, 3)) == 4 * (4 * 10 + 2 * 10 + 2 * 3)
    assert halo_bytes(layers, HaloRows(10, 3), versions=2) == 4 * (4 * 20 + 2 * 20 + 2 * 3)
    # the published formula, 2 L alpha N H b, for alpha = 0.5 and N = 20
    assert halo_bytes([LayerRows(8, True, 0)] * 32, HaloRows(10, 10)) == 2 * 32 * 0.5 * 20 * 8 * 4


@given(st.lists(st.integers(0, 2 * BUCKET_BYTES // 4), max_size=12))
def test_buckets_hold_each_layer_once_in_backward_order(sizes: list[int]) -> None:
    found = buckets(sizes)
    assert [layer for bucket in found for layer in bucket] == list(reversed(range(len(sizes))))
    assert all(4 * sum(sizes[layer] for layer in bucket) >= BUCKET_BYTES for bucket in found[:-1])


def test_weight_volume() -> None:
    assert weight_bytes([10, 20, 5], [0, 0, 1], 1) == 0
    assert weight_bytes([10, 20, 5], [0, 0, 1], 2) == 2 * 4 * (30 + 6)  # 5 numbers are padded to 6
    assert weight_bytes([0, 20, 5], [0, 0, 1], 1, num_shared=9) == 2 * 4 * 10
    assert weight_bytes([0, 20, 4], [0, 0, 1], 2, num_shared=9) == 2 * 4 * (20 + 4) + 2 * 3 * 4 * 12


def test_bytes_between_stages() -> None:
    assert pipeline_bytes([8, 8], 10, 2, "bf16") == 2 * 2 * 10 * 8 * 2 * 2
    assert pipeline_bytes([8, 8], 10, 1, "int8") == 2 * 2 * 10 * (8 + 4)


def test_breakdown_adds_up_and_tells_bubble_from_message() -> None:
    # stage 0  F0 B0      computes 0-1 and 5-6; asks for B0 at 1
    # stage 1     F0 B0   asks for F0 at 0, gets it at 1.5 (sent at 1); computes 1.5-3 and 3-4
    timeline = [
        RankTimeline([Span(0, 0, 1), Span(1, 5, 6)], 6),
        RankTimeline([Span(0, 1.5, 3), Span(3, 3, 4)], 4),
    ]
    first, second = breakdowns(timeline, lifo(2, 1), seconds=6.5)
    assert (first.compute, first.bubble, first.communication_layer, first.other) == (2, 3, 1, 0.5)
    assert (second.compute, second.bubble, second.communication_layer, second.other) == (2.5, 3, 0.5, 0.5)


def test_breakdown_tells_a_late_part_from_a_late_message() -> None:
    # one stage, two parts: part 1 posts at 2, the rows are there at 3, part 0 asked at 1
    early = RankTimeline([Span(0, 0, 4, (HaloWait(0.5, 1, 3),)), Span(4, 4, 5)], 5.5)
    late = RankTimeline([Span(0, 0, 4, (HaloWait(2, 2.5, 3),)), Span(4, 4, 5)], 5.5)
    first, second = breakdowns([early, late], lifo(1, 1), seconds=6)
    assert (first.imbalance, first.communication_graph, first.compute) == (1, 1.5, 3)
    assert (second.imbalance, second.communication_graph, second.compute) == (0, 1, 4.5)
    assert (first.bubble, first.communication_layer, first.other) == (0, 0, 0.5)


def test_messages_take_time_of_both_their_ranks() -> None:
    # 2 stages of 1 layer, 1 chunk: F of stage 0 sends, F of stage 1 receives; back the same the other way
    plan = make_plan(2, 1, 1, 2, 10)
    assert plan.makespan(message=0.25) == pytest.approx(4 + 4 * 0.25)
    assert make_plan(1, 1, 3, 2, 10).makespan(message=9.0) == pytest.approx(12)


@given(st.integers(1, 4), st.integers(2, 9), st.integers(0, 2), st.data())
def test_chunks_of_unequal_work(stages: int, chunks: int, lookahead: int, data: st.DataObject) -> None:
    plan = make_plan(stages, 1, chunks, stages, 100, lookahead)
    assert plan.makespan(shares=[1.0] * chunks) == pytest.approx(plan.makespan())
    assert plan.bubble_of([1.0] * chunks) == pytest.approx(plan.bubble)
    shares = data.draw(st.lists(st.floats(0.1, 3), min_size=chunks, max_size=chunks))
    if stages == 1:  # nothing is waited for: every chunk both ways
        assert plan.makespan(shares=shares) == pytest.approx(2 * sum(shares))
    else:
        assert plan.makespan(shares=shares) >= 2 * sum(shares) - 1e-9
