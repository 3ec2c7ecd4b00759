"""One start of a run on a graph that is held in a file, in a process of its own."""

from __future__ import annotations

import json
import shutil
import sys
import threading
import time
from pathlib import Path

import numpy as np
import torch

import gnnpipe
from gnnpipe.config.run import SyntheticConfig
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.data import Graph
from gnnpipe.graph.folder.write import save_graph
from gnnpipe.graph.sources.synthetic import planted_partition

RUN = {
    "model": "gcn", "layers": 2, "hidden": 16, "stages": 2, "chunks": 16, "epochs": 1, "threads": 1,
    "checkpoint_every": 0,
}  # fmt: skip
ARRAYS = ("features", "labels", "train_mask", "val_mask", "test_mask")


def make(path: str, nodes: str, degree: str, features: str) -> None:
    """Write the arrays of a built-in graph to a file."""
    graph = planted_partition(
        SyntheticConfig(num_nodes=int(nodes), avg_degree=float(degree), num_features=int(features))
    )
    arrays = {name: getattr(graph, name).numpy() for name in ARRAYS}
    adjacency = graph.adjacency
    np.savez(
        path,
        rowptr=adjacency.rowptr.numpy(),
        col=adjacency.col.numpy(),
        value=adjacency.value.numpy(),
        **arrays,
    )


def save(path: str, folder: str) -> None:
    """Write the same graph as a graph folder."""
    save_graph(_read(path), Path(folder), overwrite=True)


def train(path: str, out: str, *cache: str) -> None:
    """Train an epoch; print when the graph was loaded and when the epoch began, in seconds since 1970.

    Args:
        path: arrays, which become a graph in memory, or a graph folder, which gnnpipe opens if it needs to.
        out: folder of the run.
        cache: folder of the cache, or nothing.
    """
    graph = None if Path(path).is_dir() else _read(path)
    loaded, records = time.time(), Path(out) / "records.jsonl"
    seen: list[float] = []
    watch = threading.Thread(target=_watch, args=(records, seen), daemon=True)
    shutil.rmtree(out, ignore_errors=True)
    watch.start()
    changes = {"graph": path} if graph is None else {}
    run = gnnpipe.train(graph, out=out, cache=cache[0] if cache else None, **RUN, **changes)
    watch.join(10)
    record = run.records()[0]
    first_epoch = seen[0] - float(str(record["seconds"]))
    print(json.dumps({"loaded": loaded, "first_epoch": first_epoch, "loss": record["loss"]}))


def _read(path: str) -> Graph:
    with np.load(path) as arrays:
        held = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    adjacency = Csr(held["rowptr"], held["col"], held["value"], len(held["labels"]))
    fields = [held[name] for name in ARRAYS]
    return Graph("built-in", adjacency, fields[0], fields[1], int(fields[1].max()) + 1, *fields[2:])


def _watch(records: Path, seen: list[float]) -> None:
    """Note when the first record is written."""
    while not seen:
        if records.exists() and records.stat().st_size:
            seen.append(records.stat().st_mtime)
        time.sleep(0.01)


if __name__ == "__main__":
    {"make": make, "save": save, "train": train}[sys.argv[1]](*sys.argv[2:])
