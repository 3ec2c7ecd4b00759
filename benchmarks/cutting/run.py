"""METIS against KaMinPar: seconds, edges cut, balance and alpha, by size and number of groups."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from benchmarks.common import rounded, write
from benchmarks.cutting import graphs
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.cut import partition as cutting
from gnnpipe.graph.cut.partition import Partition, halo_counts, node_cost
from gnnpipe.graph.cut.structure import Structure
from gnnpipe.system.versions import hardware

SIZES, GROUPS = (1_000_000, 3_000_000, 10_000_000), (2, 8, 32)
# Dense work of a row of GCNII at width 64, in units of the work of an edge.
ROW_COST = 16.0
# Name, and the threads of KaMinPar; 0 stands for METIS.
METHODS = {"metis": 0, "kaminpar": 1, "kaminpar, 2 threads": 2}


def main() -> None:
    """Cut all graphs; write result.json beside this file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="directed edges")
    parser.add_argument("--groups", type=int, nargs="+", default=GROUPS)
    parser.add_argument("--kinds", nargs="+", default=["planted", "rmat", "web"])
    parser.add_argument("--web", type=Path, help="adj_full.npz of cnr-2000")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("result.json"))
    chosen = parser.parse_args()
    rows = []
    for name, adjacency in _graphs(chosen.kinds, chosen.sizes, chosen.web):
        structure = Structure.of(adjacency)
        for groups in chosen.groups:
            for method, threads in METHODS.items():
                row = {"graph": name, "edges": adjacency.num_entries, "nodes": adjacency.num_rows}
                row |= {"groups": groups, "method": method}
                rows.append(rounded(row | measure(adjacency, structure, groups, threads)))
                print(json.dumps(rows[-1]), flush=True)
    packages = {name: version(name) for name in ("pymetis", "kaminpar", "numpy", "scipy")}
    write(
        chosen.out,
        {
            "rows": rows,
            "hardware": hardware(torch.device("cpu"), 1),
            "packages": packages,
            "load_average": os.getloadavg(),
            "command": "python -m benchmarks.cutting.run --web FILE",
        },
    )


def measure(adjacency: Csr, structure: Structure, groups: int, threads: int) -> dict[str, object]:
    """Cut into groups of equal work and describe the result."""
    cost = np.round(node_cost(adjacency, ROW_COST)).astype(np.int64)
    began, busy = time.perf_counter(), time.process_time()
    if threads:
        assignment = cutting.kaminpar_cut(structure, groups, cost, threads)
    else:
        assignment = cutting.metis_cut(structure, groups, cost)
    seconds, busy = time.perf_counter() - began, time.process_time() - busy
    part = Partition(assignment, groups, "")
    weight = np.bincount(assignment, weights=cost, minlength=groups)
    reader = assignment.repeat(np.diff(adjacency.rowptr.numpy()))
    return {
        "seconds": seconds,
        "core_seconds": busy,
        "cut": float((reader != assignment[adjacency.col.numpy()]).mean()),
        "imbalance": float(weight.max() / weight.mean()),
        "alpha": halo_counts(adjacency, part)[0] / adjacency.num_rows,
        "empty": int((part.sizes() == 0).sum()),
    }


def _graphs(kinds: list[str], sizes: list[int], web: Path | None) -> Iterator[tuple[str, Csr]]:
    for kind in kinds:
        if kind == "web":
            if web is not None:
                yield "cnr-2000", graphs.web(web)
            continue
        make = {"planted": graphs.planted, "rmat": graphs.rmat}[kind]
        for size in sizes:
            yield f"{kind} {size // 1_000_000} M", make(size)


if __name__ == "__main__":
    main()
