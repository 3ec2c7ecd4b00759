"""An import takes the memory of one bucket, not that of the graph; and leaves nothing when it is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.cli.commands import environment

MIB = 1 << 20
SCRIPT = r"""
import re, sys
from pathlib import Path
import numpy as np
from gnnpipe.config.importing import ImportConfig
from gnnpipe.files.scratch import scratch_folder
from gnnpipe.graph.folder.write import write_graph
from gnnpipe.graph.sources.raw import RawGraph

def peak():
    # ru_maxrss would begin with the memory of the process that started this one
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024

folder, options = Path(sys.argv[1]), dict(part.split("=") for part in sys.argv[2:])
weighted = options.pop("weighted", "") == "yes"
config = ImportConfig(**{key: value == "True" or value for key, value in options.items()})
load = lambda name: np.load(folder / f"{name}.npy", mmap_mode="r")
base = peak()
raw = RawGraph(load("edges"), load("x"), load("y"), None, weight=load("w") if weighted else None)
with scratch_folder(folder) as scratch:
    print("ready", flush=True)
    write_graph(raw, folder / "g", config, scratch)
print(peak() - base)
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Arrays of 5 million edges, most of which lead to few nodes, and features of 128 MB."""
    folder = tmp_path_factory.mktemp("source")
    rng, num_nodes, num_edges = np.random.default_rng(0), 1_000_000, 5_000_000
    target = (num_nodes * rng.random(num_edges) ** 4).astype(np.int64)
    np.save(folder / "edges.npy", np.stack([rng.integers(0, num_nodes, num_edges), target]))
    np.save(folder / "w.npy", rng.random(num_edges, dtype=np.float32))
    np.save(folder / "x.npy", rng.random((num_nodes, 32), dtype=np.float32))
    np.save(folder / "y.npy", rng.integers(0, 10, num_nodes))
    return folder


def start(source: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT, str(source), *options]
    return subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("weighted=yes", "undirected=True"), ("duplicates=sum",)])
def test_five_million_edges_take_300_mib(source: Path, options: tuple[str, ...]) -> None:
    process = start(source, "overwrite=True", *options)
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert int(out.split()[-1]) < 300 * MIB, f"{int(out.split()[-1]) / MIB:.0f} MiB"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_import_leaves_nothing(source: Path, number: int) -> None:
    before = {path.name for path in source.iterdir()} - {"g"}
    process = start(source, "overwrite=True", "name=other")
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.3)
    os.kill(process.pid, number)
    process.communicate(timeout=60)
    assert process.returncode == -number
    leftovers = {path.name for path in source.iterdir()} - before - {"g"}
    # without a chance to remove it, the next import does
    process = start(source, "overwrite=True")
    process.communicate(timeout=300)
    assert {path.name for path in source.iterdir()} == {*before, "g"}, leftovers
