"""Plans, volumes, memory and timelines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnnpipe.base.errors import PlanError
from gnnpipe.plan.memory import PROCESS_BYTES, memory_per_rank
from gnnpipe.plan.plan import make_plan
from gnnpipe.plan.schedule import lifo
from gnnpipe.plan.timeline import Span, breakdowns
from gnnpipe.plan.volume import graph_parallel_bytes, pipeline_bytes


@given(st.integers(1, 20), st.integers(0, 100))
def test_layers_are_shared_out_evenly(stages: int, more: int) -> None:
    plan = make_plan(stages, 4, stages + more, 100)
    sizes = [last - first for first, last in plan.layer_ranges]
    assert sum(sizes) == stages + more
    assert max(sizes) - min(sizes) <= 1
    assert [plan.stage_of(layer) for layer in range(stages + more)] == sorted(
        stage for stage, size in enumerate(sizes) for _ in range(size)
    )


def test_default_chunks() -> None:
    assert make_plan(1, None, 4, 100).num_chunks == 1
    assert make_plan(2, None, 4, 100).num_chunks == 16
    assert make_plan(2, None, 4, 9).num_chunks == 9


@pytest.mark.parametrize(
    ("stages", "chunks", "message"),
    [
        (0, 1, "stages: 0 is too small"),
        (9, 1, "stages: 9 stages can't share 8 layers; use --stages 8 or fewer"),
        (2, 0, "chunks: 0 does not fit a graph of 100 nodes; use 1 to 100"),
        (2, 101, "chunks: 101 does not fit a graph of 100 nodes"),
    ],
)
def test_errors(stages: int, chunks: int, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        make_plan(stages, chunks, 8, 100)


def test_published_volumes() -> None:
    """The published system's pipeline, 8 stages, hidden 100 and 1000 (gnnpipe_a5000.csv), in GiB."""
    published = {
        (89_250, 100, 1): 0.47,
        (89_250, 100, 2): 0.93,
        (232_965, 100, 1): 1.22,
        (5_201, 1000, 1): 0.27,
    }
    for (nodes, hidden, streams), gib in published.items():
        assert round(pipeline_bytes(8, nodes, hidden, streams) / 2**30, 2) == gib


def test_graph_parallel_volume() -> None:
    assert graph_parallel_bytes([4, 4, 2], 0.5, 10) == 2 * 10 * 0.5 * 10 * 4


def test_memory_grows_with_what_is_kept() -> None:
    assert memory_per_rank([], 7, 10, 2, 0, 5) == PROCESS_BYTES + 5 * 4 * 7 + 5
    assert memory_per_rank([(4, 8)], 0, 10, 2, 0, 0) == PROCESS_BYTES + 10 * (4 * (4 + 16) + 8)


def test_breakdown_adds_up_and_tells_bubble_from_message() -> None:
    # stage 0  F0 B0      computes 0-1 and 5-6; asks for B0 at 1
    # stage 1     F0 B0   asks for F0 at 0, gets it at 1.5 (sent at 1); computes 1.5-3 and 3-4
    timeline = [[Span(0, 0, 1), Span(1, 5, 6)], [Span(0, 1.5, 3), Span(3, 3, 4)]]
    first, second = breakdowns(timeline, lifo(2, 1), seconds=6.5)
    assert (first.compute, first.bubble, first.communication_layer, first.other) == (2, 3, 1, 0.5)
    assert (second.compute, second.bubble, second.communication_layer, second.other) == (2.5, 3, 0.5, 0.5)
