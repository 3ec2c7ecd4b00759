"""Train with staleness settings on real graphs: which converge? README.md beside this file has results.

python -m benchmarks.convergence.run --data FOLDER --work FOLDER [--hours 2] [--only main]

Resumable: runs that result.json holds are not repeated, and every run is written there when it ends. Two runs
of one thread each go side by side.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import common
from benchmarks.convergence.plans import EXACTS, Run, runs

HERE = Path(__file__).parent
RESULT = HERE / "result.json"
COMMAND = "python -m benchmarks.convergence.run --data FOLDER --work FOLDER"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with a root for each data set class")
    parser.add_argument("--work", type=Path, required=True, help="folder for the runs, emptied as they end")
    parser.add_argument("--hours", type=float, default=1000.0, help="start no run after so many hours")
    parser.add_argument("--only", nargs="+", help="groups: main, ablation, 'lr 0.01', '16 layers', arxiv ...")
    parser.add_argument("--side-by-side", type=int, default=2, help="runs at a time, of one thread each")
    options = parser.parse_args()
    results = Results()
    wanted = [run for run in runs() if not options.only or run.group in options.only]
    wanted = [run for run in wanted if not results.rule_out(run)]
    missing = [run for run in wanted if not results.holds(run)]
    print(f"{len(wanted) - len(missing)} of {len(wanted)} runs are there", flush=True)
    end = time.monotonic() + 3600 * options.hours
    lock = threading.Lock()
    workers = [
        threading.Thread(
            target=_work, args=(n == 0, missing, lock, results, options.data, options.work / str(n), end)
        )
        for n in range(options.side_by_side)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


class Results:
    """result.json: what every run found, one line each."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._content: dict[str, Any] = (
            json.loads(RESULT.read_text()) if RESULT.exists() else {"command": COMMAND, "runs": {}}
        )

    def holds(self, run: Run) -> bool:
        found = self._content["runs"].get(run.name)
        return found is not None and found["flags"] == run.flags

    def rule_out(self, run: Run) -> bool:
        """Whether to skip a run: only the exact setting better with the first seed gets more seeds."""
        if run.seed == 0 or run.setting not in EXACTS:
            return False
        first = {name: self._content["runs"].get(replace(run, setting=name, seed=0).name) for name in EXACTS}
        if any(found is None for found in first.values()):
            return False
        return max(EXACTS, key=lambda name: first[name]["best_val"]) != run.setting

    def add(self, run: Run, found: dict[str, Any], environment: dict[str, Any] | None) -> None:
        with self._lock:
            self._content["runs"][run.name] = {"flags": run.flags} | found
            if environment is not None:
                self._content["environment"] = environment
            write(self._content)


def write(content: dict[str, Any]) -> None:
    """Write one line for each run, so that diffs can be read."""
    head = {key: value for key, value in content.items() if key != "runs"}
    lines = [f"{json.dumps(name)}: {json.dumps(run)}" for name, run in sorted(content["runs"].items())]
    text = json.dumps(head, indent=1)[:-2] + ',\n "runs": {\n' + ",\n".join(lines) + "\n}}\n"
    aside = RESULT.with_suffix(".new")
    aside.write_text(text)
    aside.replace(RESULT)


def _work(
    takes_large: bool,
    missing: list[Run],
    lock: threading.Lock,
    results: Results,
    data: Path,
    work: Path,
    end: float,
) -> None:
    """One worker takes the large runs, and takes them first: two at a time would not fit into memory."""
    while time.monotonic() < end:
        with lock:
            suited = [run for run in missing if takes_large or not run.large]
            if not suited:
                return
            run = max(suited, key=lambda run: run.large)
            missing.remove(run)
        found, environment = train(run, data, work)
        results.add(run, found, environment)
        print(f"{run.name}: {found['best_val']:.4f} {found['test']:.4f} {found['seconds']:.0f} s", flush=True)


def train(run: Run, data: Path, work: Path) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Run once. A loss that is not finite ends a run and is a result too."""
    root = ["--root", str(data / run.root)] if run.root else []
    shutil.rmtree(work, ignore_errors=True)
    work.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    command = [*common.GNNPIPE, "train", *run.flags.split(), *root, "--threads", "1", "--out", str(work)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False
    )
    finite = done.returncode == 0
    if not finite and "became" not in done.stderr:
        raise RuntimeError(f"failed: {' '.join(command)}\n{done.stderr}")
    records = [json.loads(line) for line in (work / "records.jsonl").read_text().splitlines()]
    if not records:
        raise RuntimeError(f"no epoch ended: {' '.join(command)}\n{done.stderr}")
    found = summarize(records, finite=finite) | {"seconds": round(time.monotonic() - began, 1)}
    environment = common.environment(work, COMMAND) if finite else None
    shutil.rmtree(work)
    return found, environment


def summarize(records: list[dict[str, Any]], *, finite: bool) -> dict[str, Any]:
    """Summary of a run's records, as result.json keeps it."""
    evaluated = [record for record in records if "val" in record]
    best = max(evaluated, key=lambda record: record["val"], default={"val": 0.0, "test": 0.0, "epoch": -1})
    return {
        "finite": finite,
        "best_val": round(best["val"], 5),
        "test": round(best["test"], 5),
        "best_epoch": best["epoch"] + 1,
        "epochs": [record["epoch"] + 1 for record in evaluated],
        "val": [round(record["val"], 4) for record in evaluated],
        "tests": [round(record["test"], 4) for record in evaluated],
        "loss": [float(f"{record['loss']:.4g}") for record in itertools.islice(records, 0, None, 2)],
        "highest_loss_after_20": float(f"{max((r['loss'] for r in records[20:]), default=0.0):.4g}"),
        "epoch_seconds": round(sorted(record["seconds"] for record in records)[len(records) // 2], 3),
    }


if __name__ == "__main__":
    main()
