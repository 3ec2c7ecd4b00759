"""The two road graphs: splits as the paper draws them, and graph folders of them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np

from benchmarks import common

NAMES = ("huangpu", "pasadena")
NUM_SPLITS = 3
SHARE = 0.1
"""Share of the nodes that trains, and share that validates; the others test."""


def folder_of(name: str, data: Path, work: Path) -> Path:
    """A graph's folder, imported from ``data/NAME.npz`` with its splits unless it is there already.

    Raises:
        SystemExit: the file is absent, or its import fails.
    """
    folder = work / name
    if folder.exists():
        return folder
    source = data / f"{name}.npz"
    if not source.exists():
        raise SystemExit(f"--data: {source} is absent; give the folder that has {name}.npz")
    work.mkdir(parents=True, exist_ok=True)
    with_splits = work / f"{name}-splits.npz"
    with np.load(source) as arrays:
        np.savez(with_splits, **arrays, **splits(len(arrays["y"])))
    command = [*common.GNNPIPE, "import", str(with_splits), "--undirected", "--out", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"failed: {' '.join(command)}\n{done.stderr}")
    return folder


def splits(num_nodes: int) -> dict[str, np.ndarray]:
    """Masks ``[num_nodes, NUM_SPLITS]`` of 10 / 10 / 80 % of the nodes; column s is drawn with seed s."""
    masks = {f"{name}_mask": np.zeros((num_nodes, NUM_SPLITS), bool) for name in ("train", "val", "test")}
    size = int(SHARE * num_nodes)
    for seed in range(NUM_SPLITS):
        order = np.random.default_rng(seed).permutation(num_nodes)
        for mask, nodes in zip(masks.values(), np.split(order, [size, 2 * size]), strict=True):
            mask[nodes, seed] = True
    return masks
