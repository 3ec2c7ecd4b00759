"""Accuracy of pipelined training against exact training, on real graphs. See README.md beside this file.

python -m benchmarks.accuracy.run --data FOLDER --work FOLDER [--seeds 0 1 2]

Runs that are there already are not run again.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import dataclass
from pathlib import Path

from benchmarks import common

HERE = Path(__file__).parent
COMMAND = "python -m benchmarks.accuracy.run --data FOLDER --work FOLDER"
EXACT = ["--stages", "1", "--staleness", "exact"]


@dataclass(frozen=True)
class Cell:
    """A graph and a model."""

    flags: str
    """All but the root, stages and seed."""
    root: str | None
    """Folder below --data."""
    stages: int


CELLS = {
    "cora": Cell(
        "--dataset Cora --model gcnii --layers 32 --hidden 64 --chunks 16 --epochs 200 --lr 0.005",
        "Planetoid",
        stages=2,
    ),
    "physics": Cell(
        "--dataset Physics --model gcnii --layers 32 --hidden 100 --chunks 32 --epochs 100",
        "Coauthor",
        stages=4,
    ),
    "squirrel": Cell(
        "--dataset squirrel --model resgcn --layers 32 --hidden 128 --chunks 32 --epochs 300 --lr 0.001",
        "WikipediaNetwork",
        stages=4,
    ),
    "synthetic": Cell("--dataset synthetic", None, stages=2),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with a root for each data set class")
    parser.add_argument("--work", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=HERE / "result.json")
    options = parser.parse_args()
    result: dict[str, object] = {}
    for name, cell in CELLS.items():
        root = ["--root", str(options.data / cell.root)] if cell.root else []
        test = {}
        for kind, more in (("pipeline", ["--stages", str(cell.stages)]), ("exact", EXACT)):
            flags = [*cell.flags.split(), *root, *more]
            runs = [
                once(options.work / f"{name}-{kind}-{seed}", *flags, "--seed", str(seed))
                for seed in options.seeds
            ]
            test[kind] = [common.summary(run)["test_at_best_val"] for run in runs]
        means = {kind: statistics.mean(values) for kind, values in test.items()}
        result[name] = {
            "flags": cell.flags,
            "stages": cell.stages,
            "metric": common.summary(runs[0])["metric"],
            "test_at_best_val": test,
            "mean": means,
            "points_above_exact": 100 * (means["pipeline"] - means["exact"]),
        }
    common.write(options.out, {"cells": result} | common.environment(runs[0], COMMAND))


def once(run: Path, *flags: str) -> Path:
    """Run unless a finished run is there."""
    return run if (run / "summary.json").exists() else common.train(run, *flags)


if __name__ == "__main__":
    main()
