"""The sampled baseline: the same GraphSAGE from torch_geometric's layers, trained on sampled neighbourhoods.

torch_geometric's NeighborLoader samples with pyg-lib or torch-sparse only, which are not among this project's
packages, so `sample` does what it does: from a batch of target nodes outwards, hop by hop, each node that is
reached for the first time draws up to ``fan_out`` of its neighbours. The model runs on the union.

    targets  a          fan-out 2, 2 hops
    hop 1    b c        2 of a's neighbours
    hop 2    d e f      2 of b's, 2 of c's; c's second is a or b: an edge more, no node more
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import SAGEConv

HIDDEN, DROPOUT = 64, 0.2


@dataclass(frozen=True)
class Roads:
    """A graph folder, as arrays."""

    rowptr: np.ndarray
    """int64 ``[num_nodes + 1]``: the neighbours of node i are ``col[rowptr[i]:rowptr[i + 1]]``."""
    col: np.ndarray
    x: Tensor
    """float32 ``[num_nodes, num_features]``, columns standardised."""
    y: Tensor
    """int64 ``[num_nodes]``."""
    masks: dict[str, np.ndarray]
    """Nodes in train, val and test, by split: bool ``[num_nodes, num_splits]``."""

    @property
    def num_nodes(self) -> int:
        return len(self.rowptr) - 1

    @classmethod
    def of(cls, folder: Path) -> Roads:
        """Read a folder that ``gnnpipe import`` has written."""
        x = np.load(folder / "features.npy").astype(np.float64)
        x = (x - x.mean(axis=0)) / np.where(x.std(axis=0) > 0, x.std(axis=0), 1)
        return cls(
            np.load(folder / "rowptr.npy").astype(np.int64),
            np.load(folder / "col.npy").astype(np.int64),
            torch.from_numpy(x.astype(np.float32)),
            torch.from_numpy(np.load(folder / "labels.npy").astype(np.int64)),
            {name: np.load(folder / f"{name}_mask.npy") for name in ("train", "val", "test")},
        )


@dataclass(frozen=True)
class Sample:
    """A sampled neighbourhood."""

    nodes: np.ndarray
    """The nodes, targets first."""
    edge_index: np.ndarray
    """int64 ``[2, num_edges]``: sources and targets of the edges, as positions in ``nodes``."""


def sample(roads: Roads, targets: np.ndarray, hops: int, fan_out: int, rng: np.random.Generator) -> Sample:
    """Draw a neighbourhood of ``targets``, which are distinct."""
    position = np.full(roads.num_nodes, -1)
    position[targets] = np.arange(len(targets))
    reached, edges, frontier = [targets], [], targets
    for _ in range(hops):
        source, target = _drawn(roads, frontier, fan_out, rng)
        frontier = np.unique(source[position[source] < 0])
        position[frontier] = sum(map(len, reached)) + np.arange(len(frontier))
        reached.append(frontier)
        edges.append(np.stack([position[source], position[target]]))
    return Sample(np.concatenate(reached), np.concatenate(edges, axis=1))


def _drawn(
    roads: Roads, frontier: np.ndarray, fan_out: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Up to ``fan_out`` edges into each node, without replacement: sources and targets."""
    degree = roads.rowptr[frontier + 1] - roads.rowptr[frontier]
    owner = np.repeat(np.arange(len(frontier)), degree)
    start = np.cumsum(degree) - degree
    entry = np.arange(len(owner)) - np.repeat(start - roads.rowptr[frontier], degree)
    order = np.lexsort((rng.random(len(owner)), owner))  # shuffled inside each node
    kept = order[np.arange(len(owner)) - start[owner] < fan_out]
    return roads.col[entry[kept]], frontier[owner[kept]]


class Sage(nn.Module):
    """``--model sage --norm batch --residual linear``: layers of ``ReLU(norm(SAGEConv(dropout(h))))``.

    SAGEConv's weight of the node itself is the linear residual.
    """

    def __init__(self, num_features: int, num_classes: int, layers: int) -> None:
        super().__init__()
        widths = [num_features, *[HIDDEN] * (layers - 1), num_classes]
        self.convs = nn.ModuleList(SAGEConv(*pair) for pair in pairwise(widths))
        self.norms = nn.ModuleList(nn.BatchNorm1d(HIDDEN) for _ in range(layers - 1))

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """Logits ``[num_nodes, num_classes]``."""
        for conv, norm in zip(self.convs, self.norms, strict=False):
            x = norm(conv(F.dropout(x, DROPOUT, self.training), edge_index)).relu()
        return self.convs[-1](F.dropout(x, DROPOUT, self.training), edge_index)


@dataclass(frozen=True)
class Budget:
    """What a sampled run may take."""

    rows: float
    """Most nodes of a batch, as a share of the graph's: a stage of four keeps a quarter of all rows."""
    batch: int
    """Target nodes of a step."""
    epochs: int
    lr: float
    eval_every: int


def largest_fan_out(roads: Roads, layers: int, budget: Budget, seed: int) -> tuple[int, float]:
    """The largest fan-out whose batches fit on average, and their share of the nodes; 0 if none fits."""
    best = 0, 0.0
    for fan_out in range(1, int(np.diff(roads.rowptr).max()) + 1):
        rng = np.random.default_rng(seed)
        sizes = [
            len(sample(roads, targets, layers, fan_out, rng).nodes)
            for targets in _batches(roads, seed, budget, rng)
        ]
        share = float(np.mean(sizes)) / roads.num_nodes
        if share > budget.rows:
            break
        best = fan_out, share
    return best


def train(roads: Roads, layers: int, fan_out: int, seed: int, budget: Budget) -> dict[str, float]:
    """Train with sampled batches, evaluate on the whole graph; the test accuracy is at best validation."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = Sage(roads.x.shape[1], int(roads.y.max()) + 1, layers)
    optimizer = torch.optim.Adam(model.parameters(), budget.lr)
    steps = budget.epochs * len(list(_batches(roads, seed, budget, rng)))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    best = {"best_val": 0.0, "test": 0.0, "best_epoch": 0}
    for epoch in range(1, budget.epochs + 1):
        model.train()
        for targets in _batches(roads, seed, budget, rng):
            drawn = sample(roads, targets, layers, fan_out, rng)
            logits = model(roads.x[drawn.nodes], torch.from_numpy(drawn.edge_index))[: len(targets)]
            optimizer.zero_grad()
            F.cross_entropy(logits, roads.y[targets]).backward()
            optimizer.step()
            schedule.step()
        if epoch % budget.eval_every == 0 or epoch == budget.epochs:
            found = _accuracies(roads, model, seed)
            if found["val"] > best["best_val"]:
                best = {"best_val": found["val"], "test": found["test"], "best_epoch": epoch}
    return best | {"train": _accuracies(roads, model, seed)["train"], "steps": steps}


def _batches(roads: Roads, seed: int, budget: Budget, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Training nodes in a new order, in equal batches."""
    nodes = rng.permutation(np.flatnonzero(roads.masks["train"][:, seed]))
    yield from np.array_split(nodes, max(1, round(len(nodes) / budget.batch)))


def _accuracies(roads: Roads, model: Sage, seed: int) -> dict[str, float]:
    """Exact accuracies on the whole graph."""
    target = np.repeat(np.arange(roads.num_nodes), np.diff(roads.rowptr))
    model.eval()
    with torch.no_grad():
        right = model(roads.x, torch.from_numpy(np.stack([roads.col, target]))).argmax(dim=1) == roads.y
    return {name: float(right[mask[:, seed]].float().mean()) for name, mask in roads.masks.items()}
