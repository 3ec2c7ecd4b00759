"""Compare pipeline, graph parallelism (exact and with a stale halo) and the hybrid over slow links.

python -m benchmarks.pipeline-vs-graph.run --work FOLDER [--rounds 2]

Needs root (network namespaces). Cells that FOLDER holds are not measured again, so it can be interrupted.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import torch

from benchmarks import common, namespaces
from gnnpipe.system.versions import hardware, versions

plans = importlib.import_module("benchmarks.pipeline-vs-graph.plans")
draw = importlib.import_module("benchmarks.pipeline-vs-graph.draw")

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for what is measured")
    parser.add_argument("--rounds", type=int, default=2, help="turns of each plan")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to end"))  # so that no host is left behind
    options.work.mkdir(parents=True, exist_ok=True)
    for ranks in plans.RANKS:
        measure(options.work, ranks, options.rounds)
    cells = {
        path.stem.removeprefix("cell-"): json.loads(path.read_text())
        for path in sorted(options.work.glob("cell-*.json"))
    }
    rates = {ranks: json.loads((options.work / f"rates-{ranks}.json").read_text()) for ranks in plans.RANKS}
    result = {
        "rates_megabits_per_second": rates,
        "cells": cells,
        "settings": {"graph": vars(plans.GRAPH), "hidden": plans.HIDDEN, "rounds": options.rounds},
        "hardware": hardware(torch.device("cpu"), max(plans.RANKS)),
        "versions": versions(),
        "load_average": os.getloadavg(),
        "command": "python -m benchmarks.pipeline-vs-graph.run --work FOLDER",
    }
    (HERE / "result.json").write_text(json.dumps(common.rounded(result), indent=1) + "\n")
    draw.main()


def measure(work: Path, ranks: int, rounds: int) -> None:
    """Start the ranks on hosts of their own and wait for them."""
    environment = os.environ | {"GLOO_SOCKET_IFNAME": namespaces.INTERFACE, "OMP_NUM_THREADS": "1"}
    (work / f"store-{ranks}").unlink(missing_ok=True)
    module = [sys.executable, "-m", "benchmarks.pipeline-vs-graph.rank", str(work), str(ranks)]
    with namespaces.hosts(ranks) as names:
        processes = [
            subprocess.Popen(namespaces.inside(name, [*module, str(rank), str(rounds)]), env=environment)
            for rank, name in enumerate(names)
        ]
        with namespaces.none_left(processes):
            codes = [process.wait() for process in processes]
        if any(codes):
            raise SystemExit(f"failed with {ranks} ranks; see above")


if __name__ == "__main__":
    main()
