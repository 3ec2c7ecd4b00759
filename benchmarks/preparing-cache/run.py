"""Seconds from the start of a process to its first epoch, with and without the cache."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.common import environment, rounded, write

NODES, DEGREE, FEATURES = 1_000_000, 10, 32
STARTS = 3


def main() -> None:
    """Measure all cases; write result.json beside this file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, required=True, help="folder for the graph, the cache and runs")
    parser.add_argument("--nodes", type=int, default=NODES)
    parser.add_argument("--starts", type=int, default=STARTS)
    chosen = parser.parse_args()
    work: Path = chosen.work
    work.mkdir(parents=True, exist_ok=True)
    arrays = work / f"arrays-{chosen.nodes}.npz"
    if not arrays.exists():
        child = [sys.executable, "-m", "benchmarks.preparing-cache.start", "make", str(arrays)]
        subprocess.run([*child, str(chosen.nodes), str(DEGREE), str(FEATURES)], check=True)
    rows = {}
    for name in ("without", "making", "found"):
        number = 1 if name == "making" else chosen.starts
        cache = [] if name == "without" else [str(work / "cache")]
        found = [start(work / "run", arrays, cache) for _ in range(number)]
        rows[name] = {key: statistics.median(one[key] for one in found) for key in found[0]}
        print(name, rows[name], flush=True)
    cached = sum(path.stat().st_size for path in (work / "cache").rglob("*") if path.is_file())
    result = {
        "nodes": chosen.nodes,
        "directed_edges": json.loads((work / "run" / "plan.json").read_text())["graph"]["num_edges"],
        "features": FEATURES,
        "seconds": rows,
        "bytes_in_the_cache": cached,
        "losses_equal": len({row["loss"] for row in rows.values()}) == 1,
        "environment": environment(work / "run", "python -m benchmarks.preparing-cache.run --work FOLDER"),
    }
    write(Path(__file__).with_name("result.json"), rounded(result))


def start(out: Path, arrays: Path, cache: list[str]) -> dict[str, float]:
    """Start a run on the arrays in a new process.

    Returns:
        ``before``: seconds from the start of the process to the start of the first epoch. ``load``: those of
        them until the graph was in memory, imports included.
    """
    began = time.time()
    command = [sys.executable, "-m", "benchmarks.preparing-cache.start", "train", str(arrays), str(out)]
    process = subprocess.run([*command, *cache], check=True, stdout=subprocess.PIPE, text=True)
    told = json.loads(process.stdout.splitlines()[-1])
    return {"before": told["first_epoch"] - began, "load": told["loaded"] - began, "loss": told["loss"]}


if __name__ == "__main__":
    main()
