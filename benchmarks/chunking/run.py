"""Cost of chunks and of a second stage, and memory that stages save. README.md beside this file has results.

python -m benchmarks.chunking.run --work FOLDER [--rounds 2] [--epochs 4] [--num-nodes 100000]
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

from benchmarks import common

HERE = Path(__file__).parent
LAYERS = 32
COMMAND = "python -m benchmarks.chunking.run --work FOLDER"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--rounds", type=int, default=2, help="times that A B is run")
    parser.add_argument("--epochs", type=int, default=4, help="epochs of a run; the first is not counted")
    parser.add_argument("--num-nodes", type=int, default=100_000)
    parser.add_argument("--out", type=Path, default=HERE / "result.json")
    options = parser.parse_args()
    flags = [
        "--synthetic.num_nodes", str(options.num_nodes), "--model", "gcnii", "--hidden", "128",
        "--threads", "1", "--epochs", str(options.epochs), "--eval-every", "1000",
    ]  # fmt: skip
    result = {
        "chunking": chunking(options, flags),
        "two_stages": two_stages(options, flags),
        "memory": memory(options, flags),
        "settings": {
            "num_nodes": options.num_nodes,
            "layers": LAYERS,
            "hidden": 128,
            "rounds": options.rounds,
        },
    }
    common.write(options.out, result | common.environment(options.work / "memory-s4", COMMAND))


def chunking(options: argparse.Namespace, flags: list[str]) -> dict[str, object]:
    """(1,1,32) against (1,1,1): A B A B."""
    seconds: dict[int, list[float]] = {1: [], 32: []}
    for round_ in range(options.rounds):
        for chunks in (1, 32):
            run = options.work / f"chunking-k{chunks}-{round_}"
            common.train(run, *flags, "--layers", str(LAYERS), "--chunks", str(chunks))
            seconds[chunks] += common.epoch_seconds(run)
    medians = {chunks: statistics.median(values) for chunks, values in seconds.items()}
    return {"epoch_seconds": seconds, "median": medians, "ratio_32_to_1": medians[32] / medians[1]}


def two_stages(options: argparse.Namespace, flags: list[str]) -> dict[str, object]:
    """Two ranks against two independent ranks with half of the layers each, and one rank alone: A B C A B C.

    The independent ones share the cores' memory bus as the stages do; they are the ceiling.
    """
    whole = [*flags, "--layers", str(LAYERS), "--chunks", "16"]
    half = [*flags, "--layers", str(LAYERS // 2), "--chunks", "16"]
    seconds: dict[str, list[float]] = {"pipeline": [], "independent": [], "one_rank": []}
    bubbles = []
    for round_ in range(options.rounds):
        run = common.train(options.work / f"stages-s2-{round_}", *whole, "--stages", "2")
        seconds["pipeline"] += common.epoch_seconds(run)
        bubbles += common.bubble_shares(run)
        runs = [options.work / f"half-{name}-{round_}" for name in "ab"]
        for process in [common.start(run, *half) for run in runs]:
            common.finish(process)
        # the pair is done when the slower one is
        both = zip(*(common.epoch_seconds(run) for run in runs), strict=True)
        seconds["independent"] += [max(pair) for pair in both]
        run = common.train(options.work / f"stages-s1-{round_}", *whole)
        seconds["one_rank"] += common.epoch_seconds(run)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "epoch_seconds": seconds,
        "median": medians,
        "ratio_to_independent": medians["pipeline"] / medians["independent"],
        "speed_up_over_one_rank": medians["one_rank"] / medians["pipeline"],
        "median_bubble_share": statistics.median(bubbles),
    }


def memory(options: argparse.Namespace, flags: list[str]) -> dict[str, object]:
    """Peak resident memory of the largest rank with one and with four stages."""
    peaks = {}
    for stages in (1, 4):
        run = options.work / f"memory-s{stages}"
        common.train(run, *flags, "--layers", str(LAYERS), "--chunks", "32", "--stages", str(stages))
        peaks[stages] = max(common.summary(run)["peak_memory_bytes"])
    return {"peak_bytes": peaks, "ratio_4_to_1": peaks[4] / peaks[1]}


if __name__ == "__main__":
    main()
