"""Find the nodes of a rare class: what accuracy hides, and what class weights do about it.

A graph in which 1 node of 40 is of class "bad" is trained three times: plainly, with a weight of 8 for that
class, and with balanced weights. Accuracy is high each time; how many bad nodes are found, and how many good
ones are taken for bad, differs.

    python examples/rare_classes.py          # 4,000 nodes; half a minute on two cores
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

import torch

import gnnpipe

RUNS: dict[str, dict[str, Any]] = {
    "plain": {},
    "weights [8,1]": {"class_weights": [8, 1]},  # classes are numbered in the order of their names
    "balanced": {"class_weights": "balanced"},
}


def graph(num_nodes: int, rare: float = 0.025) -> gnnpipe.Graph:
    """A random graph: six edges of ten stay in a class, and one feature of 16 tells a little of it."""
    generator = torch.Generator().manual_seed(0)
    bad = torch.rand(num_nodes, generator=generator) < rare
    by_class = bad.long().argsort(stable=True)
    num_good, num_edges = int((~bad).sum()), 5 * num_nodes
    source = torch.randint(num_nodes, (num_edges,), generator=generator)
    stays = torch.rand(num_edges, generator=generator) < 0.6
    where = torch.rand(num_edges, generator=generator)
    among_bad = num_good + (where * (num_nodes - num_good)).long()
    inside = by_class[torch.where(bad[source], among_bad, (where * num_good).long())]
    target = torch.where(stays, inside, torch.randint(num_nodes, (num_edges,), generator=generator))
    features = torch.randn(num_nodes, 16, generator=generator)
    features[:, 0] += bad
    labels = ["bad" if is_bad else "good" for is_bad in bad.tolist()]
    return gnnpipe.Graph.from_edge_index(torch.stack([source, target]), features, labels, undirected=True)


def main() -> None:
    """Train and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--nodes", type=int, default=4000)
    parser.add_argument("--epochs", type=int, default=100)
    asked = parser.parse_args()
    data = graph(asked.nodes)
    print(f"{'':14} accuracy  precision and recall of bad nodes (test)")
    for name, settings in RUNS.items():
        run = gnnpipe.train(
            data, model="sage", layers=2, hidden=32, epochs=asked.epochs, lr=0.01, chunks=1, threads=1,
            metric="macro_f1", out=Path("runs") / name.replace(" ", "-"), overwrite=True, verbose=False,
            **settings,
        )  # fmt: skip
        counts = run.summary["classes"]["test"]
        accuracy = sum(counts["correct"]) / sum(counts["count"])
        with (run.folder / "classes.csv").open() as file:
            rows = [row for row in csv.DictReader(file) if (row["split"], row["class"]) == ("test", "bad")]
        figures = " ".join(f"{float(rows[0][key] or 'nan'):.2f}" for key in ("precision", "recall"))
        print(f"{name:14} {accuracy:.4f}    {figures}")


if __name__ == "__main__":
    main()
