"""Empty chunks, and every edge once (invariant 3)."""

from __future__ import annotations

from dataclasses import replace

import torch

from gnnpipe.comm.groups import Links
from gnnpipe.engine.chunks import TileSizes
from gnnpipe.graph.cut.chunks import Chunk
from tests.engine.test_exact import assert_same_training
from tests.graphs import dense, random_graph
from tests.harness import Case, make_engine, make_stage, train


def test_every_edge_is_aggregated_once_in_each_direction() -> None:
    case = Case(random_graph(50, 300), chunks=7, tiles=TileSizes(1, 3))
    graph = case.graph()
    stage = make_stage(case, graph=graph)
    tiles = [tile for data in stage.chunks for tile in data.tiles]
    assert len(tiles) > len(stage.chunks)
    forward = torch.cat([dense(tile.pull.now) for tile in tiles])
    backward = torch.cat([dense(tile.pull_back.now) for tile in tiles])
    assert torch.equal(forward, dense(graph.matrix))
    assert torch.equal(backward, dense(graph.matrix).T)
    assert sum(tile.pull.now.num_entries for tile in tiles) == graph.matrix.num_entries


def test_an_empty_chunk_changes_nothing() -> None:
    """METIS may leave a part empty."""
    case = Case(random_graph(30, 90), "gcnii", chunks=3)
    graph = case.graph()
    with_empty = replace(graph, ranges=((*graph.ranges[0], Chunk(30, 30)),))
    wider = case.with_(chunks=4)
    stage = make_stage(wider, graph=with_empty)
    result = make_engine(wider, stage, Links())[0].run_epoch(0, [2, 3, 0, 1]).result
    plain = make_stage(case, graph=graph)
    expected = make_engine(case, plain, Links())[0].run_epoch(0, [2, 0, 1]).result
    assert result.loss_sum == expected.loss_sum
    for mine, theirs in zip(stage.modules.parameters(), plain.modules.parameters(), strict=True):
        assert mine.grad is not None
        assert theirs.grad is not None
        torch.testing.assert_close(mine.grad, theirs.grad)


def test_no_dropout_mask_is_kept_for_the_way_back() -> None:
    case = Case(random_graph(30, 90), "gcnii", chunks=2)
    stage = make_stage(case)
    stage.begin_epoch(0, [0, 1])
    stage.prepare()
    stage.forward(case.plan(1).schedule.stages[0][0], None)
    kept = stage._passes[0]
    assert kept.masks is None
    assert all(tile.drop.bits is None for layer in kept.layers for tile in layer.tiles)


def test_plan_does_not_change_an_exact_run() -> None:
    """One chunk equals itself under a fixed and a shuffled order."""
    case = Case(random_graph(30, 90), "sage")
    other = case.with_(staleness=replace(case.staleness, order="fixed", gradient="fresh", freeze=3))
    assert_same_training(train(case), train(other))
