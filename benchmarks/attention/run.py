"""Speed and peak memory of attention: built in, torch_geometric's alone, and torch_geometric's pushed by us.

python -m benchmarks.attention.run --work FOLDER [--only SECTION ...] [--rounds 2]

Every time is a median; the sides of a comparison take turns (A B C A B C) in one run. README.md beside this
file has results.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import common
from benchmarks.attention import pulls
from benchmarks.attention.models import DEGREE, HIDDEN

HERE = Path(__file__).parent
COMMAND = "python -m benchmarks.attention.run --work FOLDER"


@dataclass(frozen=True)
class Side:
    """One way to train a model."""

    model: str
    """Function in models.py, or torch_geometric's convolution."""
    is_ours: bool
    """Whether gnnpipe trains it."""


# GATv2 of torch_geometric needs three times GAT's memory: two layers are what 24 GiB hold
SECTIONS: dict[str, tuple[int, dict[str, Side]]] = {
    "gat": (
        8,
        {
            "built in": Side("gat", is_ours=True),
            "torch_geometric": Side("gat", is_ours=False),
            "pushed": Side("pushed", is_ours=True),
        },
    ),
    "gatv2": (
        2,
        {
            "built in": Side("gatv2", is_ours=True),
            "torch_geometric": Side("gatv2", is_ours=False),
        },
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--rounds", type=int, default=2, help="turns of every side")
    parser.add_argument("--epochs", type=int, default=4, help="epochs of a turn; the first is not counted")
    parser.add_argument("--num-nodes", type=int, default=100_000)
    parser.add_argument("--layers", type=int, help="by default 8 of GAT, 2 of GATv2")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=[*SECTIONS, "pulls"], default=[*SECTIONS, "pulls"])
    parser.add_argument("--out", type=Path, default=HERE / "result.json")
    options = parser.parse_args()
    result = json.loads(options.out.read_text()) if options.out.exists() else {}
    for name in options.only:
        found = pulls.measured(options.threads) if name == "pulls" else compare(name, options)
        result[name] = common.rounded(found)
    runs = sorted(options.work.glob("*/summary.json"))
    if runs:
        result["environment"] = common.environment(runs[-1].parent, COMMAND)
    common.write(options.out, result)


def compare(section: str, options: argparse.Namespace) -> dict[str, Any]:
    """Epochs and peaks of every side."""
    depth, sides = SECTIONS[section]
    layers = options.layers or depth
    turns: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    for round_ in range(options.rounds):
        for name, side in sides.items():
            train = ours if side.is_ours else theirs
            work = options.work / f"{section}-{name.replace(' ', '-')}-{round_}"
            turns[name].append(train(side.model, layers, options, work))
    seconds = {name: [epoch for turn in found for epoch in turn["seconds"]] for name, found in turns.items()}
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    peaks = {name: max(turn["peak_bytes"] for turn in found) for name, found in turns.items()}
    return {
        "layers": layers,
        "epoch_seconds": seconds,
        "median": medians,
        "speed_over_torch_geometric": _over(medians["torch_geometric"], medians),
        "peak_bytes": peaks,
        "peak_over_torch_geometric": {name: peak / peaks["torch_geometric"] for name, peak in peaks.items()},
    }


def _over(reference: float, values: dict[str, float]) -> dict[str, float]:
    return {name: reference / value for name, value in values.items()}


def ours(model: str, layers: int, options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """A run of ``gnnpipe train``."""
    run = common.train(
        work, "--model", f"{HERE / 'models.py'}:{model}", "--layers", str(layers),
        "--synthetic.num_nodes", str(options.num_nodes), "--synthetic.avg_degree", str(DEGREE),
        "--synthetic.num_features", str(HIDDEN),
        "--epochs", str(options.epochs), "--eval-every", "1000", "--threads", str(options.threads),
    )  # fmt: skip
    return {
        "seconds": common.epoch_seconds(run),
        "peak_bytes": max(common.summary(run)["peak_memory_bytes"]),
    }


def theirs(model: str, layers: int, options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """A run of pyg.py."""
    command = [
        sys.executable, "-m", "benchmarks.attention.pyg", "--model", model, "--layers", str(layers),
        "--num-nodes", str(options.num_nodes), "--epochs", str(options.epochs),
        "--threads", str(options.threads),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    main()
