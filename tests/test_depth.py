"""The depth benchmark: its splits, its sampler and its sums are right, and its runs can be started."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.depth import blocks, equal, plans, results, sampled, tables
from benchmarks.depth.graphs import folder_of, splits
from gnnpipe.cli.parser import make_parser, parse
from gnnpipe.config.checks import check_config
from gnnpipe.config.run import RunConfig
from tests.graphs import private_root


def ladder(num_rungs: int) -> sampled.Roads:
    """Nodes 2 i and 2 i + 1 are rung i; degree 2 or 3, as roads have."""
    rungs = np.arange(num_rungs)
    left, right = 2 * rungs, 2 * rungs + 1
    one = np.concatenate([left, left[:-1], right[:-1]])
    other = np.concatenate([right, left[1:], right[1:]])
    source, target = np.concatenate([one, other]), np.concatenate([other, one])
    order = np.lexsort((source, target))
    num_nodes = 2 * num_rungs
    rowptr = np.concatenate([[0], np.cumsum(np.bincount(target, minlength=num_nodes))])
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(num_nodes, 5, generator=generator)
    y = torch.randint(3, (num_nodes,), generator=generator)
    masks = {name.removesuffix("_mask"): mask for name, mask in splits(num_nodes).items()}
    return sampled.Roads(rowptr, source[order], x, y, masks)


def test_splits_are_tenths_that_share_no_node() -> None:
    masks = splits(107)
    assert [mask.sum(axis=0).tolist() for mask in masks.values()] == [[10] * 3, [10] * 3, [87] * 3]
    assert (sum(mask.astype(int) for mask in masks.values()) == 1).all()
    assert (masks["train_mask"][:, 0] != masks["train_mask"][:, 1]).any()


@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 99))
def test_a_sample_has_edges_of_the_graph_and_few_into_a_node(hops: int, fan_out: int, seed: int) -> None:
    roads, targets = ladder(20), np.array([11, 3])
    drawn = sampled.sample(roads, targets, hops, fan_out, np.random.default_rng(seed))
    assert drawn.nodes[:2].tolist() == targets.tolist()
    assert len(set(drawn.nodes)) == len(drawn.nodes)
    edges = [tuple(pair) for pair in drawn.nodes[drawn.edge_index].T.tolist()]
    assert len(set(edges)) == len(edges)
    for source, target in edges:
        assert source in roads.col[roads.rowptr[target] : roads.rowptr[target + 1]]
    into = np.bincount(drawn.edge_index[1], minlength=len(drawn.nodes))
    degree = np.diff(roads.rowptr)[drawn.nodes]
    reached = np.flatnonzero(into)  # nodes of the last hop draw none
    assert (into[reached] == np.minimum(degree, fan_out)[reached]).all()
    assert set(range(2)) <= set(reached)


def test_with_all_neighbours_targets_get_the_logits_of_the_whole_graph() -> None:
    """As many hops as layers and each neighbour: nothing that a target depends on is left out."""
    roads, targets = ladder(20), np.array([11, 3])
    torch.manual_seed(0)
    model = sampled.Sage(5, 3, layers=3).eval()
    target = np.repeat(np.arange(roads.num_nodes), np.diff(roads.rowptr))
    whole = model(roads.x, torch.from_numpy(np.stack([roads.col, target])))[targets]
    for fan_out, same in ((3, True), (1, False)):
        drawn = sampled.sample(roads, targets, 3, fan_out, np.random.default_rng(0))
        assert len(drawn.nodes) < roads.num_nodes
        logits = model(roads.x[drawn.nodes], torch.from_numpy(drawn.edge_index))[:2]
        # float32 sums of three layers, in another order
        assert torch.allclose(logits, whole, atol=1e-5) == same


def test_the_largest_fan_out_is_the_last_that_fits() -> None:
    roads = ladder(60)
    budget = sampled.Budget(rows=0.3, batch=4, epochs=1, lr=0.01, eval_every=1)
    fan_out, share = sampled.largest_fan_out(roads, 4, budget, seed=0)
    assert 0 < share <= 0.3
    assert fan_out in (1, 2)
    narrow = sampled.Budget(rows=0.01, batch=4, epochs=1, lr=0.01, eval_every=1)
    assert sampled.largest_fan_out(roads, 4, narrow, seed=0) == (0, 0.0)


def test_a_sampled_run_trains() -> None:
    budget = sampled.Budget(rows=1.0, batch=4, epochs=30, lr=0.01, eval_every=10)
    found = sampled.train(ladder(60), 2, 3, 0, budget)
    assert found["steps"] == 90
    assert found["train"] > 0.6  # a third by chance; twelve nodes with features of their own


def test_a_block_is_its_formula() -> None:
    """In float64, against a matrix of means."""
    torch.manual_seed(0)
    block = blocks.Block(4, "layer").double()
    h, mean = torch.randn(6, 4, dtype=torch.float64), torch.rand(6, 6, dtype=torch.float64)
    x, carry = block.message(h, lambda rows: 0.5 * rows)
    dropped = (
        0.5 * (h - h.mean(1, keepdim=True)).div((h.var(1, correction=0, keepdim=True) + 1e-5).sqrt()).relu()
    )
    own, neighbours = block.own, block.neighbours
    wanted = h + dropped @ own.weight.t() + own.bias + mean @ dropped @ neighbours.weight.t()
    torch.testing.assert_close(block.update(mean @ x, carry, None), wanted)


def test_every_run_is_a_command() -> None:
    runs = [run for group in plans.GROUPS.values() for run in group()]
    assert len({run.name for run in runs}) == len(runs)
    parser = make_parser("train", RunConfig, "", "")
    for flags in {run.flags for run in runs if run.seed == 0}:
        check_config(parse(parser, RunConfig, flags.split()))
    for case in equal.cases():
        check_config(parse(parser, RunConfig, f"{equal.TRAINING} {case.flags} {case.pipeline}".split()))


def run_of(test: float) -> results.Found:
    return {"test": test}


def test_a_deeper_net_is_compared_seed_by_seed() -> None:
    key = "accuracy/huangpu/resgcn/exact"
    tests = {16: [0.30, 0.40], 32: [0.31, 0.42, 0.90], 64: [0.35]}
    found = results.Results(Path("none"))
    found.runs = {
        f"{key}/{depth}/{seed}": run_of(test)
        for depth, values in tests.items()
        for seed, test in enumerate(values)
    }
    line = next(line for line in plans.LINES if line.key == key)
    cells = tables.cells(found, line)
    assert str(cells[16]) == "35.0 ± 5.0 (2)"
    assert str(cells[64]) == "35.0 (1)"
    gain = cells[32].minus(cells[16])
    assert (gain.mean, gain.error) == (pytest.approx(1.5), pytest.approx(0.5))
    assert "| huangpu | ResGCN+ | 32 | +1.5 ± 0.5 | +3.0 |" in tables.text(found)


def test_tables_are_put_between_their_marks(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("above\n<!-- tables:begin -->\nold\n<!-- tables:end -->\nbelow\n")
    for _ in range(2):
        tables.write(readme, "new")
    wanted = "above\n<!-- tables:begin -->\nnew\n<!-- tables:end -->\nbelow\n"
    assert readme.read_text() == wanted


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    run = next(plans.accuracy())
    found = results.Results(tmp_path / "result.json", runs={run.name: {"flags": run.flags, "test": 0.5}})
    found.write()
    again = results.Results.read(tmp_path / "result.json")
    assert again.runs == found.runs
    assert again.holds(run)
    again.runs[run.name]["flags"] += " --epochs 7"
    assert not again.holds(run)


def test_the_best_evaluation_is_that_of_validation() -> None:
    records = [{"epoch": epoch, "loss": 1.0, "train": 0.9, "val": val, "test": test}
               for epoch, (val, test) in enumerate([(0.1, 0.2), (0.5, 0.3), (0.4, 0.6)])]  # fmt: skip
    found = results.summarize([*records, {"epoch": 3, "loss": 0.25}])
    assert (found["best_val"], found["test"], found["best_epoch"], found["epochs"]) == (0.5, 0.3, 2, 4)
    assert (found["last_loss"], found["curves"]["epoch"]) == (0.25, [1, 2, 3])


def test_differences_are_relative_to_one_process() -> None:
    found = equal.Difference.of([2.0, 1.1, 1.0], [2.0, 1.0, 1.0])
    assert found == equal.Difference(0.0, pytest.approx(0.1), within=1, equal=False)
    assert equal.Difference.of([2.0], [2.0]) == equal.Difference(0.0, 0.0, within=1, equal=True)


def test_a_graph_without_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"--data: .*huangpu.npz is absent; give the folder"):
        folder_of("huangpu", tmp_path, tmp_path / "work")


@pytest.mark.slow
def test_an_exact_pipeline_on_roads_has_the_losses_of_one_process(tmp_path: Path) -> None:
    """Huangpu, 8 layers, dropout on. Chunks add in another order, and every epoch makes more of it: after 8
    and more the losses differ by more than float tolerance, as those of one process in another order do."""
    graph = folder_of("huangpu", private_root(tmp_path, "CityNetwork"), tmp_path / "work")
    chosen = {
        "GCNII, norm none, 16 chunks",
        "ResGCN+, norm layer, 16 chunks",
        "GraphSAGE, norm batch, 1 chunk",
    }
    for case in equal.cases():
        if case.name in chosen:
            one = equal.losses(graph, tmp_path, f"{case.flags} {equal.ONE}", epochs=6)
            four = equal.losses(graph, tmp_path, f"{case.flags} {case.pipeline}", epochs=6)
            assert one[-1] < one[0]
            found = equal.Difference.of(four, one)
            assert found.equal == (case.chunks == 1)
            assert found.first < 1e-6
            assert found.largest < equal.FLOAT_TOLERANCE
