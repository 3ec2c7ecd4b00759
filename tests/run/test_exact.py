"""Which plan exact training takes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.sparse import load_npz

from gnnpipe.config.presets import resolve
from gnnpipe.config.resolved import Resolved
from gnnpipe.config.run import RunConfig, StalenessConfig
from gnnpipe.errors import PlanError
from gnnpipe.graph.data import Graph
from gnnpipe.graph.splits import random_split
from gnnpipe.planner.exact import exact_plan
from gnnpipe.schedule.plan import Plan
from tests.engine.test_lookahead import local_case
from tests.graphs import SHARED_DATA, grid_graph, random_graph
from tests.harness import Case, train

EXACT = StalenessConfig("exact")
GRID = grid_graph(1000, 20)


def config(staleness: StalenessConfig = EXACT, **changes: object) -> Resolved:
    return resolve(RunConfig(layers=16, stages=4, staleness=staleness, **changes))  # type: ignore[arg-type]


def plan_of(config: Resolved, data: Graph) -> Plan:
    return exact_plan(config, config.staleness, data)


def test_a_strip_is_looked_ahead_on() -> None:
    plan = plan_of(config(), GRID)
    assert plan.exact
    assert plan.lookahead == 1
    assert plan.num_chunks > 8
    assert plan.note.startswith(f"lookahead 1 over {plan.num_chunks} chunks: ")


def test_a_graph_without_locality_takes_one_chunk() -> None:
    plan = plan_of(config(), random_graph(500, 5000))
    assert (plan.num_chunks, plan.lookahead) == (1, 0)
    assert "the best pipeline, would take" in plan.note


def test_lookahead_by_itself_always_takes_a_pipeline() -> None:
    data = random_graph(500, 5000)
    plan = plan_of(config(StalenessConfig(lookahead="exact"), chunks=8), data)
    assert (plan.num_chunks, plan.exact) == (8, True)


def test_chunks_are_taken_at_their_word() -> None:
    plan = plan_of(config(chunks=10), GRID)
    assert plan.num_chunks == 10


def test_one_stage_takes_one_chunk() -> None:
    assert plan_of(replace(config(), stages=1), GRID).num_chunks == 1


def test_parts_are_strips_of_the_line() -> None:
    """Strips are folded, so that they need no more lookahead; each has its share of the line's chunks."""
    alone, parted = plan_of(config(), GRID), plan_of(replace(config(), parts=2), GRID)
    assert parted.exact
    assert (parted.num_parts, parted.lookahead) == (2, 1)
    assert 8 < parted.num_chunks <= alone.num_chunks
    with pytest.raises(PlanError, match="chunks: 20000 does not fit a graph of 20000 nodes in 2 parts"):
        plan_of(replace(config(chunks=20000), parts=2), GRID)


def test_no_lookahead_is_one_chunk() -> None:
    """As in the config.yaml of a run with another preset."""
    plan = plan_of(config(StalenessConfig("exact", lookahead=0)), GRID)
    assert plan.num_chunks == 1
    assert "--staleness.lookahead is 0" in plan.note


def test_a_tiny_graph() -> None:
    assert plan_of(config(), random_graph(5, 8)).num_chunks == 1


@pytest.mark.slow
def test_web_graph_equals_one_chunk() -> None:
    """cnr-2000 with made-up features: 50 epochs of exact lookahead, dropout on, against one chunk."""
    path = SHARED_DATA / "cnr2000" / "raw" / "adj_full.npz"
    if not path.exists():
        pytest.skip(f"real data not found in {SHARED_DATA}; set GNNPIPE_TEST_DATA to have these tests run")
    matrix = load_npz(path).tocoo()
    num_nodes = matrix.shape[0]
    generator = torch.Generator().manual_seed(0)
    data = Graph.from_edge_index(
        torch.from_numpy(np.stack([matrix.row, matrix.col]).astype(np.int64)),
        torch.randn(num_nodes, 4, generator=generator),
        torch.randint(3, (num_nodes,), generator=generator),
        random_split(num_nodes, seed=0),
        num_classes=3,
    )
    case, graph = local_case(data, 16, layers=2, hidden=4, epochs=50)
    assert case.lookahead < 8
    ours, one = train(case, graph=graph), train(Case(data, layers=2, hidden=4, epochs=50))
    torch.testing.assert_close(torch.tensor(ours.losses), torch.tensor(one.losses))


def test_a_start_weighs_less_where_rows_are_wide() -> None:
    narrow, wide = (plan_of(replace(config(), hidden=hidden), GRID) for hidden in (16, 512))
    assert narrow.num_chunks < wide.num_chunks


def test_numbers_of_chunks_beside_the_powers_of_two_are_tried() -> None:
    # a line of 1,000 groups of 20 nodes: more than 1,000 chunks would span more than neighbours
    plan = plan_of(replace(config(), hidden=512), GRID)
    candidates = [plan_of(replace(config(chunks=chunks), hidden=512), GRID) for chunks in (64, 128, 256)]
    assert plan.num_chunks not in (1, 2)
    found = float(plan.note.split(" x as fast")[0].split()[-1])
    assert all(found >= float(other.note.split(" x as fast")[0].split()[-1]) for other in candidates)
