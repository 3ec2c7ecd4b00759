"""Layers that are not linear: accuracy through a pipeline, and two stages against two halves.

python -m benchmarks.layers.run --work FOLDER --data FOLDER [--only accuracy stages] [--hours 1]

accuracy is resumable: runs that result.json holds are not repeated. Two runs of one thread each go side by
side. README.md beside this file has results.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks import common

HERE = Path(__file__).parent
COMMAND = "python -m benchmarks.layers.run --work FOLDER --data FOLDER"
GRAPHS = {
    "Cora": ("--dataset Cora", "Planetoid"),
    "Photo": ("--dataset Photo", "Amazon"),
    "Minesweeper": ("--dataset minesweeper", "HeterophilousGraphDataset"),
}
MODELS = {
    "gat": "--model gat --norm layer --residual linear",
    "gin": "--model gin --norm layer --residual linear",
    "gen": "--model gen",
}
# The default's numbers are the same under any number of stages. Exact training takes its usual betas, and the
# default's optimiser, so that what staleness does can be told from what the optimiser does.
SETTINGS = {
    "reuse 0.7": "--chunks 16 --staleness.weight 0.7",
    "reuse 0": "--chunks 16 --staleness.weight 0",
    "exact": "--staleness exact --chunks 1",
    "exact, same optimiser": "--staleness exact --chunks 1 --optimizer.betas [0.5,0.9] "
    "--optimizer.averaging 0.9",
}
SEEDS = (0, 1, 2)
TRAINING = "--layers 4 --hidden 64 --dropout 0.3 --lr 0.005 --epochs 100 --eval-every 5 --threads 1"
STAGES = (
    "--model gat --heads 4 --hidden 128 --synthetic.num_nodes 100000 --synthetic.num_features 128 "
    "--eval-every 1000 --checkpoint-every 0 --threads 1"
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--data", type=Path, help="folder with a root for each data set class; for accuracy")
    parser.add_argument("--only", nargs="+", choices=["accuracy", "stages"], default=["accuracy", "stages"])
    parser.add_argument("--hours", type=float, default=2.0, help="start no run of accuracy after so many")
    parser.add_argument("--rounds", type=int, default=2, help="turns of each side; for stages")
    parser.add_argument("--epochs", type=int, default=4, help="epochs of a turn; the first is not counted")
    parser.add_argument("--layers", type=int, default=8, help="layers of both stages together")
    parser.add_argument("--chunks", type=int, nargs="+", default=[8, 16, 32], help="for stages")
    parser.add_argument("--out", type=Path, default=HERE / "result.json")
    options = parser.parse_args()
    result = json.loads(options.out.read_text()) if options.out.exists() else {}
    if "accuracy" in options.only:
        accuracy(options, result)
    if "stages" in options.only:
        result["stages"] = common.rounded(stages(options, result))
    common.write(options.out, result)


def accuracy(options: argparse.Namespace, result: dict[str, Any]) -> None:
    """Test metric of every run at its best validation epoch, by name."""
    runs = result.setdefault("accuracy", {})
    end = time.monotonic() + 3600 * options.hours

    def one(name: str, flags: str) -> None:
        if name in runs or time.monotonic() > end:
            return
        folder = options.work / name.replace(" ", "-").replace(",", "")
        command = [*common.GNNPIPE, "train", *flags.split(), "--out", str(folder), "--overwrite"]
        subprocess.run(command, capture_output=True, check=True)
        found = common.summary(folder)
        runs[name] = round(100 * found["test_at_best_val"], 2)
        result["environment"] = common.environment(folder, COMMAND)
        shutil.rmtree(folder)
        options.out.write_text(json.dumps(result, indent=2) + "\n")
        print(name, runs[name], flush=True)

    with ThreadPoolExecutor(2) as pool:
        waiting = [
            pool.submit(one, f"{graph} {model} {setting} {seed}", " ".join([
                source, "--root", str(options.data / root), layers, flags, TRAINING, "--seed", str(seed),
                "--checkpoint-every 0",
            ]))
            for seed in SEEDS
            for graph, (source, root) in GRAPHS.items()
            for model, layers in MODELS.items()
            for setting, flags in SETTINGS.items()
        ]  # fmt: skip
        for future in waiting:
            future.result()
    for graph in GRAPHS:
        for model in MODELS:
            cells = []
            for setting in SETTINGS:
                found = [runs[key] for seed in SEEDS if (key := f"{graph} {model} {setting} {seed}") in runs]
                cells.append(
                    f"{statistics.mean(found):.1f} +- {statistics.pstdev(found):.1f}" if found else "-"
                )
            print(f"| {graph} | {model} | {' | '.join(cells)} |")


def stages(options: argparse.Namespace, result: dict[str, Any]) -> dict[str, Any]:
    """Two stages of GAT against two independent runs with half of the layers each; one thread a rank."""
    flags = [*STAGES.split(), "--epochs", str(options.epochs)]
    found: dict[str, Any] = {"layers": options.layers}
    for chunks in options.chunks:
        seconds: dict[str, list[float]] = {"pipeline": [], "independent": []}
        number = ["--chunks", str(chunks)]
        for turn in range(options.rounds):
            whole = [*flags, "--layers", str(options.layers), "--stages", "2", *number]
            run = common.train(options.work / f"stages-{chunks}-{turn}", *whole)
            seconds["pipeline"] += common.epoch_seconds(run)
            half = [*flags, "--layers", str(options.layers // 2), *number]
            runs = [options.work / f"half-{chunks}-{turn}-{name}" for name in "ab"]
            for process in [common.start(run, *half) for run in runs]:
                common.finish(process)
            both = zip(*(common.epoch_seconds(run) for run in runs), strict=True)
            seconds["independent"] += [max(pair) for pair in both]
            result["environment"] = common.environment(run, COMMAND)
        medians = {name: statistics.median(values) for name, values in seconds.items()}
        found[str(chunks)] = {
            "epoch_seconds": seconds,
            "median": medians,
            "independent_over_pipeline": medians["independent"] / medians["pipeline"],
        }
    found["best"] = max(found[str(chunks)]["independent_over_pipeline"] for chunks in options.chunks)
    return found


if __name__ == "__main__":
    main()
