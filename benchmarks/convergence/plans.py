"""The runs of the convergence benchmark, in order of importance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Graph:
    """A data set as the benchmark uses it."""

    flags: str
    root: str | None
    """Folder below --data."""
    chunks: int


GRAPHS = {
    "Cora": Graph("--dataset Cora", "Planetoid", 16),
    "CiteSeer": Graph("--dataset CiteSeer", "Planetoid", 16),
    "Chameleon": Graph("--dataset chameleon", "WikipediaNetwork", 16),
    "Squirrel": Graph("--dataset squirrel", "WikipediaNetwork", 32),
    "Photo": Graph("--dataset Photo", "Amazon", 32),
    "synthetic": Graph("--dataset synthetic", None, 32),
    "Tolokers": Graph("--dataset tolokers", "HeterophilousGraphDataset", 32),
    "Physics": Graph("--dataset Physics", "Coauthor", 32),
}
# With so few test nodes that three seeds can't tell a setting from another.
SMALL = ("Cora", "CiteSeer", "Chameleon", "Squirrel")
MODELS = ("gcnii", "resgcn")
EXACT = "--staleness exact --optimizer.betas [0.9,0.999]"
SETTINGS = {
    "exact": EXACT,
    "exact, beta1 0": "--staleness exact --optimizer.betas [0.0,0.99]",
    "paper": "--staleness paper",
    "default": "",
}
EXACTS = ("exact", "exact, beta1 0")
MAIN = "--layers 32 --hidden 64 --lr 0.005 --epochs 100"
# ogbn-arxiv's edges and labels, with features made up from the labels: so the files say.
ARXIV = Graph("--dataset Flickr --undirected", "OgbnArxivSaint", 32)

# Each differs from the default in one setting.
ABLATIONS = {
    "weight 1": "--staleness.weight 1.0",
    "weight 0.85": "--staleness.weight 0.85",
    "weight 0.5": "--staleness.weight 0.5",
    "weight 0 (no old gradients)": "--staleness.weight 0.0",
    "weight fitted": "--staleness.weight fitted",
    "gradient fresh": "--staleness.gradient fresh",
    "gradient corrected": "--staleness.gradient corrected",
    "beta1 0": "--optimizer.betas [0.0,0.9]",
    "beta1 0.9, beta2 0.999": "--optimizer.betas [0.9,0.999]",
    "beta2 0.99": "--optimizer.betas [0.5,0.99]",
    "dropout held 5 epochs": "--staleness.dropout_hold 5",
    "order antithetic": "--staleness.order antithetic",
    "order fixed": "--staleness.order fixed",
    "history clean": "--staleness.history clean",
    "refresh every epoch": "--staleness.refresh 1",
    "freeze 23": "--staleness.freeze 23",
    "lookahead 1": "--staleness.lookahead 1",
    "no averaging": "--optimizer.averaging 0.0",
    "8 chunks": "--chunks 8",
    "128 chunks": "--chunks 128",
}
ABLATION_GRAPHS = ("Photo", "Physics")
# Those that are also run on the larger of the two graphs.
KEY_ABLATIONS = (
    "weight 1",
    "weight 0.5",
    "weight 0 (no old gradients)",
    "gradient fresh",
    "gradient corrected",
    "beta1 0.9, beta2 0.999",
    "beta2 0.99",
    "refresh every epoch",
    "128 chunks",
)
# At the higher learning rate, where undamped feedback shows; one has exact rows at the start of every epoch.
FAST = {
    "weight 1": "--staleness.weight 1.0",
    "weight 1, beta1 0": "--staleness.weight 1.0 --optimizer.betas [0.0,0.9]",
    "weight 1, beta1 0, refresh 1": (
        "--staleness.weight 1.0 --optimizer.betas [0.0,0.9] --staleness.refresh 1"
    ),
}


# The default with fewer bytes a row between four stages, and in tables; in fp32 it is bit for bit that of the
# main grid.
WIRES = {
    "bf16": "--stages 4 --wire bf16",
    "int8": "--stages 4 --wire int8",
    "bf16 tables": "--tables bf16",
}
WIRE_GRAPHS = ("Cora", "Squirrel", "Photo", "synthetic")


@dataclass(frozen=True)
class Run:
    """One training run."""

    group: str
    graph: str
    model: str
    setting: str
    seed: int
    flags: str
    """All flags but the root and those that do not change the result."""
    root: str | None

    @property
    def large(self) -> bool:
        """Whether it takes some 10 GiB of memory."""
        return self.group == "arxiv"

    @property
    def name(self) -> str:
        """Identifies the run among all runs."""
        return f"{self.group}/{self.graph}/{self.model}/{self.setting}/seed {self.seed}"


def runs() -> Iterator[Run]:
    """All runs: the main grid seed by seed, and between the seeds the next most important groups."""
    yield from main_grid(0)
    yield from arxiv()
    yield from main_grid(1)
    yield from other_settings(0, ("default",))
    yield from main_grid(2)
    for seed in (3, 4):
        yield from main_grid(seed, SMALL)
    yield from wires(0)
    yield from other_settings(0, ("exact", "paper", "exact, beta1 0"))
    yield from undamped(0)
    yield from ablations(0)


def main_grid(seed: int, graphs: Sequence[str] = tuple(GRAPHS)) -> Iterator[Run]:
    """Every graph, model and setting."""
    for graph in graphs:
        for model in MODELS:
            for setting, flags in SETTINGS.items():
                yield _run("main", graph, model, setting, seed, f"{MAIN} {flags}")


def ablations(seed: int) -> Iterator[Run]:
    """Around the default, GCNII."""
    for graph in ABLATION_GRAPHS:
        for setting, flags in ABLATIONS.items():
            if graph == "Photo" or setting in KEY_ABLATIONS:
                yield _run("ablation", graph, "gcnii", setting, seed, f"{MAIN} {flags}")


def other_settings(seed: int, settings: Sequence[str]) -> Iterator[Run]:
    """Another learning rate, and other depths."""
    for setting in settings:
        for graph in ABLATION_GRAPHS:
            for model in MODELS:
                for group, flags in (
                    ("lr 0.01", f"{MAIN} --lr 0.01"),
                    ("16 layers", f"{MAIN} --layers 16"),
                    ("64 layers", f"{MAIN} --layers 64"),
                ):
                    if group == "lr 0.01" or (setting in ("exact", "default") and model == "gcnii"):
                        yield _run(group, graph, model, setting, seed, f"{flags} {SETTINGS[setting]}")


def wires(seed: int) -> Iterator[Run]:
    """Fewer bytes a row between stages and in tables."""
    for graph in WIRE_GRAPHS:
        for wire, flags in WIRES.items():
            yield _run("wire", graph, "gcnii", wire, seed, f"{MAIN} {flags}")


def undamped(seed: int) -> Iterator[Run]:
    """Without damping (weight 1), to show the purpose of the default's weight."""
    for setting, flags in FAST.items():
        yield _run("lr 0.01", "Physics", "gcnii", setting, seed, f"{MAIN} --lr 0.01 {flags}")


def arxiv() -> Iterator[Run]:
    """ogbn-arxiv's structure, for as many epochs as fit into an hour or so a run."""
    for setting in ("default", "exact", "paper", "exact, beta1 0"):
        yield Run(
            "arxiv",
            "ogbn-arxiv structure",
            "gcnii",
            setting,
            0,
            f"{ARXIV.flags} --chunks {ARXIV.chunks} --model gcnii --layers 32 --hidden 64 --lr 0.005 "
            f"--epochs 120 --eval-every 4 --seed 0 {SETTINGS[setting]}",
            ARXIV.root,
        )


def _run(group: str, graph: str, model: str, setting: str, seed: int, flags: str) -> Run:
    """A run on one of `GRAPHS`; flags that come later win."""
    where = GRAPHS[graph]
    return Run(
        group,
        graph,
        model,
        setting,
        seed,
        f"{where.flags} --chunks {where.chunks} --model {model} --eval-every 2 --seed {seed} {flags}",
        where.root,
    )
