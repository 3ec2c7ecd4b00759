"""Accuracy of pipelined training against exact training, on real graphs. See README.md beside this file.

python -m benchmarks.accuracy.run --data FOLDER --work FOLDER [--seeds 0 1 2]

Runs that are there already are not run again.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

from benchmarks import common

HERE = Path(__file__).parent
COMMAND = "python -m benchmarks.accuracy.run --data FOLDER --work FOLDER"
EXACT = ["--stages", "1", "--staleness", "exact"]


def cells(data: Path) -> dict[str, tuple[list[str], str]]:
    """Flags of each cell, and its number of stages."""
    cora = ["--dataset", "Cora", "--root", str(data / "Planetoid"), "--model", "gcnii", "--hidden", "64"]
    physics = [
        "--dataset",
        "Physics",
        "--root",
        str(data / "Coauthor"),
        "--model",
        "gcnii",
        "--hidden",
        "100",
    ]
    squirrel = ["--dataset", "squirrel", "--root", str(data / "WikipediaNetwork"), "--model", "resgcn"]
    return {
        "cora": ([*cora, "--layers", "32", "--chunks", "16", "--epochs", "200", "--lr", "0.005"], "2"),
        "physics": ([*physics, "--layers", "32", "--chunks", "32", "--epochs", "100"], "4"),
        "squirrel": (
            [
                *squirrel,
                "--layers",
                "32",
                "--hidden",
                "128",
                "--chunks",
                "32",
                "--epochs",
                "300",
                "--lr",
                "0.001",
            ],
            "4",
        ),
        "synthetic": (["--dataset", "synthetic"], "2"),
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
    for name, (flags, stages) in cells(options.data).items():
        test = {}
        for kind, more in (("pipeline", ["--stages", stages]), ("exact", EXACT)):
            runs = [
                once(options.work / f"{name}-{kind}-{s}", *flags, *more, "--seed", str(s))
                for s in options.seeds
            ]
            test[kind] = [common.summary(run)["test_at_best_val"] for run in runs]
        means = {kind: statistics.mean(values) for kind, values in test.items()}
        result[name] = {
            "flags": " ".join(flags[:2] + flags[4:] if "--root" in flags else flags),
            "stages": int(stages),
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
