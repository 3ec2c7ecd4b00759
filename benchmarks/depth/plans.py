"""The training runs of the depth benchmark, in the order in which they are made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from benchmarks.depth.sampled import Budget

DEPTHS = (2, 4, 8, 16, 32, 64)
SEEDS = (0, 1, 2)
"""A seed draws the weights and is the number of the split."""

TRAINING = (
    "--standardize-features --hidden 64 --eval-every 20 --checkpoint-every 0 --threads 1 --timeout 3600"
)
CONSTANT = "--lr 0.003 --epochs 500"
COSINE = "--lr 0.003 --epochs 300 --optimizer.schedule cosine --optimizer.warmup 20"

LONG = "--lr 0.003 --epochs 1000 --optimizer.schedule cosine --optimizer.warmup 20"


@dataclass(frozen=True)
class Model:
    """A model as the tables have it."""

    title: str
    flags: str
    training: str
    """Rate, schedule and epochs, as tuning chose them."""


MODELS = {
    "sage": Model("GraphSAGE", "--model sage --norm batch --residual linear --dropout 0.2", CONSTANT),
    "gcn": Model("GCN", "--model gcn --norm batch --residual linear --dropout 0.2", CONSTANT),
    "gat": Model("GAT", "--model gat --norm batch --residual linear --dropout 0.2", CONSTANT),
    "gcnii": Model("GCNII", "--model gcnii --dropout 0.2", COSINE),
    "resgcn": Model("ResGCN+", "--model resgcn --norm batch --dropout 0.2", COSINE),
    "ressage": Model(
        "GraphSAGE in blocks",
        "--model benchmarks.depth.blocks:layers --model-options [norm=batch] --dropout 0.2",
        COSINE,
    ),
    # LayerNorm goes with several chunks
    "resgcn-layer": Model("ResGCN+, LayerNorm", "--model resgcn --norm layer --dropout 0.2", COSINE),
}
PLANS = {"exact": "--staleness exact --chunks 1", "stale": "--chunks 16"}
"""Settings: nothing stale, and the default with 16 chunks, whose numbers any number of stages gives."""


@dataclass(frozen=True)
class Run:
    """One training run."""

    group: str
    graph: str
    model: str
    setting: str
    layers: int
    seed: int
    options: str
    """Flags of the model, of its training and of the plan."""

    @property
    def name(self) -> str:
        """Key in result.json."""
        return f"{self.group}/{self.graph}/{self.model}/{self.setting}/{self.layers}/{self.seed}"

    @property
    def flags(self) -> str:
        """All flags but those that name folders."""
        own = f"{self.options} --layers {self.layers} --split {self.seed} --seed {self.seed}"
        return f"{TRAINING} {own}"


def _runs(
    group: str, graph: str, model: str, setting: str, depths: Iterable[int], seeds: Iterable[int]
) -> Iterator[Run]:
    options = f"{MODELS[model].flags} {MODELS[model].training} {PLANS[setting]}"
    for seed in seeds:
        for layers in depths:
            yield Run(group, graph, model, setting, layers, seed, options)


_SAGE, _RESGCN, _RESSAGE = "--model sage", "--model resgcn", "--model benchmarks.depth.blocks:layers"
TRIED = [
    ("sage", 16, f"{_SAGE} --norm batch --residual linear", "0.003", "constant", 800, 0.2),
    ("sage", 16, f"{_SAGE} --norm batch --residual linear", "0.01", "cosine", 400, 0.2),
    ("sage", 32, f"{_SAGE} --norm batch --residual linear", "0.003", "cosine", 300, 0.2),
    ("sage", 64, f"{_SAGE} --norm batch --residual linear", "0.003", "constant", 160, 0.2),
    ("sage, identity", 64, f"{_SAGE} --norm batch --residual identity", "0.003", "cosine", 200, 0.2),
    ("sage, identity, layer", 64, f"{_SAGE} --norm layer --residual identity", "0.003", "cosine", 200, 0.2),
    ("sage, jk max", 16, f"{_SAGE} --norm batch --residual linear --jk max", "0.003", "cosine", 400, 0.2),
    ("sage, jk max", 64, f"{_SAGE} --norm batch --residual linear --jk max", "0.003", "cosine", 150, 0.2),
    (
        "sage, jk sum, layer",
        64,
        f"{_SAGE} --norm layer --residual linear --jk sum",
        "0.003",
        "cosine",
        150,
        0.2,
    ),
    ("gcnii", 16, "--model gcnii", "0.003", "cosine", 300, 0.2),
    ("gcnii", 64, "--model gcnii", "0.003", "cosine", 200, 0.2),
    ("resgcn, layer", 16, f"{_RESGCN} --norm layer", "0.003", "cosine", 300, 0.2),
    ("resgcn, layer", 64, f"{_RESGCN} --norm layer", "0.003", "cosine", 200, 0.2),
    ("resgcn", 16, f"{_RESGCN} --norm batch", "0.003", "cosine", 300, 0.2),
    ("resgcn", 64, f"{_RESGCN} --norm batch", "0.003", "cosine", 200, 0.2),
    ("resgcn", 16, f"{_RESGCN} --norm batch", "0.003", "cosine", 300, 0.5),
    ("resgcn", 16, f"{_RESGCN} --norm batch", "0.003", "cosine", 300, 0.0),
    ("resgcn", 64, f"{_RESGCN} --norm batch", "0.003", "cosine", 200, 0.0),
    ("blocks, layer", 16, _RESSAGE, "0.003", "cosine", 300, 0.2),
    ("blocks, layer", 64, _RESSAGE, "0.003", "cosine", 200, 0.2),
    ("blocks", 16, f"{_RESSAGE} --model-options [norm=batch]", "0.003", "cosine", 300, 0.2),
    ("blocks", 64, f"{_RESSAGE} --model-options [norm=batch]", "0.003", "cosine", 150, 0.2),
]
"""What tuning compared on split 0: model, layers, flags, rate, schedule, epochs, dropout."""


def tune() -> Iterator[Run]:
    """The runs that chose rate, schedule, epochs, dropout and norm."""
    for model, layers, flags, lr, schedule, epochs, dropout in TRIED:
        warmup = " --optimizer.warmup 20" if schedule == "cosine" else ""
        training = f"--lr {lr} --optimizer.schedule {schedule}{warmup} --epochs {epochs} --dropout {dropout}"
        setting = f"lr {lr}, {schedule}, dropout {dropout}"
        yield Run("tune", "huangpu", model, setting, layers, 0, f"{flags} {training} {PLANS['exact']}")


def accuracy() -> Iterator[Run]:
    """The curves: every model once before any gets more seeds."""
    for model in ("resgcn", "sage", "gcnii", "gcn", "gat", "ressage"):
        yield from _runs("accuracy", "huangpu", model, "exact", DEPTHS, SEEDS)
    for model in ("resgcn", "sage"):
        yield from _runs("accuracy", "pasadena", model, "exact", DEPTHS, SEEDS)


def longer() -> Iterator[Run]:
    """GraphSAGE in the authors' order for twice as many epochs, as deep nets take off late."""
    for graph in ("huangpu", "pasadena"):
        for seed in SEEDS:
            for layers in (8, 16, 32):
                options = f"{MODELS['sage'].flags} {LONG} {PLANS['exact']}"
                yield Run("longer", graph, "sage", "exact", layers, seed, options)


def stale() -> Iterator[Run]:
    """The default setting beside an exact run of the same model."""
    for setting in PLANS:
        yield from _runs("stale", "huangpu", "resgcn-layer", setting, DEPTHS, SEEDS)


GROUPS: dict[str, Callable[[], Iterator[Run]]] = {
    "tune": tune,
    "accuracy": accuracy,
    "longer": longer,
    "stale": stale,
}


@dataclass(frozen=True)
class Line:
    """A row of the tables and a line of the picture."""

    graph: str
    key: str
    """What names of its runs begin with, up to the depth."""
    title: str
    sampled: bool = False


SAMPLED_GRAPHS = ("huangpu", "pasadena")


def _title(run: Run) -> str:
    """A run's title in the tables: its model, and how it differs from the others of that model."""
    differs = ", 1,000 epochs" if run.group == "longer" else ""
    return MODELS[run.model].title + differs + (", 16 chunks" if run.setting == "stale" else "")


LINES = [
    *dict.fromkeys(
        Line(run.graph, f"{run.group}/{run.graph}/{run.model}/{run.setting}", _title(run))
        for group in (accuracy, longer, stale)
        for run in group()
    ),
    *(Line(graph, graph, "GraphSAGE, sampled", sampled=True) for graph in SAMPLED_GRAPHS),
]

SAMPLED = [("huangpu", layers, seed) for seed in SEEDS for layers in DEPTHS]
"""Graph, layers and seed of the sampled runs."""
BUDGET = Budget(rows=0.25, batch=32, epochs=60, lr=0.003, eval_every=3)
