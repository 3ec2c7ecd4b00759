"""Cost and gain of exact lookahead on graphs with locality. README.md beside this file has results.

python -m benchmarks.lookahead.run --work FOLDER

Plans take turns, and every figure is a median over epochs and rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from benchmarks import common

HERE = Path(__file__).parent
COMMAND = "python -m benchmarks.lookahead.run --work FOLDER"
EPOCHS = 8
MODEL = (
    f"--model gcnii --layers 32 --hidden 64 --epochs {EPOCHS} --eval-every {EPOCHS} --threads 1 --stages 2"
)
GRAPHS = {
    "strip": "--synthetic.num_nodes 100000 --synthetic.reach 1",
    "wide strip": "--synthetic.num_nodes 100000 --synthetic.reach 4",
}
PLANS = {
    "exact lookahead": "--staleness exact",
    "one chunk": "--staleness exact --staleness.lookahead 0",
    "stale, 32 chunks": "--chunks 32",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    result: dict[str, Any] = {}
    for graph, graph_flags in GRAPHS.items():
        seconds: dict[str, list[float]] = {plan: [] for plan in PLANS}
        bubbles: dict[str, list[float]] = {plan: [] for plan in PLANS}
        plans: dict[str, dict[str, Any]] = {}
        for number in range(options.rounds):
            for plan, flags in PLANS.items():
                run = options.work / f"{graph}-{plan}-{number}".replace(" ", "-").replace(",", "")
                common.train(run, *MODEL.split(), *graph_flags.split(), *flags.split())
                seconds[plan] += common.epoch_seconds(run)
                bubbles[plan] += bubbles_of(run)
                plans[plan] = json.loads((run / "plan.json").read_text())
        result[graph] = {
            plan: {
                "chunks": plans[plan]["plan"]["num_chunks"],
                "lookahead": plans[plan]["plan"]["lookahead"],
                "epoch_seconds": statistics.median(seconds[plan]),
                "bubble": statistics.median(bubbles[plan]),
                "bubble_simulated": plans[plan]["predictions"]["bubble"],
                "faster_than_one_chunk": statistics.median(seconds["one chunk"])
                / statistics.median(seconds[plan]),
            }
            for plan in PLANS
        }
    common.write(
        HERE / "result.json",
        common.environment(run, COMMAND) | {"flags": MODEL, "graphs": common.rounded(result)},
    )


def bubbles_of(run: Path) -> list[float]:
    """Simulated share of the bubble in compute and bubble, in every epoch but the first."""
    records = [json.loads(line) for line in (run / "records.jsonl").read_text().splitlines()[1:]]
    found = []
    for record in records:
        bubble = sum(rank["bubble"] for rank in record["ranks"])
        found.append(bubble / (bubble + sum(rank["compute"] for rank in record["ranks"])))
    return found


if __name__ == "__main__":
    main()
