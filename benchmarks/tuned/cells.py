"""What is run: models, settings and graphs, as command lines of gnnpipe."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SPLITS = (0, 1, 2)
"""Each with a seed of the same number: those that Minesweeper comes with, and made ones of 60/20/20 %."""
FEW = 10
"""Epochs where losses of two plans are compared."""
QUIET = "--threads 1 --checkpoint-every 0 --device cpu --timeout 3600"
BLOCKS = "benchmarks.tuned.blocks:layers"
"""GraphSAGE in pre-activation blocks."""
LOOKAHEAD = "--stages 4 --staleness.lookahead exact"
EXACT_BLOCKS = "Minesweeper blocks layer exact"
"""The cell whose exact training is pipelined by lookahead."""


@dataclass(frozen=True)
class Source:
    """Where a graph comes from, and what the tuned baselines reach on it."""

    flags: str
    root: str
    """Folder below --data."""
    published: str
    """Range of the test metric in per cent (arXiv 2406.08993)."""
    bar: float
    """Half a point below that range."""


GRAPHS = {
    "Minesweeper": Source("--dataset minesweeper", "HeterophilousGraphDataset", "97 to 98", 96.5),
    "Photo": Source("--dataset Photo", "Amazon", "96 to 97", 95.5),
}


@dataclass(frozen=True)
class Cell:
    """A model on a graph under one setting."""

    graph: str
    model: str
    norm: str
    setting: str
    """exact, or the number of chunks."""
    flags: str

    @property
    def name(self) -> str:
        """Graph, model, norm and setting."""
        return f"{self.graph} {self.model} {self.norm} {self.setting}"

    @property
    def pipelines(self) -> bool:
        """Whether it has several chunks."""
        return "--chunks" in self.flags

    def command(self, data: Path) -> str:
        """Flags of `gnnpipe train`, but for split, seed and folder."""
        source = GRAPHS[self.graph]
        return f"{source.flags} --root {data / source.root} {self.flags}"

    def flag(self, name: str) -> str:
        """The value of a flag; empty if it isn't given."""
        words = self.flags.split()
        return words[words.index(name) + 1] if name in words else ""


EXACT, CHUNKS = "--staleness exact", "--chunks 8"
# Rates, dropout, width and number of layers are the published ones where README.md says nothing else.
MINES = "--hidden 64 --eval-every 20"
BLOCK_MINES = f"--model {BLOCKS} --layers 12 --dropout 0.3 --epochs 900 {MINES}"
PHOTO = "--hidden 64 --layers 6 --weight-decay 0.00005 --eval-every 10"
BLOCK_PHOTO = f"--model {BLOCKS} {PHOTO} --lr 0.003 --dropout 0.5 --epochs 200"
SAGE_PHOTO = f"--model sage --norm layer {PHOTO} --lr 0.001 --dropout 0.2 --epochs 400"

CELLS = (
    Cell(
        "Minesweeper", "sage", "batch", "exact",
        f"--model sage --layers 15 --norm batch --lr 0.01 --dropout 0.2 --epochs 1200 {MINES} {EXACT}",
    ),
    Cell("Minesweeper", "blocks", "layer", "8 chunks", f"{BLOCK_MINES} --lr 0.01 {CHUNKS}"),
    Cell("Photo", "blocks", "layer", "8 chunks", f"{BLOCK_PHOTO} {CHUNKS}"),
    Cell("Photo", "blocks", "layer", "exact", f"{BLOCK_PHOTO} {EXACT}"),
    Cell("Minesweeper", "blocks", "layer", "exact", f"{BLOCK_MINES} --lr 0.005 {EXACT}"),
    Cell("Photo", "sage", "layer", "exact", f"{SAGE_PHOTO} {EXACT}"),
    Cell("Photo", "sage", "layer", "8 chunks", f"{SAGE_PHOTO} {CHUNKS}"),
)  # fmt: skip

# 200 epochs each, on one split: where the norm belongs, and what else was tried.
TRIAL_LAYERS = 12
TRIAL = f"--layers {TRIAL_LAYERS} --hidden 64 --lr 0.01 --dropout 0.2 --epochs 200 --eval-every 20"
PLACES = {
    ("sage", "batch"): "--model sage --norm batch",
    ("sage", "layer"): "--model sage --norm layer",
    ("sage", "layer, identity"): "--model sage --norm layer --residual identity",
    ("resgcn", "layer"): "--model resgcn",
    ("blocks", "layer"): f"--model {BLOCKS}",
}
RATES = {("sage", "layer, rate 0.002"): "--model sage --norm layer --lr 0.002"}
TRIALS = tuple(
    Cell("Minesweeper", model, norm, setting, f"{TRIAL} {flags} {how}")
    for setting, how in {"exact": EXACT, "8 chunks": CHUNKS}.items()
    for (model, norm), flags in {**PLACES, **RATES}.items()
)


def score_of(summary: dict[str, Any]) -> dict[str, float]:
    """Validation and test metric at the best validation epoch in per cent, and the number of that epoch."""
    return {
        "val": 100 * summary["best_val"],
        "test": 100 * summary["test_at_best_val"],
        "epoch": summary["best_epoch"] + 1,
    }


def numbers_of(run: Path) -> list[tuple[float, float | None]]:
    """Loss and validation metric of every epoch."""
    records = map(json.loads, (run / "records.jsonl").read_text().splitlines())
    return [(record["loss"], record.get("val")) for record in records]
