"""Memory and seconds of preparing a graph. README.md beside this file has results.

python -m benchmarks.preparing.run --work FOLDER [--edges 2 10] [--out FILE]
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks import common
from benchmarks.preparing.graphs import rmat
from gnnpipe.graph.cut.chunks import CutSpec
from gnnpipe.graph.data import Graph
from gnnpipe.graph.prepare import prepared
from gnnpipe.system.resources import cores, total_memory

HERE = Path(__file__).parent
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # see `man 5 proc`
CUTS = {
    "line, 1 chunk": CutSpec(1, 1, 16.0, local=True),
    "1 part": CutSpec(1, 1, 16.0),
    "2 parts": CutSpec(2, 1, 16.0),
    "2 parts, 4 chunks": CutSpec(2, 4, 16.0),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for the prepared graphs")
    parser.add_argument("--edges", type=float, nargs="+", default=[2, 10], help="millions of entries")
    parser.add_argument("--cuts", nargs="+", choices=CUTS, default=list(CUTS))
    parser.add_argument("--out", type=Path, default=HERE / "result.json")
    # edges, kind and cut of a single cell, measured in this process
    parser.add_argument("--cell", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell:
        edges, kind, cut = options.cell
        found = measure(round(1e6 * float(edges)), cut, options.work, directed=kind == "directed")
        print(json.dumps(found))
        return
    cells = [
        _in_its_own_process(options.work, edges, kind, cut)
        for edges in options.edges
        for kind in ("undirected", "directed")
        for cut in options.cuts
    ]
    machine = {
        "machine": {"cores": cores(), "memory_bytes": total_memory(), "system": platform.system()},
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "load_average": os.getloadavg(),
        "command": "python -m benchmarks.preparing.run --work FOLDER",
    }
    common.write(options.out, common.rounded({"cells": cells} | machine))


def _in_its_own_process(work: Path, edges: float, kind: str, cut: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.preparing.run", "--work", str(work)]
    done = subprocess.run([*command, "--cell", str(edges), kind, cut], stdout=subprocess.PIPE, check=True)
    found = {"edges": edges, "kind": kind, "cut": cut} | json.loads(done.stdout)
    shown = [f"{found[step] / found['csr_bytes']:.2f}" for step in ("cutting", "other_steps")]
    print(
        f"| {edges:g} M, {kind} | {cut} | {' | '.join(shown)} | "
        f"{found['cutting_seconds']:.2f} | {found['seconds'] - found['cutting_seconds']:.2f} |",
        flush=True,
    )
    return found


def measure(num_edges: int, cut: str, work: Path, *, directed: bool) -> dict[str, Any]:
    """Prepare a graph that is held in memory into a file, and measure this process.

    Returns:
        bytes of the normalised adjacency (rowptr, col and value); the highest resident memory above that of
        the process with the graph, pages of mapped files included, while cutting (with what METIS itself
        takes) and in all other steps; and seconds of a core, which other work on the machine does not change.
    """
    data = rmat(num_edges, directed=directed)
    path, cut_graph = work / "graph.safetensors", prepared.cut_graph
    found: dict[str, Any] = {}

    def watched(*arguments: Any) -> Any:
        begin, before = time.process_time(), peak()
        CLEAR.write_text(RESET_PEAK)
        result = cut_graph(*arguments)
        found["cutting"], found["cutting_seconds"] = peak() - base, time.process_time() - begin
        trim()  # what METIS has given back to the C library is no memory of later steps
        CLEAR.write_text(RESET_PEAK)
        found["other_steps"] = before - base
        return result

    trim()
    CLEAR.write_text(RESET_PEAK)
    base, start = peak(), time.process_time()
    prepared.cut_graph = watched
    prepare_to_file(data, CUTS[cut], path)
    found["seconds"] = time.process_time() - start
    found["other_steps"] = max(found["other_steps"], peak() - base)
    graph = prepared.PreparedGraph.load(path)
    found["csr_bytes"], found["symmetric"] = graph.matrix.nbytes, graph.matrix_t is graph.matrix
    path.unlink()
    return found


def prepare_to_file(data: Graph, spec: CutSpec, path: Path) -> None:
    """As `gnnpipe.run.job` does; versions before 1.1 first held everything in memory."""
    if hasattr(prepared, "prepare_file"):
        prepared.prepare_file(data, spec, "gcn", path)
    else:
        prepared.prepare(data, spec, "gcn").save(path)


def peak() -> int:
    """Largest number of resident bytes since the peak was reset."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    return 1024 * int(line.split()[1])


def trim() -> None:
    """Give memory that the C library keeps for later back to the system."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


if __name__ == "__main__":
    main()
