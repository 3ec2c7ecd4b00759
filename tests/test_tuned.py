"""The benchmark of tuned baselines: its commands, its model and its tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.nn import SAGEConv

from benchmarks.tuned import alike, cells, run, tables
from benchmarks.tuned.blocks import SageBlock
from gnnpipe.cli.parser import make_parser, parse
from gnnpipe.config.checks import check_config
from gnnpipe.config.run import RunConfig
from gnnpipe.graph.csr import Csr
from gnnpipe.nn.models import ModelSpec, build_stack, spec_for
from tests.graphs import random_graph
from tests.harness import Case, train


def test_every_cell_is_a_command() -> None:
    assert len({cell.name for cell in cells.CELLS}) == len(cells.CELLS)
    assert len({cell.name for cell in cells.TRIALS}) == len(cells.TRIALS)
    assert cells.EXACT_BLOCKS in {cell.name for cell in cells.CELLS}
    parser = make_parser("train", RunConfig, "", "")
    for cell in [*cells.CELLS, *cells.TRIALS]:
        config = parse(parser, RunConfig, f"{cell.command(Path('data'))} {cells.QUIET}".split())
        check_config(config)
        assert (config.chunks == 8) == cell.pipelines == (cell.setting == "8 chunks")
        assert (config.staleness.preset == "exact") == (cell.setting == "exact")
        assert (str(config.layers), str(config.hidden)) == (cell.flag("--layers"), cell.flag("--hidden"))
        assert cell.flag("--absent") == ""


class Blocks(nn.Module):
    """The same model as anybody writes it with torch_geometric, with the weights of a spec."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        first, *blocks, last = (item() for item in build_stack(spec))
        self.first, self.last = nn.Sequential(*first.body), nn.Sequential(*last.body)
        self.norms, self.convs = nn.ModuleList(), nn.ModuleList()
        for block in blocks:
            assert isinstance(block, SageBlock)
            conv = SAGEConv(spec.hidden, spec.hidden)
            with torch.no_grad():
                conv.lin_l.weight.copy_(block.neighbour.weight)
                conv.lin_r.weight.copy_(block.own.weight)
                conv.lin_l.bias.copy_(block.own.bias)
            self.norms.append(block.norm)
            self.convs.append(conv)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        h = self.first(x)
        for norm, conv in zip(self.norms, self.convs, strict=True):
            h = h + conv(norm(h).relu(), edge_index)
        return self.last(h)


class BlocksCase(Case):
    """A case of the benchmark's model."""

    @property
    def spec(self) -> ModelSpec:
        config = RunConfig(model=cells.BLOCKS, layers=self.layers, hidden=self.hidden)
        return spec_for(config, self.data, self.seed)


def edges_of(adjacency: Csr) -> Tensor:
    """Source and target of every edge; the value of an entry is the number of its parallel edges."""
    target = torch.repeat_interleave(torch.arange(adjacency.num_rows), adjacency.rowptr.long().diff())
    return torch.stack([adjacency.col.long(), target]).repeat_interleave(adjacency.value.long(), dim=1)


def test_blocks_are_graphsage_behind_a_norm() -> None:
    """Losses and gradients of one chunk are autograd's, of torch_geometric's convolutions."""
    data = random_graph(40, 160, num_features=7)
    case = BlocksCase(data, cells.BLOCKS, layers=3, hidden=6, dropout=0.0, epochs=1)  # type: ignore[arg-type]
    found = train(case)
    model = Blocks(case.spec)
    logits = model(data.features, edges_of(data.adjacency))
    loss = nn.functional.cross_entropy(logits[data.train_mask], data.labels[data.train_mask])
    loss.backward()
    assert found.losses == pytest.approx([float(loss.detach())], rel=1e-5)
    for index, (norm, conv) in enumerate(zip(model.norms, model.convs, strict=True)):
        of_layer = {
            "norm.weight": norm.weight, "own.weight": conv.lin_r.weight, "own.bias": conv.lin_l.bias,
            "neighbour.weight": conv.lin_l.weight,
        }  # fmt: skip
        for name, weight in of_layer.items():
            ours = found.gradients[0][f"layers.{index + 1}.{name}"]
            # float32 sums through all layers, in another order
            torch.testing.assert_close(ours, weight.grad, rtol=1e-4, atol=1e-6, msg=name)


def test_rows_that_differ_are_told_from_those_alike() -> None:
    rows = torch.randn(50, 6)
    rows -= rows.mean(dim=0)
    assert alike.differing(rows) == pytest.approx(1.0)
    shared = torch.full((6,), 2.0)
    energy = float(rows.square().sum(dim=1).mean())
    assert alike.differing(rows + shared) == pytest.approx(energy / (energy + 24.0), rel=1e-5)


def test_rows_are_followed_through_all_layers() -> None:
    """Behind the last layer they are the logits of torch_geometric's modules."""
    data = random_graph(40, 160, num_features=7)
    case = BlocksCase(data, cells.BLOCKS, layers=3, hidden=6)  # type: ignore[arg-type]
    found = alike.shares(data, case.spec)
    with torch.no_grad():
        logits = Blocks(case.spec)(data.features, edges_of(data.adjacency))
    assert len(found) == 5
    assert found[-1] == pytest.approx(alike.differing(logits), rel=1e-4)


def test_tables_are_of_the_runs() -> None:
    cell = cells.CELLS[0]
    runs = {f"{cell.name} {split}": {"val": 96.0, "test": test, "epoch": 10 * split}
            for split, test in enumerate([97.0, 98.0, 99.0])}  # fmt: skip
    (row,) = tables.accuracy(runs).splitlines()[2:]
    sizes = f"{cell.flag('--layers')} | 64 | batch | exact | {cell.flag('--epochs')}"
    assert row == f"| Minesweeper | sage | {sizes} | 0, 10, 20 | **98.00 +- 0.82** | 97 to 98 |"
    below = {name: run | {"test": 96.0} for name, run in runs.items()}
    assert "| 96.00 +- 0.00 |" in tables.accuracy(below)
    trial = cells.TRIALS[0]
    shown = tables.trials({f"{trial.name} 0": {"val": 91.26, "test": 0.0, "epoch": 1}})
    assert shown.splitlines()[2] == f"| {trial.model} | {trial.norm} | 91.3 | - |"
    behind = tables.alike({"plain": [0.5] * 8 + [0.25] * 4, "with ends": [1.0, *[0.5] * 12, 0.1]})
    assert behind.splitlines()[2:] == [
        "| plain | 50 | 50 | 50 | 50 | 25 |",
        "| with ends | 50 | 50 | 50 | 50 | 50 |",
    ]
    assert tables.all_of({}) == ""


def test_scores_are_read_from_a_run(tmp_path: Path) -> None:
    found = cells.score_of({"best_val": 0.5, "test_at_best_val": 0.25, "best_epoch": 19})
    assert found == {"val": 50.0, "test": 25.0, "epoch": 20}
    records = [{"epoch": 0, "loss": 2.0}, {"epoch": 1, "loss": 1.0, "val": 0.5}]
    (tmp_path / "records.jsonl").write_text("\n".join(map(json.dumps, records)) + "\n")
    assert cells.numbers_of(tmp_path) == [(2.0, None), (1.0, 0.5)]


@pytest.mark.slow
def test_the_benchmark_runs_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the built-in graph; what result.json holds is not run again."""
    source = cells.Source("--dataset synthetic --synthetic.num_nodes 300", "", "1 to 100", 0.5)
    flags = f"--model {cells.BLOCKS} --layers 2 --hidden 4 --epochs 4"
    monkeypatch.setattr(cells, "GRAPHS", {"made": source})
    monkeypatch.setattr(cells, "SPLITS", (0,))
    monkeypatch.setattr(cells, "FEW", 3)
    small = [cells.Cell("made", "blocks", "layer", name, f"{flags} {how}")
             for name, how in {"exact": cells.EXACT, "8 chunks": cells.CHUNKS}.items()]  # fmt: skip
    monkeypatch.setattr(cells, "CELLS", small)
    out, only = tmp_path / "result.json", ["accuracy", "stages"]
    command = ["run", "--work", str(tmp_path), "--data", str(tmp_path), "--out", str(out), "--only", *only]
    monkeypatch.setattr("sys.argv", command)
    run.main()
    result = json.loads(out.read_text())
    assert set(result["accuracy"]) == {f"{cell.name} 0" for cell in small}
    assert result["stages"]["made blocks layer 8 chunks"]["equal"]
    monkeypatch.setattr("benchmarks.common.train", lambda *_: pytest.fail("a run was repeated"))
    run.main()
    assert json.loads(out.read_text()) == result
