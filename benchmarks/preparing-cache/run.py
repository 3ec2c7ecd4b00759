"""Seconds from the start of a process to its first epoch, with and without the cache."""

from __future__ import annotations

import argparse
import json
import resource
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
    folder = work / f"folder-{chosen.nodes}"
    if not folder.exists():
        child = [sys.executable, "-m", "benchmarks.preparing-cache.start", "save", str(arrays), str(folder)]
        subprocess.run(child, check=True)
    cache = str(work / "cache")
    started = {"without": [], "making": [start(work / "run", arrays, [cache])], "found": []}
    for _ in range(chosen.starts):  # in turns, as other programs may be running
        started["found"].append(start(work / "run", arrays, [cache]))
        started["without"].append(start(work / "run", arrays, []))
    start(work / "run", folder, [cache])
    started["found, graph folder"] = [start(work / "run", folder, [cache]) for _ in range(chosen.starts)]
    rows = {name: medians(found) for name, found in started.items()}
    cached = sum(path.stat().st_size for path in (work / "cache").rglob("*") if path.is_file())
    result = {
        "nodes": chosen.nodes,
        "directed_edges": json.loads((work / "run" / "plan.json").read_text())["graph"]["num_edges"],
        "features": FEATURES,
        "seconds": rows,
        "bytes_in_the_cache": cached,
        "losses_equal": len({one["loss"] for found in started.values() for one in found}) == 1,
        "environment": environment(work / "run", "python -m benchmarks.preparing-cache.run --work FOLDER"),
    }
    write(Path(__file__).with_name("result.json"), rounded(result))


def medians(found: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(one[key] for one in found) for key in found[0]}


def start(out: Path, arrays: Path, cache: list[str]) -> dict[str, float]:
    """Start a run on arrays, or a graph folder, in a new process.

    Returns:
        ``before``: seconds from the start of the process to the start of the first epoch. ``load``: those of
        them until the graph was in memory, imports included. ``core_seconds``: of all processes, with the
        epoch and its evaluation.
    """
    began, busy = time.time(), _core_seconds()
    command = [sys.executable, "-m", "benchmarks.preparing-cache.start", "train", str(arrays), str(out)]
    process = subprocess.run([*command, *cache], check=True, stdout=subprocess.PIPE, text=True)
    told = json.loads(process.stdout.splitlines()[-1])
    return {
        "before": told["first_epoch"] - began,
        "load": told["loaded"] - began,
        "core_seconds": _core_seconds() - busy,
        "loss": told["loss"],
    }


def _core_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
