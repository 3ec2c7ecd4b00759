"""GCN here and in torch_geometric on a graph whose weights matter. README.md beside this file has results.

python -m benchmarks.weights.run --work FOLDER [--seeds 3] [--out FILE]
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import torch_geometric
from torch import Tensor
from torch_geometric.nn import GCNConv

import gnnpipe
from benchmarks import common
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.data import Graph
from gnnpipe.graph.splits import random_split
from gnnpipe.system.resources import cores

HERE = Path(__file__).parent
NUM_NODES, NUM_CLASSES, NUM_FEATURES, DEGREE = 3000, 5, 32, 20
HIDDEN, RATE, DECAY, DROPOUT, EPOCHS = 32, 0.01, 5e-4, 0.5, 60
LAYERS = (2, 3)


@dataclass(frozen=True)
class Weighted:
    """A graph and its edges as torch_geometric takes them."""

    data: Graph
    edge_index: Tensor
    """int64 ``[2, num_edges]``: sources and targets."""
    weight: Tensor
    """float32 ``[num_edges]``."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=HERE / "result.json")
    options = parser.parse_args()
    tests: dict[str, list[float]] = {}
    for layers in LAYERS:
        for name, test in sides(planted(), layers, options.work).items():
            row = f"GCN, {layers} layers, {name}"
            tests[row] = [100 * test(seed) for seed in range(options.seeds)]
            print(line(row, tests[row]), flush=True)
    versions = {
        "torch": torch.__version__,
        "torch_geometric": torch_geometric.__version__,
        "python": platform.python_version(),
    }
    common.write(
        options.out,
        common.rounded(
            {
                "test_percent": tests,
                "machine": {"cores": cores(), "system": platform.system()},
                "versions": versions,
                "load_average": os.getloadavg(),
                "command": "python -m benchmarks.weights.run --work FOLDER",
            }
        ),
    )


def sides(graph: Weighted, layers: int, work: Path) -> dict[str, Callable[[int], float]]:
    """What is compared: test accuracy by seed."""
    plain = _without_weights(graph.data)
    return {
        "gnnpipe": lambda seed: ours(graph.data, layers, seed, work),
        "gnnpipe, 2 parts": lambda seed: ours(graph.data, layers, seed, work, parts=2, halo="exact"),
        "torch_geometric": lambda seed: pyg(graph, layers, seed, weighted=True),
        "gnnpipe, without weights": lambda seed: ours(plain, layers, seed, work),
        "torch_geometric, without weights": lambda seed: pyg(graph, layers, seed, weighted=False),
    }


def line(row: str, tests: list[float]) -> str:
    """A row of the table: mean and standard deviation over seeds, in percent."""
    spread = statistics.stdev(tests) if len(tests) > 1 else 0.0
    return f"| {row} | {statistics.mean(tests):.1f} ± {spread:.1f} |"


def planted(num_nodes: int = NUM_NODES, seed: int = 0) -> Weighted:
    """Classes that only the weights tell: most edges join different classes, but those inside one are heavy.

    Undirected; some pairs are joined by several edges with weights of their own.
    """
    rng = np.random.default_rng(seed)
    labels = rng.integers(NUM_CLASSES, size=num_nodes)
    members = [np.flatnonzero(labels == label) for label in range(NUM_CLASSES)]
    source = rng.integers(num_nodes, size=num_nodes * DEGREE // 2)
    target = rng.integers(num_nodes, size=len(source))
    inside = rng.random(len(source)) < 0.15
    for label in range(NUM_CLASSES):
        chosen = inside & (labels[source] == label)
        target[chosen] = rng.choice(members[label], size=np.count_nonzero(chosen))
    alike = labels[source] == labels[target]
    weight = np.where(alike, rng.uniform(0.5, 1.5, len(source)), rng.uniform(0, 0.5, len(source)))
    edges = np.concatenate([np.stack([source, target]), np.stack([target, source])], axis=1)
    weights = torch.from_numpy(np.concatenate([weight, weight]).astype(np.float32))
    mean = rng.standard_normal((NUM_CLASSES, NUM_FEATURES))
    features = mean[labels] + 6 * rng.standard_normal((num_nodes, NUM_FEATURES))
    edge_index = torch.from_numpy(edges)
    data = Graph(
        "planted weights",
        _adjacency(edge_index, weights, num_nodes),
        torch.from_numpy(features.astype(np.float32)),
        torch.from_numpy(labels),
        NUM_CLASSES,
        *random_split(num_nodes, seed=seed),
        weighted=True,
    )
    return Weighted(data, edge_index, weights)


def ours(data: Graph, layers: int, seed: int, work: Path, **plan: Any) -> float:
    """Accuracy on test nodes at the best epoch on validation nodes."""
    run = gnnpipe.train(
        data, model="gcn", layers=layers, hidden=HIDDEN, lr=RATE, weight_decay=DECAY, dropout=DROPOUT,
        epochs=EPOCHS, eval_every=1, chunks=1, seed=seed, out=work / "run", overwrite=True, **plan,
    )  # fmt: skip
    return float(run.summary["test_at_best_val"])


def pyg(graph: Weighted, layers: int, seed: int, *, weighted: bool) -> float:
    """The same of torch_geometric's GCN, trained as its examples do."""
    torch.manual_seed(seed)
    data = graph.data
    assert isinstance(data.features, Tensor)
    widths = [NUM_FEATURES, *[HIDDEN] * (layers - 1), NUM_CLASSES]
    convolutions = torch.nn.ModuleList(GCNConv(inside, outside) for inside, outside in pairwise(widths))
    optimizer = torch.optim.Adam(convolutions.parameters(), lr=RATE, weight_decay=DECAY)
    edges = (graph.edge_index, graph.weight) if weighted else (graph.edge_index,)

    def logits(*, training: bool) -> Tensor:
        rows: Tensor = data.features  # type: ignore[assignment]
        for index, convolution in enumerate(convolutions):
            rows = F.dropout(rows, DROPOUT, training)
            rows = convolution(rows, *edges)
            rows = rows.relu() if index < layers - 1 else rows
        return rows

    best, test = 0.0, 0.0
    for _ in range(EPOCHS):
        optimizer.zero_grad()
        train = data.train_mask
        F.cross_entropy(logits(training=True)[train], data.labels[train]).backward()
        optimizer.step()
        with torch.no_grad():
            right = logits(training=False).argmax(dim=1) == data.labels
        if (val := float(right[data.val_mask].float().mean())) > best:
            best, test = val, float(right[data.test_mask].float().mean())
    return test


def _adjacency(edge_index: Tensor, weight: Tensor, num_nodes: int) -> Csr:
    """Rows are targets; parallel edges stay entries of their own."""
    order = torch.argsort(edge_index[1], stable=True)
    rowptr = torch.zeros(num_nodes + 1, dtype=torch.int32)
    rowptr[1:] = torch.bincount(edge_index[1], minlength=num_nodes).cumsum(0)
    return Csr(rowptr, edge_index[0][order].to(torch.int32), weight[order], num_nodes)


def _without_weights(data: Graph) -> Graph:
    """The same graph, where every entry counts the edges of a pair."""
    counts = data.adjacency.with_value(torch.ones(data.num_edges)).to_scipy()
    return replace(data, adjacency=Csr.from_scipy(counts), weighted=False)


if __name__ == "__main__":
    main()
