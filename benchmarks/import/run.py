"""Import a large graph: seconds, peak memory and bytes on disk; then, if asked, a plan and an epoch.

python -m benchmarks.import.run                               200 million edges, from npy files
python -m benchmarks.import.run --edges 20e6 --nodes 1e6 --form csv
python -m benchmarks.import.run --then plan train             also gnnpipe plan, and an epoch of a GCN
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.common import GNNPIPE, rounded, write
from gnnpipe.system.resources import cores, total_memory

BLOCK = 1 << 22
COLUMNS, CLASSES = 16, 10
RESULT = Path(__file__).with_name("result.json")
MIB = 1 << 20
# The modules that an import loads, without a graph.
BASE = "import gnnpipe.graph.folder.write, gnnpipe.graph.sources.detect, gnnpipe.report.graph"


def edge_blocks(num_nodes: int, num_edges: int) -> Any:
    """Blocks of random edges ``[2, block]``: sources alike, targets skewed, so that node 0 has the most.

    Of u^4 the density is x^(-3/4): of 200 million edges among 10 million nodes the first node gets 3.5
    million. Hubs are spread over all ids by a multiplication.
    """
    rng = np.random.default_rng(0)
    factor = next(f for f in range(2_654_435_761, 2_654_435_961) if np.gcd(f, num_nodes) == 1)
    for start in range(0, num_edges, BLOCK):
        size = min(BLOCK, num_edges - start)
        target = (num_nodes * rng.random(size) ** 4).astype(np.int64) * factor % num_nodes
        yield np.stack([rng.integers(0, num_nodes, size), target])


def make_npy(folder: Path, num_nodes: int, num_edges: int) -> None:
    """Write edge_index.npy, node_feat.npy and node_label.npy, block by block."""
    edges = np.lib.format.open_memmap(folder / "edge_index.npy", "w+", np.int64, (2, num_edges))
    for number, block in enumerate(edge_blocks(num_nodes, num_edges)):
        edges[:, number * BLOCK : number * BLOCK + block.shape[1]] = block
    del edges
    rows = np.lib.format.open_memmap(folder / "node_feat.npy", "w+", np.float16, (num_nodes, COLUMNS))
    rng = np.random.default_rng(1)
    for start in range(0, num_nodes, BLOCK // COLUMNS):
        part = rows[start : start + BLOCK // COLUMNS]
        part[:] = rng.random(part.shape, dtype=np.float32)
    del rows
    np.save(folder / "node_label.npy", rng.integers(0, CLASSES, num_nodes))


def make_csv(folder: Path, num_nodes: int, num_edges: int) -> None:
    """Write edges.csv and nodes.csv (id, label, f0, f1), block by block; needs pyarrow."""
    import pyarrow as pa
    import pyarrow.csv

    schema = pa.schema([("source", pa.int64()), ("target", pa.int64())])
    with pa.csv.CSVWriter(folder / "edges.csv", schema) as file:
        for source, target in edge_blocks(num_nodes, num_edges):
            file.write(pa.table({"source": source, "target": target}))
    rng = np.random.default_rng(1)
    nodes = {"id": np.arange(num_nodes), "label": rng.integers(0, CLASSES, num_nodes)}
    for name in ("f0", "f1"):
        nodes[name] = rng.random(num_nodes).round(4)
    pa.csv.write_csv(pa.table(nodes), folder / "nodes.csv")


class Watched:
    """A command that was run: its seconds, and the peak memory of its processes together.

    Args:
        command: what to run.
        out: file for what it prints.
    """

    def __init__(self, command: list[str], out: Path) -> None:
        start = time.monotonic()
        with out.open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        self._together = self.peak_of_one = 0
        thread = threading.Thread(target=self._watch, args=(process.pid,), daemon=True)
        thread.start()
        status = process.wait()
        self.seconds = time.monotonic() - start
        thread.join()
        if status:
            raise SystemExit(f"failed: {' '.join(command)}\n{out.read_text()}")

    def _watch(self, pid: int) -> None:
        """Add up the memory of all processes, ten times a second."""
        with suppress(psutil.Error):
            root = psutil.Process(pid)
            while root.status() != psutil.STATUS_ZOMBIE:
                total = 0
                for process in (root, *root.children(recursive=True)):
                    with suppress(psutil.Error, OSError, TypeError):
                        total += process.memory_full_info().pss
                        # not ru_maxrss, which begins with the memory of the process that started this one
                        status = Path(f"/proc/{process.pid}/status").read_text()
                        peak = int(re.search(r"VmHWM:\s+(\d+)", status)[1]) * 1024  # type: ignore[index]
                        self.peak_of_one = max(self.peak_of_one, peak)
                self._together = max(self._together, total)
                time.sleep(0.1)

    def figures(self) -> dict[str, Any]:
        """What was measured: seconds, the largest VmHWM of a process, and the largest sum of PSS."""
        return {
            "seconds": self.seconds,
            "peak_mib_of_one_process": self.peak_of_one / MIB,
            "peak_mib_together": self._together / MIB,
        }


def measure(work: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Make the files, import them, and do what else is asked."""
    source, graph = work / "source", work / "graph"
    source.mkdir()
    num_nodes, num_edges = int(options.nodes), int(options.edges)
    start = time.monotonic()
    (make_csv if options.form == "csv" else make_npy)(source, num_nodes, num_edges)
    made = time.monotonic() - start
    base = Watched([sys.executable, "-c", BASE], work / "base.log")
    flags = [flag for flag in options.flags.split() if flag]
    imported = Watched([*GNNPIPE, "import", str(source), "--out", str(graph), *flags], work / "import.log")
    print((work / "import.log").read_text())
    result: dict[str, Any] = {
        "num_nodes": num_nodes,
        "num_edges": num_edges,
        "seconds_to_make_the_files": made,
        "source_mib": size_of(source),
        "import": imported.figures() | {"base_mib": base.peak_of_one / MIB, "flags": options.flags},
        "folder_mib": size_of(graph),
    }
    if "plan" in options.then:
        plan = ["plan", "--graph", str(graph), "--model", "gcn", "--layers", "2", "--hidden", "16"]
        result["plan"] = Watched([*GNNPIPE, *plan, "--devices", "2"], work / "plan.log").figures()
        print((work / "plan.log").read_text())
    if "train" in options.then:
        train = ["train", "--graph", str(graph), "--model", "gcn", "--layers", "2", "--hidden", "16"]
        train += ["--parts", "2", "--epochs", "2", "--out", str(work / "run")]
        result["train"] = Watched([*GNNPIPE, *train], work / "train.log").figures()
        print((work / "train.log").read_text())
    return result


def size_of(folder: Path) -> float:
    """MiB of a folder's files."""
    return sum(path.stat().st_size for path in folder.iterdir()) / MIB


def about() -> dict[str, Any]:
    """Hardware and versions."""
    packages = ("numpy", "scipy", "torch")
    return {
        "cores": cores(),
        "load_average": os.getloadavg(),
        "memory_gib": total_memory() / 2**30,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
    }


def main() -> None:
    """Measure as the command line says, and add the figures to result.json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--edges", type=float, default=200e6)
    parser.add_argument("--nodes", type=float, default=10e6)
    parser.add_argument("--form", choices=("npy", "csv"), default="npy")
    parser.add_argument("--flags", default="", help="further flags of gnnpipe import")
    parser.add_argument("--then", nargs="*", default=[], choices=("plan", "train"))
    parser.add_argument("--work", type=Path, help="folder on a disk with room (about 60 bytes an edge)")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.work) as work:
        figures = measure(Path(work), options)
    size = f"{options.form}, {figures['num_edges'] // 10**6} million edges"
    known = json.loads(options.out.read_text()) if options.out.exists() else {}
    write(options.out, known | {size: rounded(about() | figures)})


if __name__ == "__main__":
    main()
