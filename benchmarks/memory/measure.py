"""Measure one cell: run it as the command line does, and take each rank's peak above an idle process."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse as sp
import torch

from benchmarks.memory.cells import Cell, Size
from gnnpipe.comm.launch import launch_local
from gnnpipe.comm.world import join
from gnnpipe.graph.data import Graph
from gnnpipe.graph.splits import random_split
from gnnpipe.nn.models import spec_for
from gnnpipe.nn.tasks import resolve_metric
from gnnpipe.planner.memory.peak import LIBRARY_PAGES, PROCESS_BYTES
from gnnpipe.planner.predictions import predict
from gnnpipe.records.folder import RunFolder
from gnnpipe.run.job import Job, describe_plan, plan_for, prepare_graph
from gnnpipe.run.rank import train
from gnnpipe.run.reporter import Quiet

STATUS, CLEAR, SMAPS = (Path("/proc/self") / name for name in ("status", "clear_refs", "smaps"))
RESET_PEAK = "5"  # see `man 5 proc`


@dataclass(frozen=True)
class Measured:
    """Bytes of each rank above those of an idle process."""

    predicted: list[int]
    measured: list[int]

    @property
    def errors(self) -> list[float]:
        """Predicted over measured, less 1."""
        pairs = zip(self.predicted, self.measured, strict=True)
        return [predicted / measured - 1 for predicted, measured in pairs]

    def least(self, other: Measured) -> Measured:
        """Each rank's lower peak of two runs."""
        return Measured(self.predicted, list(map(min, self.measured, other.measured)))


def graph_of(cell: Cell, size: Size) -> Graph:
    """A random graph with some locality."""
    rng = np.random.default_rng(0)
    nodes, edges = size.num_nodes, size.num_nodes * size.degree // (1 if cell.directed else 2)
    source = rng.integers(nodes, size=edges)
    target = (source + rng.integers(-nodes // 50, nodes // 50, size=edges)) % nodes
    features: torch.Tensor | sp.csr_matrix = torch.randn(nodes, size.num_features)
    if cell.sparse:
        row = np.repeat(np.arange(nodes), size.sparse_entries)
        col = rng.integers(size.num_sparse_features, size=row.size)
        entries = np.ones(row.size, np.float32), (row, col)
        features = sp.csr_matrix(entries, shape=(nodes, size.num_sparse_features))
    if cell.classes == 107:
        labels = torch.from_numpy(rng.random((nodes, cell.classes)) < 0.1).float()
    else:
        labels = torch.from_numpy(rng.integers(cell.classes, size=nodes))
    return Graph.from_edge_index(
        torch.from_numpy(np.stack([source, target])),
        features,
        labels,
        random_split(nodes, seed=0),
        num_classes=cell.classes,
        undirected=not cell.directed,
    )


def measure(cell: Cell, size: Size) -> Measured:
    """Predict the memory of a cell's ranks, run it, and measure."""
    config, data = cell.config(size), graph_of(cell, size)
    plan, spec = plan_for(config, data), spec_for(config, data)
    graph = prepare_graph(data, plan, spec)
    with tempfile.TemporaryDirectory(prefix="gnnpipe-memory-") as scratch:
        path, folder = Path(scratch) / "graph.safetensors", RunFolder(Path(scratch) / "run")
        graph.save(path)
        job = Job(config, plan, spec, path, folder.path, resolve_metric(config.metric, data.task))
        predictions = predict(plan, spec, graph, job.tables, checkpoints=job.checkpointing)
        folder.create(config, describe_plan(job, graph.facts, predictions))
        del graph, data
        launch_local(train_measured, (job,), plan.num_ranks)
        peaks = [json.loads((folder.path / f"peak-{rank}").read_text()) for rank in range(plan.num_ranks)]
    idle = PROCESS_BYTES + LIBRARY_PAGES
    return Measured([needed - idle for needed in predictions.memory_bytes], peaks)


def train_measured(job: Job, store: str) -> None:
    """Join, take the peak so far, train, and write the increase of the peak to the run's folder."""
    with join(job.config, store, device="cpu", threads=1) as world:
        CLEAR.write_text(RESET_PEAK)
        idle = _peak() - _library_pages()
        train(job, world, Quiet())
        (job.out / f"peak-{world.rank}").write_text(json.dumps(_peak() - _library_pages() - idle))


def _peak() -> int:
    """Largest number of resident bytes since the peak was reset."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    return 1024 * int(line.split()[1])


def _library_pages() -> int:
    """Resident bytes of mapped libraries' files; their number only grows.

    A first call brings in 25 MB or 100, depending on how the page cache holds the file.
    """
    found, counts = 0, False
    for line in SMAPS.read_text().splitlines():
        words = line.split()
        if not words[0].endswith(":"):
            counts = ".so" in words[-1]
        elif counts and words[0] in ("Shared_Clean:", "Private_Clean:"):
            found += 1024 * int(words[1])
    return found
