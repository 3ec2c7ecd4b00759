"""Shared by all benchmarks: run gnnpipe as a user does, and record the hardware and versions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

GNNPIPE = [sys.executable, "-m", "gnnpipe"]


def start(out: Path, *flags: str) -> subprocess.Popen[bytes]:
    """Start ``gnnpipe train``; its output goes to a log beside the run's folder."""
    out.parent.mkdir(parents=True, exist_ok=True)
    command = [*GNNPIPE, "train", *flags, "--out", str(out), "--overwrite"]
    with out.with_suffix(".log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)


def finish(process: subprocess.Popen[bytes]) -> None:
    """Wait for a run.

    Raises:
        SystemExit: the run failed.
    """
    if process.wait() != 0:
        raise SystemExit(f"failed: {' '.join(map(str, process.args))}")


def train(out: Path, *flags: str) -> Path:
    """Run ``gnnpipe train`` to its end."""
    finish(start(out, *flags))
    return out


def summary(run: Path) -> dict[str, Any]:
    return dict(json.loads((run / "summary.json").read_text()))


def epoch_seconds(run: Path) -> list[float]:
    """Seconds of every epoch but the first, in which memory is touched for the first time."""
    lines = (run / "records.jsonl").read_text().splitlines()
    return [json.loads(line)["seconds"] for line in lines[1:]]


def bubble_shares(run: Path) -> list[float]:
    """Mean share of every epoch but the first that ranks spent in the bubble."""
    records = [json.loads(line) for line in (run / "records.jsonl").read_text().splitlines()[1:]]
    return [
        sum(rank["bubble"] for rank in record["ranks"]) / len(record["ranks"]) / record["seconds"]
        for record in records
    ]


def environment(run: Path, command: str) -> dict[str, Any]:
    """Hardware and versions from a run's summary, and the load average of the machine."""
    found = summary(run)
    return {
        "hardware": found["hardware"],
        "versions": found["versions"],
        "load_average": os.getloadavg(),
        "command": command,
    }


def write(path: Path, result: dict[str, Any]) -> None:
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def rounded(item: Any) -> Any:
    """Round every float in nested dicts and lists to four digits, for files that people read."""
    if isinstance(item, dict):
        return {key: rounded(value) for key, value in item.items()}
    if isinstance(item, list | tuple):
        return [rounded(value) for value in item]
    return float(f"{item:.4g}") if isinstance(item, float) else item
