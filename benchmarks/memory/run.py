"""Memory of ranks, predicted against measured. README.md beside this file has results.

python -m benchmarks.memory.run [--all | --others N] [--out FILE]
"""

from __future__ import annotations

import argparse
import os
import platform
import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks import common
from benchmarks.memory.cells import Cell, Size, chosen_cells, every_cell
from benchmarks.memory.measure import Measured, measure, train_measured
from gnnpipe.comm.launch import warm_up
from gnnpipe.system.resources import cores, total_memory

HERE = Path(__file__).parent
MIB = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--all", action="store_true", help="the whole product (hours), not only cells that cover every pair"
    )
    parser.add_argument(
        "--others",
        type=int,
        default=0,
        help="instead, this many cells drawn from all others",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--num-nodes", type=int, default=Size.num_nodes)
    parser.add_argument("--out", type=Path, default=HERE / "result.json")
    options = parser.parse_args()
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # as the command line does
    warm_up(train_measured)
    size = Size(num_nodes=options.num_nodes)
    found: list[dict[str, Any]] = []
    for cell in _cells(options):
        found.append(asdict(cell) | asdict(measure(cell, size)))
        print(row_of(cell, Measured(found[-1]["predicted"], found[-1]["measured"])), flush=True)
    machine = {
        "machine": {"cores": cores(), "memory_bytes": total_memory(), "system": platform.system()},
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "command": "python -m benchmarks.memory.run"
        + f" --others {options.others} --seed {options.seed}" * bool(options.others),
    }
    common.write(options.out, {"cells": found, "size": asdict(size)} | summary(found) | machine)


def _cells(options: argparse.Namespace) -> list[Cell]:
    chosen = chosen_cells()
    if options.others:
        left = [cell for cell in every_cell() if cell not in chosen]
        return random.Random(options.seed).sample(left, options.others)
    return list(every_cell()) if options.all else chosen


def row_of(cell: Cell, found: Measured) -> str:
    """A line of the table: predicted / measured MiB above an idle process, and the error, for each rank."""
    ranks = zip(found.predicted, found.measured, found.errors, strict=True)
    shown = ", ".join(f"{p / MIB:.0f} / {m / MIB:.0f} ({100 * e:+.0f} %)" for p, m, e in ranks)
    return f"| {cell.name} | {shown} |"


def summary(cells: list[dict[str, Any]]) -> dict[str, Any]:
    """Errors over all ranks."""
    errors = [e for cell in cells for e in Measured(cell["predicted"], cell["measured"]).errors]
    off = sorted(abs(error) for error in errors)
    return {
        "ranks": len(off),
        "mean_off": sum(off) / len(off),
        "worst_off": off[-1],
        "share_within_10_percent": sum(error <= 0.1 for error in off) / len(off),
    }


if __name__ == "__main__":
    main()
