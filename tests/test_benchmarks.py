"""Benchmarks still start, and their figures are computed correctly from runs."""

from __future__ import annotations

import importlib
import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.convergence import plans, report
from benchmarks.convergence.report import Cell, Found, main_table
from benchmarks.convergence.run import summarize
from benchmarks.memory import cells
from benchmarks.memory.cells import Size
from benchmarks.memory.measure import Measured, measure
from benchmarks.memory.run import row_of
from benchmarks.planner.original import SYNCHRONIZE, Gpu, original_ranges, original_work
from gnnpipe.cli.parser import make_parser, parse
from gnnpipe.comm.groups import Links
from gnnpipe.config.checks import check_config
from gnnpipe.config.run import Model, RunConfig
from gnnpipe.graph.csr import Csr
from gnnpipe.nn.models import ModelSpec
from gnnpipe.planner.costs import GraphSize
from gnnpipe.planner.workload import WHOLE
from gnnpipe.schedule.plan import make_plan
from tests.graphs import random_graph
from tests.harness import Case


def test_runs_of_pipeline_vs_graph_can_be_built() -> None:
    rank = importlib.import_module("benchmarks.pipeline-vs-graph.rank")
    case = Case(random_graph(40, 200), chunks=3)
    who = SimpleNamespace(stages=1, parts=1, chunks=3, halo="exact")
    rank.Runner(case.spec, who, case.graph(), Links(), 0)


def test_the_graph_that_is_imported_is_made_block_by_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = importlib.import_module("benchmarks.import.run")
    monkeypatch.setattr(run, "BLOCK", 400)
    run.make_npy(tmp_path, 50, 1000)
    edges, rows, labels = (
        np.load(tmp_path / f"{name}.npy") for name in ("edge_index", "node_feat", "node_label")
    )
    assert (edges.shape, rows.shape, labels.shape) == ((2, 1000), (50, run.COLUMNS), (50,))
    assert set(edges.ravel().tolist()) == set(range(50))
    in_degree = np.sort(np.bincount(edges[1]))[::-1]
    assert in_degree[0] > 5 * in_degree[10]  # skewed: the first node has (1/50)^(1/4) = 38 % of the edges
    assert rows.any(axis=1).all()


def test_every_convergence_run_is_a_command() -> None:
    runs = list(plans.runs())
    assert len({run.name for run in runs}) == len(runs)
    parser = make_parser("train", RunConfig, "", "")
    for flags in {run.flags for run in runs}:
        check_config(parse(parser, RunConfig, flags.split()))


def test_cells_of_memory_cover_every_pair_of_settings() -> None:
    chosen, every = cells.chosen_cells(), list(cells.every_cell())
    values = {name: {getattr(cell, name) for cell in every} for name in cells.FACTORS}
    assert values == {name: set(options) for name, options in cells.FACTORS.items()}
    for one, other in itertools.combinations(cells.FACTORS, 2):
        possible = {(getattr(cell, one), getattr(cell, other)) for cell in every}
        assert {(getattr(cell, one), getattr(cell, other)) for cell in chosen} == possible


def test_memory_of_a_small_cell_is_measured() -> None:
    found = measure(cells.Cell(), Size(num_nodes=300, layers=2, epochs=1))
    assert found.measured[0] > 0
    row = row_of(cells.Cell(), Measured([2**20], [2**21]))
    assert row == "| gcnii 1x1x1, 7 classes | 1 / 2 (-50 %) |"


def record(epoch: int, loss: float, val: float | None) -> dict[str, Any]:
    found: dict[str, Any] = {"epoch": epoch, "loss": loss, "seconds": 1.0}
    return found if val is None else found | {"val": val, "test": val / 2}


def found(setting: str, seed: int, values: list[float], losses: list[float]) -> Found:
    records = [record(epoch, loss, val) for epoch, (loss, val) in enumerate(zip(losses, values, strict=True))]
    return Found(f"main/Cora/gcnii/{setting}/seed {seed}", summarize(records, finite=True))


def test_summary_of_a_run() -> None:
    run = summarize([record(0, 3.0, None), record(1, 2.0, 0.5), record(2, 1.0, 0.25)], finite=True)
    assert (run["best_val"], run["test"], run["best_epoch"]) == (0.5, 0.25, 2)
    assert run["epochs"] == [2, 3]
    assert run["loss"] == [3.0, 1.0]


def test_table_of_a_cell() -> None:
    falling, rising = [3.0, 2.0, 1.0, 1.0], [1.0, 2.0, 3.0, 4.0]
    everything = [
        found("exact", 0, [0.1, 0.2, 0.8, 0.8], falling),
        found("exact, beta1 0", 0, [0.1, 0.2, 0.4, 0.4], falling),
        found("paper", 0, [0.1, 0.1, 0.2, 0.3], rising),
        found("default", 0, [0.1, 0.79, 0.8, 0.82], falling),
        found("default", 1, [0.1, 0.79, 0.8, 0.86], falling),
        found("paper", 1, [0.1, 0.1, 0.2, 0.3], falling),
    ]
    runs = {f"{run.setting}/{run.seed}": run for run in everything}
    default = Cell(runs, "main", "Cora", "gcnii", "default")
    assert (default.mean, default.std) == (pytest.approx(42), pytest.approx(2**0.5))
    (row, _, means, _, verdict) = main_table(runs)[2:]
    assert "| 40.0 | 20.0 | 15.0 ± 0.0 (1 diverged) | 42.0 ± 1.4 | +2.0 | +27.0 ± 1.0 | " in row
    assert row.endswith("| 3, 100 (2 never), 2 |")
    assert "paper 33.33, default 0.67" in means
    assert "exact setting: nowhere (of 1 cells)" in verdict
    assert "Diverged: 0 of" in verdict


def test_help_of_the_report_changes_no_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["report", "--help"])
    monkeypatch.setattr("pathlib.Path.write_text", lambda *_: pytest.fail("a file was written"))
    with pytest.raises(SystemExit, match="0"):
        report.main()
    assert "write them into README.md" in capsys.readouterr().out


def test_what_stands_out_is_bold() -> None:
    runs = {}
    for seed, (exact, default, paper) in enumerate([(0.8, 0.76, 0.78), (0.81, 0.77, 0.79)]):
        cells = {"exact": exact, "exact, beta1 0": 0.5, "default": default, "paper": paper}
        for setting, value in cells.items():
            runs[f"{setting}/{seed}"] = found(setting, seed, [0.1, value], [2.0, 1.0])
    row, *_, verdict = main_table(runs)[2:]
    assert "| **-2.0 ± 0.4** | **-1.0 ± 0.4** |" in row
    assert "Cora gcnii (of 1 cells)" in verdict
    assert "below paper: Cora gcnii" in verdict


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta state:UserWarning")
def test_the_device_suite_still_runs() -> None:
    """A small run on the CPU."""
    from benchmarks.gpu import ours, pulls, rival
    from benchmarks.gpu.graphs import KINDS, make

    device = torch.device("cpu")
    matrix = make("planted", device, scale=1000)
    for form in ("edges", "cusparse"):
        rival.Rival(form, "gcnii", 2, 8, matrix).step()
    trainer = ours.Ours("gcnii", 2, 8, ours.prepared(matrix, 2), device, graphs=True)
    trainer.step()
    trainer.step()
    assert trainer.losses[1] != trainer.losses[0]
    for kind in KINDS:
        found = pulls.race(kind, 8, device, scale=1000)
        assert found["ours fp32"]["off"] < 1e-6


def test_the_l2_rate_is_of_numbers_that_were_read() -> None:
    pytest.importorskip("triton", reason="Triton is not installed")
    l2 = importlib.import_module("benchmarks.gpu.l2")
    buffer, out = torch.randn(8 * l2.BLOCK), torch.empty(4)
    l2._read[(4,)](buffer, out, 8, repeats=3, block=l2.BLOCK)
    blocks = buffer.view(8, l2.BLOCK).sum(dim=1)
    wanted = [sum(blocks[(program * 37 + step * 101) % 8] for step in range(3)) for program in range(4)]
    torch.testing.assert_close(out, torch.stack(wanted), rtol=1e-4, atol=1e-3)  # sums in another order


def test_the_least_time_of_an_epoch_counts_what_must_move() -> None:
    """One layer of width 2 on 3 nodes and 4 entries, with rates of one byte and one second."""
    limit = importlib.import_module("benchmarks.gpu.limit")
    graph = Csr(torch.tensor([0, 2, 3, 4]), torch.tensor([0, 1, 2, 0]), torch.ones(4), 3)
    at = {"l2": 1.0, "copy": 1.0, "products fp32": 1.0}
    # two aggregations of 4 entries of 8 + 8 bytes; ten passes over rows of 3 x 2 x 4 bytes
    assert limit.limit(graph, 1, 2, 4, "fp32", at) == 2 * 4 * 16 + 1 + 10 * 24


def test_a_device_that_is_the_cpu_agrees_with_it() -> None:
    from benchmarks.gpu import check

    found = check.check(torch.device("cpu"), ("gcnii",), nodes=120)
    assert len(found) > 8
    assert all(result["agrees"] for result in found.values())


# Launches forward: 2 of the aggregation, 1 or 2 products, 2 a sum, 1 ReLU, 2 of dropout.
@pytest.mark.parametrize(
    ("model", "forward", "backward"), [("gcn", 6, 17), ("sage", 9, 31), ("gcnii", 10, 27)]
)
def test_layers_of_the_published_system_cost_their_launches_however_small(
    model: Model, forward: int, backward: int
) -> None:
    spec, plan = ModelSpec(model, 6, 16, 8, 4), make_plan(1, 1, 4, 6, 100)
    work = original_work(plan, spec, GraphSize(100, 500), WHOLE, Gpu(0.0, 0.0, 0.0, launch=1.0), 1e9)
    layer = work.layers[0][3]
    matrices = 2 if model == "sage" else 1
    assert layer.forward == pytest.approx(forward)
    assert layer.backward == pytest.approx(backward + matrices * SYNCHRONIZE)


def test_large_layers_of_the_published_system_cost_their_work() -> None:
    spec, plan = ModelSpec("gcn", 6, 16, 8, 4), make_plan(1, 1, 4, 6, 100)
    gpu = Gpu(gather=1.0, multiply=0.0, byte=0.0, launch=1e-9)
    work = original_work(plan, spec, GraphSize(100, 500), WHOLE, gpu, 1e9)
    assert work.layers[0][3].forward == pytest.approx(500 / 4 * 16)


def test_stages_of_the_published_system_take_dense_ends_for_layers() -> None:
    def num_convolutions(model: Model, num_stages: int) -> list[int]:
        ranges = original_ranges(ModelSpec(model, 32, 16, 8, 4), num_stages)
        return [last - first for first, last in ranges]

    assert num_convolutions("gcn", 8) == [4] * 8
    assert num_convolutions("gcnii", 8) == [4, 5, 4, 4, 4, 4, 4, 3]
    assert num_convolutions("gcnii", 4) == [8, 9, 8, 7]


def test_readers_of_tables_agree(tmp_path: Path) -> None:
    pytest.importorskip("polars", reason="polars is only there to be compared with")
    tables = importlib.import_module("benchmarks.import.tables")
    tables.make_files(tmp_path, 1000)
    for name in tables.FORMS:
        found = [tables.measure(library, tmp_path / name) for library in tables.READERS]
        assert found[0]["rows"] == found[1]["rows"] == 1000
        assert found[0]["checksum"] == found[1]["checksum"]


def test_attention_is_compared_on_equal_terms() -> None:
    """Both sides have as many weights, and the ways to pull are all timed."""
    from benchmarks.attention import models, pulls, pyg

    ours = [weight for build in models.gat(7, 5, 3) for weight in build().parameters()]
    theirs = list(pyg.Attention("gat", 7, 5, 3).parameters())
    assert sum(weight.numel() for weight in ours) == sum(weight.numel() for weight in theirs)
    pushed = [weight for build in models.pushed(7, 5, 3) for weight in build().parameters()]
    assert len(pushed) == len(theirs)
    assert all(milliseconds > 0 for milliseconds in pulls.measured(1, 200, 1).values())


def test_every_run_of_roads_is_a_command_and_four_stages_are_faster_than_two() -> None:
    from benchmarks.roads import run

    parser = make_parser("train", RunConfig, "", "")
    for cell in run.CELLS:
        for flags in run.PLANS.values():
            check_config(parse(parser, RunConfig, [*cell.flags(Path("pasadena")), *flags.split()]))
    assert run.simulated("lookahead 1 over 24 chunks: 1.24 x as fast as one chunk, by simulation") == "1.24"
    assert run.simulated("one chunk, as asked") == ""
    # two stages of 8 layers whose 100 chunks take 1 ms each: 800 ms of work a stage and way
    two = {"compute_seconds": 3.2, "chunks": 100, "lookahead": 0}
    assert run.four_cores(16, {run.ONE: {"epoch_seconds": 3.2}, "2 stages": two}) == pytest.approx(
        4 * 100 / 103
    )
