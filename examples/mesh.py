"""Train a deep GNN on a mesh of your own, exactly, in a pipeline of two processes.

A ``torch_geometric.data.Data`` goes in as it is. Meshes have locality: a chunk of neighbouring nodes reads
rows of few other chunks. So a pipeline that looks a few chunks ahead has no stale rows
(``staleness="exact"``), and its losses are those of one process.

    python examples/mesh.py                  # a 60 x 40 grid, 16 layers; about half a minute on two cores
    python examples/mesh.py --layers 64 --epochs 200
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch_geometric.data import Data

import gnnpipe


def grid(height: int, width: int) -> Data:
    """A grid whose nodes are labelled by the octant, seen from the middle, that they lie in."""
    row, col = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    number = row * width + col
    right = torch.stack([number[:, :-1].flatten(), number[:, 1:].flatten()])
    down = torch.stack([number[:-1].flatten(), number[1:].flatten()])
    edges = torch.cat([right, down], dim=1)
    place = torch.stack([row.flatten() / height, col.flatten() / width], dim=1) - 0.5
    angle = torch.atan2(place[:, 0], place[:, 1])
    labels = ((angle / torch.pi + 1) * 4).long() % 8
    # noise that only a look around evens out, which is what depth is for
    features = torch.cat([place, place.square()], dim=1) + 0.2 * torch.randn(
        height * width, 4, generator=torch.Generator().manual_seed(0)
    )
    return Data(x=features, y=labels, edge_index=torch.cat([edges, edges.flip(0)], dim=1))


def main() -> None:
    """Train, then compare with one process."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--height", type=int, default=60)
    parser.add_argument("--width", type=int, default=40)
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--out", type=Path, default=Path("runs/mesh"), help="folder for the two runs")
    options = parser.parse_args()

    data = grid(options.height, options.width)
    for stages in (2, 1):
        run = gnnpipe.train(
            data,
            model="gcnii",
            layers=options.layers,
            hidden=32,
            dropout=0.1,
            lr=0.01,
            epochs=options.epochs,
            stages=stages,
            threads=1,
            staleness="exact",
            out=options.out / f"{stages}-stages",
            overwrite=True,
        )
        loss, score = run.records()[-1]["loss"], run.summary["test_at_best_val"]
        print(f"{stages} stage(s): last loss {loss:.6f}, test accuracy {score:.4f}")


if __name__ == "__main__":
    main()
