"""Everything a run can be told, as frozen dataclasses; the command line's help is their docstrings.

This module imports nothing heavy: ``gnnpipe train --help`` reads it and stops.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Model = Literal["gcn", "sage", "gcnii", "resgcn"]
DENSE_ENDS: tuple[Model, ...] = ("gcnii", "resgcn")
"""Models with dense layers before the first and after the last convolution; `gnnpipe.nn.models`, which builds
them, can't be asked here, as it imports PyTorch."""
Metric = Literal["auto", "accuracy", "f1", "roc_auc", "macro_f1", "balanced_accuracy"]
MakeSplit = Literal["random", "per-class"]
Device = Literal["auto", "cpu", "cuda"]
Order = Literal["shuffled", "antithetic", "fixed"]
Gradient = Literal["fresh", "reuse", "corrected"]
History = Literal["dropped", "clean"]
LrSchedule = Literal["constant", "cosine"]
HaloMode = Literal["exact", "stale"]
PartBalance = Literal["nodes", "work"]
Initial = Literal["relay", "recompute"]
WireFormat = Literal["fp32", "bf16", "int8"]
PlanChoice = Literal["given", "auto"]
TableFormat = Literal["fp32", "bf16"]
OnNonFinite = Literal["stop", "skip"]
OnWriteError = Literal["stop", "continue"]


@dataclass(frozen=True)
class SyntheticConfig:
    """The built-in graph: a seeded planted partition with noisy class features (``--dataset synthetic``)."""

    num_nodes: int = 10_000
    """Number of nodes."""
    avg_degree: float = 20.0
    """Mean number of neighbours of a node (the graph is undirected)."""
    num_classes: int = 10
    """Number of classes."""
    num_features: int = 64
    """Columns of the feature matrix (dense)."""
    blocks_per_class: int = 10
    """Communities that make up one class. More blocks give the graph more locality for chunks to find."""
    homophily: float = 0.6
    """Fraction of edges that stay inside a block; the others end at a node drawn from all, or see reach."""
    reach: int = 0
    """How many blocks far the other edges go; 0: anywhere. With 1 the graph is a long strip, as roads, meshes
    or slices of time are, on which exact lookahead pays."""
    noise: float = 5.0
    """Standard deviation of the noise around a class's mean feature row (whose entries are +1 or -1)."""
    seed: int = 0
    """Seed of the graph. It is apart from --seed, so that several runs share one graph."""


@dataclass(frozen=True)
class StalenessConfig:
    """Which version of the other chunks' rows is read, forward and backward (docs/staleness.md)."""

    preset: Literal["default", "paper", "exact"] = "default"
    """Named group of settings; fields set by hand win over it. Also written ``--staleness NAME``.
    default: last epoch's gradients are reused with weight 0.7, Adam betas 0.5 0.9, averaged weights.
    paper: the original system's (shuffled order, freeze 23, fresh gradient, Adam betas 0.9 0.999).
    exact: nothing is stale; one chunk, or lookahead exact where that is the faster plan."""
    order: Order | None = None
    """Order of the chunks. shuffled: drawn anew every epoch; antithetic: odd epochs run the order before
    them reversed; fixed: as numbered."""
    freeze: int | str | None = None
    """Rows that are not computed yet are read from a snapshot taken every so many epochs (1: newest rows).
    1,23@20 is a schedule: 1, from epoch 20 on 23."""
    gradient: Gradient | None = None
    """What a chunk whose gradient is not computed yet contributes. fresh: nothing, and fresh rows of other
    chunks count twice (less with lookahead, when more are fresh); reuse: its gradient of the last epoch
    times --staleness.weight; corrected: the same, and the fresh ones count twice but for it (a control
    variate)."""
    weight: float | str | None = None
    """Weight of last epoch's gradients, 0 to 1. Below 1 it damps ``reuse``. fitted: layer by layer and epoch
    by epoch, by regression of a row's gradient on the one before."""
    history: History | None = None
    """Whether rows of an earlier epoch are read after dropout (dropped) or before it (clean)."""
    dropout_hold: int | None = None
    """Dropout masks are drawn anew every so many epochs and kept in between."""
    refresh: int | None = None
    """Every so many epochs all historical rows are replaced by an exact forward sweep (0: never). Without
    averaged weights an evaluation that falls due as well shares the sweep."""
    lookahead: int | str | None = None
    """A layer waits for so many chunks more before it brings a chunk through, and reads their fresh rows:
    less is stale, and the pipeline takes longer to fill at each layer. exact: as many as the graph's
    locality asks for, so that nothing is stale."""


@dataclass(frozen=True)
class OptimizerConfig:
    """The optimiser; learning rate and weight decay are ``--lr`` and ``--weight-decay``."""

    name: Literal["adam", "adamw"] = "adam"
    """Adam, or AdamW (weight decay apart from the gradient)."""
    dense_weight_decay: float | None = None
    """Weight decay of the dense layers before the first and after the last convolution (GCNII, ResGCN+). By
    default it is the convolutions', which is --weight-decay; GCNII's paper has 0.0005 here and 0.01 there."""
    betas: tuple[float, float] | None = None
    """Adam's beta1 and beta2, as ``[0.9, 0.999]``. By default the staleness preset's: stale rows act like
    extra momentum, so beta1 goes down to 0.5, and a short memory (beta2 0.9) meets gradients that grow. What
    is left open below follows the preset too."""
    averaging: float | None = None
    """Decay of the exponential moving average of the weights that evaluation and the saved model use;
    0 turns averaging off. By default the staleness preset's."""
    schedule: LrSchedule | None = None
    """How the learning rate goes on after the warm-up: stays, or falls to 0 along a cosine."""
    warmup: int | None = None
    """Epochs in which the learning rate rises linearly to --lr."""
    clip: float | None = None
    """Largest norm of the gradient of all weights of all stages together; longer ones are scaled down to it.
    0 turns clipping off."""


@dataclass(frozen=True)
class GcniiConfig:
    """The two constants of GCNII (arXiv 2007.02133)."""

    alpha: float = 0.1
    """Share of the initial rows in every layer's input."""
    theta: float = 0.5
    """Layer l applies its weights with strength log(theta / l + 1)."""


# The pieces below are what functions are handed. A class takes the fields of its last base first, so that
# flags stand in the order of this file.


@dataclass(frozen=True)
class GraphConfig:
    """The graph, how its nodes are split, and what is measured on them."""

    dataset: str = "synthetic"
    """Name of the data set: synthetic (built in) or one that torch_geometric knows, for example Cora,
    Physics, Photo, squirrel, tolokers, Flickr, Reddit, Yelp; ogbn-arxiv, ogbn-products, ogbn-papers100M."""
    root: str | None = None
    """Folder that the torch_geometric data set class is given; its files are looked for there, and
    downloaded if absent. For ogbn-* the folder where OGB's archive was unpacked. By default data/CLASS."""
    split: int = 0
    """Which of the data set's splits to use, or, where it ships none, the seed of the one that is made."""
    make_split: MakeSplit = "random"
    """The split made where a data set ships none. random: 60/20/20 %; per-class: 20 training nodes of each
    class, 500 for validation, 1000 for testing (Planetoid's way)."""
    undirected: bool = False
    """Add the reverse of every edge."""
    normalize_features: bool = False
    """Subtract the smallest entry of all features, then divide every row by its sum where that is above 1, as
    torch_geometric's NormalizeFeatures does."""
    metric: Metric = "auto"
    """What is reported, and chooses the best epoch. auto: micro-F1 for several labels a node, ROC AUC for two
    classes, else accuracy. macro_f1 and balanced_accuracy (mean recall) count every class alike, however few
    nodes it has."""

    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)


@dataclass(frozen=True)
class ModelConfig:
    """The model."""

    model: Model = "gcnii"
    """gcn, sage (mean), gcnii, or resgcn (ResGCN+: norm, ReLU, dropout, convolution, plus skip)."""
    layers: int = 32
    """Number of graph convolutions."""
    hidden: int = 64
    """Width of the hidden rows."""
    dropout: float = 0.5
    """Probability that an entry is dropped, 0 to below 1 (rounded to a multiple of 1/256)."""


@dataclass(frozen=True)
class RanksConfig:
    """The processes that share the work."""

    stages: int = 1
    """Pipeline stages: consecutive groups of layers. stages x parts processes run."""
    parts: int = 1
    """Graph parts: each stage is a group of so many processes, which hold one part of the graph each and
    exchange boundary rows at every layer. 1 x P is graph parallelism, S x 1 a pipeline, S x P the hybrid."""

    @property
    def num_ranks(self) -> int:
        """Processes that run."""
        return self.stages * self.parts


@dataclass(frozen=True)
class ExchangeConfig:
    """What ranks send each other, and how."""

    part_balance: PartBalance = "nodes"
    """What parts have equally much of. nodes: rows, and so memory, which sends least; work: rows and edges
    weighed as for chunks, which helps where few nodes have most edges."""
    halo: HaloMode = "exact"
    """Which rows of other parts are read. exact: this epoch's, fetched while rows that need none are
    computed; stale: last epoch's, fetched in the background (PipeGCN, arXiv 2203.10428)."""
    initial: Initial = "relay"
    """How stages behind the first get GCNII's initial rows, which every layer reads. relay: they travel along
    with the hidden rows, which doubles what stages send, and any number of stages gives the same numbers bit
    for bit, at equal --threads. recompute: every stage holds the features and computes them itself, and only
    the gradient of the input layer's weights is summed over the ranks. Less is sent where there are many more
    nodes than features; ``gnnpipe volume`` tells."""
    wire: WireFormat = "fp32"
    """How rows and gradients travel between stages. fp32: as they are; bf16: half the bytes; int8: a quarter,
    each row scaled by its largest entry, gradients rounded at random so that they are right on average.
    Evaluation always sends fp32."""
    tables: TableFormat = "fp32"
    """How the rows are held that are aggregated, and gradients of aggregates. bf16: in half the memory, half
    of what parts exchange, and faster, as aggregation reads half as much; eight bits of a number are left,
    and sums are rounded to them. Evaluation always uses fp32."""


@dataclass(frozen=True)
class LayoutConfig(ExchangeConfig, RanksConfig, ModelConfig):
    """A model, and how it is laid out over ranks and chunks."""

    recompute: bool = False
    """Keep less from forward to backward, and make it again chunk by chunk: the input rows of ResGCN+ layers,
    a quarter of what it keeps, for one more product of rows with weights. The same numbers, bit for bit. GCN,
    GraphSAGE and GCNII keep nothing that could be made again without aggregating."""
    chunks: int | None = None
    """Pieces of the graph that stream through the stages. More chunks: a smaller bubble, more overhead and
    more stale rows. By default 1 with one stage, else what makes an epoch shortest, from what a chunk costs
    to start and what the work in it costs; with --staleness exact, the fastest number by simulation."""
    plan: PlanChoice = "given"
    """given: stages, parts and chunks are those of the flags above. auto: the plan that ``gnnpipe plan``
    finds fastest for --devices; --chunks, if given, stays."""
    devices: int | None = None
    """With --plan auto: processes to share the work out among. By default one for each CUDA device, or
    else for each core."""
    hardware: str | None = None
    """What the devices can do, for --plan auto, the number of chunks and which layers go together: a name or
    a file as for ``gnnpipe plan``. By default, figures of a usual CPU or of the CUDA device at hand."""


@dataclass(frozen=True)
class RunConfig(LayoutConfig, GraphConfig):
    """One training run."""

    epochs: int = 200
    """Passes over the graph; every one is one optimiser step."""
    lr: float = 0.005
    """Learning rate."""
    weight_decay: float = 0.0
    """Weight decay; --optimizer.dense_weight_decay sets that of the dense layers apart."""
    seed: int = 0
    """Seed of the weights, the dropout masks and the chunk order."""
    device: Device = "auto"
    """auto: one CUDA device a process where there are enough, else the CPU. cuda: processes share devices
    where there are too few, and their messages go through host memory."""
    cuda_graphs: bool = False
    """On CUDA, record the work on each chunk in the second epoch, and replay it from then on: the device is
    asked once a chunk instead of kernel by kernel, which makes many chunks of a small graph several times as
    fast. Not proved yet with several chunks. Runs with several parts, a lookahead or a fitted weight do
    without."""
    threads: int = 0
    """CPU threads a process; 0 shares the cores of the host out among its processes. Another number adds in
    another order: results agree bit for bit at equal --threads, and else to the eighth digit or so."""
    eval_every: int = 5
    """Exact evaluation on the whole graph after every so many epochs, and after the last."""
    check_gradient: int = 0
    """Every so many epochs, compute the exact gradient too, at the same weights and dropout masks, and record
    how far the pipeline's is from it, layer by layer (0: never). It takes the time and memory of an epoch
    with one chunk."""
    timeout: float = 600.0
    """Seconds that a process waits for another before the run fails."""
    checkpoint_every: int | str = "10min"
    """How often all that a run needs to go on is written down, beside the training. A number of epochs, such
    as 20, and after the last one; of minutes, as in 10min; or 0 for never. ``--resume`` goes on from it."""
    keep_checkpoints: int = 2
    """So many of the newest checkpoints are kept."""
    max_restarts: int = 0
    """How often a run that lost a process begins again from its last checkpoint by itself. Under torchrun
    that is for its own --max-restarts."""
    on_nonfinite: OnNonFinite = "stop"
    """What happens when the loss or a gradient is not a number. stop: the run ends and says in which layer
    and chunk it began; skip: that epoch's step is left out."""
    on_write_error: OnWriteError = "stop"
    """What happens when a record, the weights or a checkpoint can't be written, as on a full disk. stop: the
    run ends; continue: training goes on, and what is missing is written as soon as that is possible."""
    out: str | None = None
    """Folder of the run. By default runs/DATE-DATASET-MODEL."""
    overwrite: bool = False
    """Replace the run that --out holds."""
    resume: str | None = None
    """Go on with the run of this folder from its last checkpoint, with its settings. Other flags win: more
    --epochs, or another plan (--stages, --parts, --chunks); the graph and the model stay."""

    staleness: StalenessConfig = field(default_factory=StalenessConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    gcnii: GcniiConfig = field(default_factory=GcniiConfig)
