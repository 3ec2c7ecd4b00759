"""Batch norm against LayerNorm, exact and through a pipeline of 16 chunks.

    python benchmarks/batch-norm/run.py --data FOLDER --out result.json

FOLDER has a root for each data set class, as for benchmarks/convergence. Each number is the mean and the
deviation, over three seeds, of the test metric at the best validation epoch, in per cent.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path

import gnnpipe

GRAPHS = {"Photo": "Amazon", "minesweeper": "HeterophilousGraphDataset"}
NORMS = ("none", "layer", "batch")
SEEDS = (0, 1, 2)
PLANS = {
    "exact": {"staleness": "exact", "chunks": 1, "optimizer": {"betas": (0.9, 0.999)}},
    "16 chunks": {"chunks": 16},
}


def score(graph: str, data: Path, norm: str, plan: str, seed: int, layers: int, epochs: int) -> float:
    """Test metric of a run."""
    with tempfile.TemporaryDirectory() as folder:
        run = gnnpipe.train(
            dataset=graph, root=str(data / GRAPHS[graph]), model="gcn", layers=layers, hidden=64, norm=norm,
            residual="linear", dropout=0.3, lr=0.005, epochs=epochs, eval_every=5, seed=seed, threads=1,
            checkpoint_every=0, device="cpu", out=str(Path(folder) / "run"), **PLANS[plan],
        )  # fmt: skip
        return 100 * float(run.summary["test_at_best_val"])


def main() -> None:
    """Run all cells and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("result.json"))
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=100)
    args = parser.parse_args()
    cells = []
    for graph in GRAPHS:
        for norm in NORMS:
            for plan in PLANS:
                found = [
                    score(graph, args.data, norm, plan, seed, args.layers, args.epochs) for seed in SEEDS
                ]
                cells.append({"graph": graph, "norm": norm, "plan": plan, "test": found})
                mean, spread = statistics.mean(found), statistics.stdev(found)
                print(f"{graph:12} {norm:6} {plan:10} {mean:5.1f} +- {spread:.1f}", flush=True)
                args.out.write_text(json.dumps(cells, indent=2) + "\n")


if __name__ == "__main__":
    main()
