"""An exact pipeline of four stages against one process: the losses of 100 epochs, with dropout."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import common
from benchmarks.depth.results import Results

LAYERS, EPOCHS = 8, 100
FLOAT_TOLERANCE = 1e-5
TRAINING = (
    "--standardize-features --hidden 64 --dropout 0.2 --lr 0.003 --staleness exact --eval-every 1000 "
    "--checkpoint-every 0 --timeout 3600"
)
LAYER, BATCH = "--norm layer", "--norm batch"
MODELS = {
    "GCN": ("--model gcn --residual linear", (BATCH, LAYER)),
    "GraphSAGE": ("--model sage --residual linear", (BATCH, LAYER)),
    "GAT": ("--model gat --residual linear", (BATCH, LAYER)),
    "GCNII": ("--model gcnii", ("--norm none",)),
    "ResGCN+": ("--model resgcn", (BATCH, LAYER)),
    "GraphSAGE in blocks": (
        "--model benchmarks.depth.blocks:layers",
        ("--model-options [norm=batch]", "--model-options [norm=layer]"),
    ),
}
ONE = "--stages 1 --chunks 1 --threads 1"
# The same sums in another order, in one process: what float32 itself does to 100 epochs. Run where losses
# differ by more than the tolerance.
ANOTHER_ORDER = "--stages 1 --chunks 1 --threads 2"


@dataclass(frozen=True)
class Case:
    """A model and a pipeline."""

    model: str
    flags: str
    chunks: int
    """1 with batch norm, which reads all rows at once; else 16, which stream with exact lookahead."""

    @property
    def name(self) -> str:
        """Key in result.json."""
        norm = self.flags.split("norm")[1].strip(" =]")
        return f"{self.model}, norm {norm}, {self.chunks} chunk{'s' * (self.chunks > 1)}"

    @property
    def pipeline(self) -> str:
        """Flags of the exact pipeline."""
        return f"--stages 4 --chunks {self.chunks} --threads 1"


def cases() -> Iterator[Case]:
    """Every model with each of its norms."""
    for model, (flags, norms) in MODELS.items():
        for norm in norms:
            yield Case(model, f"{flags} {norm}", 1 if "batch" in norm else 16)


@dataclass(frozen=True)
class Difference:
    """How far losses are from those of one process, relative to these."""

    first: float
    """In the first epoch."""
    largest: float
    """The largest of all epochs."""
    within: int
    """Epochs until one is off by more than `FLOAT_TOLERANCE`; all if none is."""
    equal: bool
    """Whether all are the same, bit for bit."""

    @classmethod
    def of(cls, losses: list[float], others: list[float]) -> Difference:
        """Compare losses by epoch."""
        off = [abs(loss - other) / abs(other) for loss, other in zip(losses, others, strict=True)]
        within = next((epoch for epoch, part in enumerate(off) if part > FLOAT_TOLERANCE), len(off))
        return cls(off[0], max(off), within, losses == others)


def compare(results: Results, graph: Path, work: Path) -> None:
    """Compare the cases that are missing, and write what was found."""
    for case in cases():
        if case.name in results.equal:
            continue
        one = losses(graph, work, f"{case.flags} {ONE}")
        found = Difference.of(losses(graph, work, f"{case.flags} {case.pipeline}"), one)
        results.equal[case.name] = {**vars(found), "loss": [round(one[0], 4), round(one[-1], 4)]}
        if found.largest > FLOAT_TOLERANCE:
            noise = Difference.of(losses(graph, work, f"{case.flags} {ANOTHER_ORDER}"), one)
            results.equal[case.name]["another_order"] = vars(noise)
        results.write()
        print(f"{case.name}: {results.equal[case.name]}", flush=True)


def losses(graph: Path, work: Path, flags: str, epochs: int = EPOCHS) -> list[float]:
    """The loss of every epoch of a run."""
    sizes = ["--layers", str(LAYERS), "--epochs", str(epochs)]
    run = common.train(work / "equal", "--graph", str(graph), *TRAINING.split(), *flags.split(), *sizes)
    found = [json.loads(line)["loss"] for line in (run / "records.jsonl").read_text().splitlines()]
    shutil.rmtree(run)
    return found
