"""Accuracy by depth on two road graphs of City-Networks. README.md beside this file has results.

python -m benchmarks.depth.run --work FOLDER --data FOLDER [--only tune accuracy ...] [--hours 1]

FOLDER of --data has huangpu.npz and pasadena.npz. Resumable: what result.json holds is not repeated, and each
run is written there when it ends. At the end the tables are printed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

from benchmarks import common
from benchmarks.depth import equal, sampled, tables
from benchmarks.depth.graphs import folder_of
from benchmarks.depth.plans import BUDGET, GROUPS, SAMPLED
from benchmarks.depth.results import RESULT, Results, summarize

COMMAND = "python -m benchmarks.depth.run --work FOLDER --data FOLDER"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for graphs and runs")
    parser.add_argument("--data", type=Path, required=True, help="folder with huangpu.npz and pasadena.npz")
    parts = [*GROUPS, "sampled", "equal"]
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    parser.add_argument("--match", default="", help="only runs whose name has this (regular expression)")
    parser.add_argument("--hours", type=float, default=24.0, help="start no run after so many hours")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    results, end = Results.read(options.out), time.monotonic() + 3600 * options.hours
    for part in options.only:
        if part == "equal":
            equal.compare(results, folder_of("huangpu", options.data, options.work), options.work)
        elif part == "sampled":
            sample_all(results, options, end)
        else:
            train_all(results, options, part, end)
    print(tables.text(results))


def train_all(results: Results, options: argparse.Namespace, group: str, end: float) -> None:
    """Make the runs of a group that are missing."""
    for run in GROUPS[group]():
        if results.holds(run) or time.monotonic() > end or not re.search(options.match, run.name):
            continue
        graph = folder_of(run.graph, options.data, options.work)
        folder = options.work / "run"
        command = [*common.GNNPIPE, "train", "--graph", str(graph), *run.flags.split(), "--overwrite"]
        began = time.monotonic()
        done = subprocess.run(
            [*command, "--out", str(folder)],
            capture_output=True,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            check=False,
        )
        if done.returncode != 0:
            raise SystemExit(f"failed: {' '.join(command)}\n{done.stderr}")
        records = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
        seconds = {"seconds": round(time.monotonic() - began, 1)}
        results.runs[run.name] = {"flags": run.flags} | summarize(records) | seconds
        results.environment = common.environment(folder, COMMAND)
        results.write()
        shutil.rmtree(folder)
        found = results.runs[run.name]
        print(f"{run.name}: {found['best_val']:.4f} {found['test']:.4f} {found['seconds']} s", flush=True)


def sample_all(results: Results, options: argparse.Namespace, end: float) -> None:
    """Train the sampled baseline where it is missing."""
    for graph, layers, seed in SAMPLED:
        name = f"{graph}/{layers}/{seed}"
        if name in results.sampled or time.monotonic() > end or not re.search(options.match, name):
            continue
        roads = sampled.Roads.of(folder_of(graph, options.data, options.work))
        fan_out, share = sampled.largest_fan_out(roads, layers, BUDGET, seed)
        found: dict[str, float] = {"fan_out": fan_out, "share_of_rows": round(share, 4)}
        if fan_out:
            found |= sampled.train(roads, layers, fan_out, seed, BUDGET)
        results.sampled[name] = found
        results.write()
        print(name, found, flush=True)


if __name__ == "__main__":
    main()
