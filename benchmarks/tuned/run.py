"""Do the tuned baselines of 2024 train here as published, with one chunk and through a pipeline?

python -m benchmarks.tuned.run --work FOLDER --data FOLDER [--only accuracy trials alike stages lookahead]

FOLDER of --data has a root for each data set class, where torch_geometric may write. Resumable: runs that
result.json holds are not repeated. README.md beside this file has results.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks import common
from benchmarks.tuned import alike, cells, tables
from benchmarks.tuned.cells import Cell
from gnnpipe.cli.parser import make_parser, parse
from gnnpipe.config.run import RunConfig
from gnnpipe.graph.sources.datasets import load_dataset
from gnnpipe.nn.models import spec_for

HERE = Path(__file__).parent
COMMAND = "python -m benchmarks.tuned.run --work FOLDER --data FOLDER"
Result = dict[str, Any]
"""All numbers: accuracy and trials by run, alike by model, stages by cell, lookahead, and the environment."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--data", type=Path, required=True, help="folder with a root for each class")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--cells", nargs="+", help="only cells whose names begin so, as in Photo")
    parser.add_argument("--tables", action="store_true", help="print the tables of result.json and stop")
    parser.add_argument("--out", type=Path, default=HERE / "result.json")
    options = parser.parse_args()
    result: Result = json.loads(options.out.read_text()) if options.out.exists() else {}
    if not options.tables:
        for part in options.only:
            PARTS[part](Runs(options, result))
    print(tables.all_of(result))


class Runs:
    """Runs of gnnpipe, each of whose numbers goes to the file of results as soon as it has ended."""

    def __init__(self, options: argparse.Namespace, result: Result) -> None:
        self.result = result
        self._options = options

    def config(self, cell: Cell) -> RunConfig:
        """The configuration of a cell."""
        parser = make_parser("train", RunConfig, "", "")
        return parse(parser, RunConfig, cell.command(self._options.data).split())

    def chosen(self, of: Iterable[Cell]) -> list[Cell]:
        """Those that were asked for."""
        names = self._options.cells
        return [cell for cell in of if names is None or cell.name.startswith(tuple(names))]

    def train(self, cell: Cell, split: int, more: str = "") -> Path:
        """Run a cell; return the folder."""
        folder = self._options.work / f"{cell.name} {split}{more}".replace(" ", "-").replace(",", "")
        command = f"{cell.command(self._options.data)} --split {split} --seed {split} {cells.QUIET} {more}"
        common.train(folder, *command.split())
        self.result["environment"] = common.environment(folder, COMMAND)
        return folder

    def write(self) -> None:
        """Write the file of results anew."""
        self._options.out.write_text(json.dumps(self.result, indent=2) + "\n")


def accuracy(runs: Runs) -> None:
    """Test metric at the best validation epoch, three splits of each cell; a round of all cells at a time."""
    for split in cells.SPLITS:
        for cell in runs.chosen(cells.CELLS):
            _score(runs, cell, split, "accuracy")


def trials(runs: Runs) -> None:
    """Validation metric of one split: how settings were chosen, and where the norm belongs."""
    for cell in runs.chosen(cells.TRIALS):
        _score(runs, cell, 0, "trials")


def _score(runs: Runs, cell: Cell, split: int, part: str) -> None:
    held = runs.result.setdefault(part, {})
    name = f"{cell.name} {split}"
    if name in held:
        return
    folder = runs.train(cell, split)
    held[name] = common.rounded(cells.score_of(common.summary(folder)))
    runs.write()
    print(name, held[name], flush=True)
    shutil.rmtree(folder)


def layer_by_layer(runs: Runs) -> None:
    """How much of the rows tells nodes apart, behind each layer of the models of the trials, untrained."""
    graph = load_dataset(runs.config(cells.TRIALS[0]))
    runs.result["alike"] = {
        f"{cell.model} {cell.norm}": common.rounded(
            alike.shares(graph, spec_for(runs.config(cell), graph, seed=0))
        )
        for cell in cells.TRIALS
        if (cell.model, cell.norm) in cells.PLACES and not cell.pipelines
    }
    runs.write()


def stages(runs: Runs) -> None:
    """Losses and metrics of one stage and of two, which have to be equal bit for bit."""
    held = runs.result.setdefault("stages", {})
    for cell in runs.chosen(cells.CELLS):
        if cell.name in held or not cell.pipelines:
            continue
        one, two = (
            cells.numbers_of(runs.train(cell, 0, f"--epochs {cells.FEW} --eval-every 5 --stages {number}"))
            for number in (1, 2)
        )
        held[cell.name] = {"epochs": len(one), "equal": one == two, "last_loss": two[-1][0]}
        runs.write()
        print(cell.name, held[cell.name], flush=True)


def lookahead(runs: Runs) -> None:
    """Exact lookahead with four stages: how wide the grid is, what speed is predicted, and its losses beside
    those of one chunk."""
    few = f"--epochs {cells.FEW} --eval-every {cells.FEW}"
    cell = next(cell for cell in cells.CELLS if cell.name == cells.EXACT_BLOCKS)
    one = runs.train(cell, 0, few)
    four = runs.train(cell, 0, f"{few} {cells.LOOKAHEAD}")
    plan = json.loads((four / "plan.json").read_text())
    both = [[loss for loss, _ in cells.numbers_of(folder)] for folder in (one, four)]
    runs.result["lookahead"] = common.rounded({
        "flags": cells.LOOKAHEAD,
        "num_chunks": plan["plan"]["num_chunks"],
        "lookahead": plan["plan"]["lookahead"],
        "note": plan["plan"]["note"],
        "chunk_method": plan["graph"]["chunk_method"],
        "bubble": plan["predictions"]["bubble"],
        "epochs": cells.FEW,
        "largest_difference_of_losses": max(abs(a - b) for a, b in zip(*both, strict=True)),
        "last_loss": both[0][-1],
    })  # fmt: skip
    runs.write()


PARTS: dict[str, Callable[[Runs], None]] = {
    "accuracy": accuracy,
    "trials": trials,
    "alike": layer_by_layer,
    "stages": stages,
    "lookahead": lookahead,
}


if __name__ == "__main__":
    main()
