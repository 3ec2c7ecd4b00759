"""All settings of a run, as frozen dataclasses. The docstrings under the fields are the command line's help.

This module imports nothing heavy: ``gnnpipe train --help`` reads it and stops.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Literal

from gnnpipe.config.catalog import is_synthetic

Model = Literal["gcn", "sage", "sage-max", "gin", "gat", "gatv2", "gcnii", "resgcn", "gen", "mesh"]
DENSE_ENDS: tuple[Model, ...] = ("sage-max", "gcnii", "resgcn", "gen", "mesh")
"""Models with dense layers before the first and after the last convolution. `gnnpipe.nn.models`, which builds
them, imports PyTorch, so the names are repeated here."""
WITH_HEADS: tuple[Model, ...] = ("gat", "gatv2")
"""Models whose convolutions have several heads."""
HEADS = 4
"""Number of heads where none is given."""
REVERSIBLE: tuple[Model, ...] = ("resgcn", "gen")
"""Models whose blocks can be made reversible."""
GROUPS = 2
"""Number of groups of columns of reversible blocks where none is given."""
Norm = Literal["none", "layer", "batch"]
Residual = Literal["none", "identity", "linear"]
JumpingKnowledge = Literal["none", "sum", "max"]
REUSING: tuple[Model, ...] = ("gcn", "sage", "gcnii", "resgcn")
"""Models that reuse last epoch's gradients unless told otherwise (benchmarks/convergence). Attention and gen
do far better without (benchmarks/layers), and of other models nothing is known."""
Metric = Literal[
    "auto", "accuracy", "f1", "roc_auc", "average_precision", "macro_f1", "balanced_accuracy", "r2", "mae",
    "rmse",
]  # fmt: skip
LossName = Literal["auto", "mse", "mae", "huber"]
BALANCED = "balanced"
"""The word that ``class_weights`` may be in place of numbers."""
LabelTask = Literal["auto", "classes", "regression"]
MakeSplit = Literal["random", "per-class"]
Device = Literal["auto", "cpu", "cuda"]
Order = Literal["shuffled", "antithetic", "fixed"]
Gradient = Literal["fresh", "reuse", "corrected"]
History = Literal["dropped", "clean"]
SyntheticKind = Literal["blocks", "roads"]
LrSchedule = Literal["constant", "cosine", "plateau"]
Log = Literal["csv", "tensorboard", "wandb", "mlflow"]
HaloMode = Literal["exact", "stale"]
PartBalance = Literal["nodes", "work"]
Initial = Literal["relay", "recompute"]
WireFormat = Literal["fp32", "bf16", "int8"]
PlanChoice = Literal["given", "auto"]
TableFormat = Literal["fp32", "bf16"]
Compute = Literal["fp32", "tf32", "bf16"]
OnNonFinite = Literal["stop", "skip"]
OnWriteError = Literal["stop", "continue"]


@dataclass(frozen=True)
class SyntheticConfig:
    """The built-in graph, seeded, with noisy features (``--dataset synthetic``)."""

    kind: SyntheticKind = "blocks"
    """blocks: a planted partition; densely connected communities make up each class. roads: a planar network
    of streets with long ways, whose classes say how many hops the nearest of some landmarks is away: it takes
    deep networks, and exact lookahead pays."""
    num_nodes: int = 10_000
    """Number of nodes."""
    avg_degree: float | None = None
    """Mean number of neighbours of a node (the graph is undirected). By default 20, of roads 2.6."""
    num_classes: int = 10
    """Number of classes."""
    num_features: int = 64
    """Columns of the feature matrix (dense)."""
    blocks_per_class: int = 10
    """blocks: communities that make up one class. More blocks give the graph more locality for chunks to
    find."""
    homophily: float = 0.6
    """blocks: fraction of edges that stay inside a block. The others end at a node drawn from all, or as
    reach says."""
    reach: int = 0
    """blocks: largest distance in blocks that edges between blocks span; 0: any. With 1 the graph is a long
    strip, as meshes or slices of time are, on which exact lookahead pays."""
    noise: float | None = None
    """Standard deviation of the noise around a class's mean feature row (whose entries are +1 or -1); of
    roads around that of landmarks, or of other nodes. By default 5, of roads 1."""
    seed: int = 0
    """Seed of the graph. It is apart from --seed, so that several runs share one graph."""

    @property
    def degree(self) -> float:
        """Mean number of neighbours: what was asked for, or that of the kind."""
        own = 20.0 if self.kind == "blocks" else 2.6
        return own if self.avg_degree is None else self.avg_degree

    @property
    def deviation(self) -> float:
        """Standard deviation of the noise: what was asked for, or that of the kind."""
        own = 5.0 if self.kind == "blocks" else 1.0
        return own if self.noise is None else self.noise


@dataclass(frozen=True)
class StalenessConfig:
    """Which version of other chunks' rows a chunk reads, forward and backward (docs/staleness.md)."""

    preset: Literal["default", "paper", "exact"] = "default"
    """Named group of settings; fields set by hand win over it. Also written ``--staleness NAME``.
    default: last epoch's gradients are reused with weight 0.7 by gcn, sage, gcnii and resgcn, and not at all
    (weight 0) by other models, which do better so; Adam betas 0.5 0.9, averaged weights.
    paper: the original system's (shuffled order, freeze 23, fresh gradient, Adam betas 0.9 0.999).
    exact: nothing is stale; one chunk, or lookahead exact where that is the faster plan."""
    order: Order | None = None
    """Order of the chunks. shuffled: drawn anew every epoch; antithetic: every second epoch reverses the
    order of the one before; fixed: as numbered."""
    freeze: int | str | None = None
    """Epochs between two snapshots, from which rows that are not computed yet are read (1: newest rows).
    1,23@20 is a schedule: 1 at first, 23 from epoch 20 on."""
    gradient: Gradient | None = None
    """Contribution of a chunk whose gradient is not computed yet. fresh: none, and fresh rows of other chunks
    count twice (less with lookahead, when more are fresh). reuse: last epoch's gradient times
    --staleness.weight. corrected: the same for every chunk, plus twice the difference to it where rows are
    fresh (a control variate)."""
    weight: float | str | None = None
    """Weight of last epoch's gradients, 0 to 1. Below 1 it damps ``reuse``. fitted: layer by layer and epoch
    by epoch, by regression of a row's gradient on last epoch's."""
    history: History | None = None
    """Whether rows of an earlier epoch are read after dropout (dropped) or before it (clean)."""
    dropout_hold: int | None = None
    """Epochs for which a dropout mask is kept before it is drawn anew."""
    refresh: int | None = None
    """Epochs between two exact forward sweeps that replace all historical rows (0: never). Without averaged
    weights, an evaluation before such an epoch shares the sweep."""
    lookahead: int | str | None = None
    """Number of chunks that a layer waits for beyond the one that it computes, to read their fresh rows: less
    is stale, but the pipeline takes longer to fill at each layer. exact: as many as the graph's locality
    asks for, so that nothing is stale."""


@dataclass(frozen=True)
class OptimizerConfig:
    """The optimiser; learning rate and weight decay are ``--lr`` and ``--weight-decay``."""

    name: Literal["adam", "adamw"] = "adam"
    """Adam, or AdamW (weight decay decoupled from the gradient)."""
    dense_weight_decay: float | None = None
    """Weight decay of the dense layers before the first and after the last convolution (GCNII, ResGCN+). By
    default the convolutions', --weight-decay. GCNII's paper has 0.0005 for dense layers and 0.01 for the
    convolutions."""
    betas: tuple[float, float] | None = None
    """Adam's beta1 and beta2, as ``[0.9, 0.999]``. By default the staleness preset's: stale rows act like
    extra momentum, so beta1 is lowered to 0.5, and beta2 to 0.9, as a short memory adapts to gradients that
    grow. The fields below follow the preset too where they are not given."""
    averaging: float | None = None
    """Decay of the exponential moving average of the weights that evaluation and the saved model use;
    0 turns averaging off. By default the staleness preset's."""
    schedule: LrSchedule | None = None
    """Learning rate after the warm-up: constant; falling to 0 along a cosine; or plateau: multiplied with
    --optimizer.plateau_factor whenever the validation metric has not improved for more than
    --optimizer.plateau_patience epochs (torch's ReduceLROnPlateau)."""
    plateau_factor: float = 0.1
    """With schedule plateau: factor on the learning rate."""
    plateau_patience: int = 10
    """With schedule plateau: epochs without a better validation metric that are let pass. They are counted
    when an epoch was evaluated (--eval-every), from the best one or the last reduction."""
    warmup: int | None = None
    """Epochs in which the learning rate rises linearly to --lr."""
    clip: float | None = None
    """Largest norm of the gradient, over all weights of all stages. Longer ones are scaled down to it. 0
    turns clipping off."""


@dataclass(frozen=True)
class GcniiConfig:
    """The two constants of GCNII (arXiv 2007.02133)."""

    alpha: float = 0.1
    """Share of the initial rows in every layer's input."""
    theta: float = 0.5
    """Layer l applies its weights with strength log(theta / l + 1)."""


# RunConfig is put together from the pieces below, so that a function can take the piece it needs. The fields
# of the last base come first, which keeps the flags in the order of this file.


@dataclass(frozen=True)
class GraphConfig:
    """The graph, how its nodes are split, and what is measured on them."""

    dataset: str = "synthetic"
    """Name of the data set: synthetic (built in), one that torch_geometric knows, for example Cora, Physics,
    Photo, squirrel, tolokers, WikiCS, paris, penn94, CitationFull-DBLP, Flickr, Reddit, or one of OGB:
    ogbn-arxiv, -products, -proteins, -mag (its papers), -papers100M. A wrong name lists all."""
    graph: str | None = None
    """Folder of a graph of your own, which ``gnnpipe import`` has written; instead of --dataset."""
    root: str | None = None
    """Folder that the torch_geometric data set class is given; its files are looked for there, and
    downloaded if absent. For ogbn-* the folder where OGB's archive is, or will be, unpacked. By default
    data/CLASS."""
    split: int = 0
    """Which of the data set's splits to use, or, where it ships none, the seed of the one that is made."""
    make_split: MakeSplit = "random"
    """The split made where a data set ships none. random: 60/20/20 %; per-class: 20 training nodes of each
    class, 500 for validation, 1000 for testing (Planetoid's way)."""
    undirected: bool = False
    """Add the reverse of every edge. Edges then count once, however often they occur. An edge with a weight
    gives it to its reverse; two nodes that are joined both ways already, and self loops, stay as they are."""
    task: LabelTask = "auto"
    """Whether labels are classes, or values to be predicted (regression). auto: values if a label is no whole
    number. Nodes without a value have NaN (without a class, -1 or NaN), and are in no split."""
    features: str | None = None
    """Features that are made from the edges, for a graph that has none, or in place of those that it has.
    degree: logarithms of the numbers of edges that come in and go out; laplacian:16: eigenvectors of the
    normalised Laplacian, here 16, which tell where in the graph a node is."""
    normalize_features: bool = False
    """Subtract the smallest entry of all features, then divide every row by its sum where that is above 1, as
    torch_geometric's NormalizeFeatures does."""
    standardize_features: bool = False
    """Subtract the mean of each column of the features, over all nodes, and divide by its standard deviation:
    for columns in units of their own, such as those of tables. Constant columns become 0."""
    metric: Metric = "auto"
    """The metric that is reported and chooses the best epoch. auto: micro-F1 for several labels a node, ROC
    AUC for two classes, R2 for values to be predicted, else accuracy. roc_auc and average_precision are for
    two classes, and for several labels a node: the mean over the labels. macro_f1 and balanced_accuracy (mean
    recall) count every class alike, however few nodes it has. mae and rmse (mean absolute error, root of the
    mean squared error) are in the units of the values, and the lowest is the best. docs/tasks.md has the
    formulas."""

    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)

    @property
    def data_name(self) -> str:
        """Name of what is loaded, for printed lines and folders: that of the folder, or the data set's."""
        return PurePath(self.graph).name if self.graph else self.dataset

    @property
    def is_synthetic(self) -> bool:
        """Whether the graph is the built-in one."""
        return self.graph is None and is_synthetic(self.dataset)


@dataclass(frozen=True)
class CacheConfig:
    """The cache of prepared graphs."""

    cache: str | None = None
    """Folder in which the prepared graph (normalised, cut, renumbered) is kept for later starts with the same
    graph and cut, which then begin in seconds. gnnpipe cache list FOLDER shows what is there, and gnnpipe
    cache clear FOLDER removes it. By default nothing is kept."""


@dataclass(frozen=True)
class ModelConfig:
    """The model."""

    model: Model | str = "gcnii"
    """gcn; sage (GraphSAGE, mean of the neighbours); sage-max (their maximum); gin (sum, then an MLP); gat,
    gatv2 (attention); gcnii; resgcn (ResGCN+: norm, ReLU, dropout, convolution, plus skip); gen (DeeperGCN:
    softmax aggregation in such blocks); mesh (MLPs of edges and nodes, as weather and mesh models have).
    gat, gatv2, gen and mesh read features of edges. Or a model of your own: a function that yields its
    layers, as my_model.py:layers or package.module:layers. docs/models.md has the formulas, and how to write
    one."""
    model_options: tuple[str, ...] = ()
    """Arguments for the function of a model of your own, as [heads=8,slope=0.2]. It also gets, if it takes
    them: num_features, num_classes, edge_dim, num_edge_types, and --hidden, --layers (or depth) and
    --dropout where they are given; where they are not, its own defaults hold."""
    layers: int = 32
    """Number of graph convolutions."""
    hidden: int = 64
    """Width of the hidden rows."""
    norm: Norm | None = None
    """Normalisation in every hidden layer: none, layer (LayerNorm, each row by itself) or batch (BatchNorm,
    by columns over all nodes). batch is for one chunk: with several the columns are those of the last epoch,
    which makes deep models unstable; use layer there, and from about ten layers on resgcn or gen, which have
    it in front of the convolution (docs/models.md). By default the model's own: layer for resgcn, gen and
    mesh, none for the others."""
    residual: Residual | None = None
    """Connection past every hidden convolution. identity: its input rows are added, where they are as wide as
    its output; linear: their product with a weight of its own, in the last layer too (GraphSAGE has that
    anyway). By default the model's own: identity for resgcn, gen and mesh, none for the others. Tuned
    baselines of GCN and the like have --norm layer or batch and --residual linear (arXiv 2406.08993)."""
    jk: JumpingKnowledge = "none"
    """Jumping knowledge (arXiv 1806.03536): the output layer reads the sum, or the maximum, of the rows of
    all convolutions. Models without an output layer get one. none: it reads the last ones."""
    heads: int | None = None
    """Number of attention heads of gat and gatv2, which share --hidden among them. By default 4."""
    reversible: bool = False
    """Reversible blocks (RevGNN, arXiv 2106.07476) for resgcn and gen: each layer adds to one group of the
    columns what it makes of another, so that its input follows from its output. With one chunk neither rows
    nor tables are kept for the way back: memory does not grow with --layers, and each layer goes forward
    once more. With several chunks the tables stay, as they hold the stale rows."""
    groups: int | None = None
    """Number of groups of columns with --reversible, which share --hidden; layers change them in turn, so
    that as many layers are one block of the paper. By default 2."""
    dropout: float = 0.5
    """Probability that an entry is dropped, 0 to below 1 (rounded to a multiple of 1/256)."""


@dataclass(frozen=True)
class RanksConfig:
    """The processes that share the work."""

    stages: int = 1
    """Number of pipeline stages: consecutive groups of layers. stages x parts processes run."""
    parts: int = 1
    """Number of graph parts: each stage is a group of as many processes, which hold one part each and
    exchange boundary rows at every layer. 1 x P is graph parallelism, S x 1 a pipeline, S x P the hybrid."""

    @property
    def num_ranks(self) -> int:
        """Number of processes."""
        return self.stages * self.parts


@dataclass(frozen=True)
class ExchangeConfig:
    """The rows that ranks send each other, and their format."""

    part_balance: PartBalance = "nodes"
    """What the cut balances among parts. nodes: rows, and so memory, which sends least; work: rows and edges,
    weighted as for chunks, which helps where few nodes have most edges. With exact lookahead parts are strips
    of equal work."""
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
    """Format of rows and gradients between stages. fp32: as they are; bf16: half the bytes; int8: a quarter,
    with each row scaled by its largest entry, and gradients rounded at random so that they are right on
    average. Evaluation always sends fp32."""
    tables: TableFormat = "fp32"
    """Format of the rows that are aggregated, and of the gradients of aggregates. bf16: half the memory and
    half the bytes between parts, and faster, as aggregation reads half as much; a number keeps eight
    significant bits, to which sums are rounded. Evaluation always uses fp32."""


@dataclass(frozen=True)
class LayoutConfig(ExchangeConfig, RanksConfig, ModelConfig):
    """A model, and how it is laid out over ranks and chunks."""

    recompute: bool = False
    """Save fewer activations for the backward pass and compute them again, chunk by chunk: the input rows of
    ResGCN+ layers, a quarter of what it saves, at the cost of one more product of rows with weights. The
    numbers are the same, bit for bit. GCN, GraphSAGE and GCNII save nothing that could be computed again
    without aggregating."""
    compute: Compute = "fp32"
    """Arithmetic of the products of rows with weights. tf32 (CUDA, from Ampere on): numbers are rounded to
    eleven significant bits before they are multiplied; bf16 (CPUs with AMX): to eight. Sums are fp32, and so
    are weights, gradients, the optimiser, aggregation and evaluation."""
    chunks: int | None = None
    """Number of chunks of the graph that stream through the stages. More chunks: a smaller bubble, more
    overhead and more stale rows. By default 1 with one stage, else the number with the shortest epoch, by the
    costs of starting a chunk and of the work in it; with --staleness exact, the fastest number by
    simulation."""
    plan: PlanChoice = "given"
    """given: --stages, --parts and --chunks. auto: the plan that ``gnnpipe plan`` finds fastest for
    --devices; --chunks, if given, stays."""
    devices: int | None = None
    """With --plan auto: number of processes. By default one for each CUDA device, or, without one, for each
    core."""
    hardware: str | None = None
    """Speed of the devices, by which --plan auto, the number of chunks and the layers of each stage are
    chosen: a name or a file as for ``gnnpipe plan``. By default, figures of a usual CPU or of the CUDA device
    at hand."""


@dataclass(frozen=True)
class LossConfig:
    """The loss that is minimised."""

    loss: LossName = "auto"
    """Loss of values to be predicted, in units of their standard deviation. mse: squared error (auto); mae:
    absolute error, which a few values far off the others hardly pull; huber: squared below 1, absolute above.
    Classes have the cross-entropy, several labels a node the binary one; both are auto."""
    class_weights: str | tuple[float, ...] | None = None
    """How much the nodes of each class count. balanced: inversely to the number of training nodes of their
    class, so that all classes count alike; or a number for each class, as in [1,5], in the order of the class
    numbers (named classes are in the order of their names). The loss is the mean by these weights. Where a
    node may have several labels: how much a label counts where it is 1, for each label; balanced: as often as
    it is 0 for each time that it is 1. More nodes of rare classes are found, and more others taken for
    them."""
    label_smoothing: float = 0.0
    """Share of every training label that is spread evenly over all classes, 0 to below 1. Where a node may
    have several labels, 1 becomes 1 - s/2 and 0 becomes s/2."""


@dataclass(frozen=True)
class RunConfig(CacheConfig, LossConfig, LayoutConfig, GraphConfig):
    """One training run."""

    epochs: int = 200
    """Passes over the graph, with one optimiser step each."""
    lr: float = 0.005
    """Learning rate."""
    weight_decay: float = 0.0
    """Weight decay. That of the dense layers may differ: --optimizer.dense_weight_decay."""
    seed: int = 0
    """Seed of the weights, the dropout masks and the chunk order."""
    device: Device = "auto"
    """auto: one CUDA device a process where there are enough, else the CPU. cuda: processes share devices
    where there are too few, and their messages go through host memory."""
    cuda_graphs: bool | None = None
    """On CUDA, record the kernels of each chunk in the second epoch, and replay them from then on: one launch
    a chunk instead of one a kernel, which makes many chunks of a small graph several times as fast. Numbers
    are the same, bit for bit. By default (null) with one stage; with several, which no cluster has tried yet,
    if true is given. Runs with several parts, a lookahead or a fitted weight do without."""
    threads: int = 0
    """CPU threads a process; 0 divides the cores of the host among its processes. The number decides the
    order of additions: results agree bit for bit at equal --threads, else to the eighth digit or so."""
    eval_every: int = 5
    """Epochs between two exact evaluations on the whole graph; there is one after the last epoch, too."""
    patience: int = 0
    """Stop when the validation metric has not improved for this number of epochs (0: never). They are
    counted from the best epoch, whenever an epoch was evaluated (--eval-every), so the run may end that much
    later. It then is finished; its weights are those of the best epoch, as always."""
    check_gradient: int = 0
    """Epochs between two checks of the gradient (0: never). A check computes the exact gradient at the same
    weights and dropout masks, and records how far the pipeline's is from it, layer by layer. It takes the
    time and memory of an epoch with one chunk."""
    timeout: float = 600.0
    """Seconds that a process waits for another before the run fails."""
    checkpoint_every: int | str = "10min"
    """Time between checkpoints, which are written in the background and from which ``--resume`` goes on. In
    epochs, such as 20 (and one after the last epoch), or in minutes, such as 10min; 0 writes none."""
    keep_checkpoints: int = 2
    """Number of checkpoints to keep; older ones are removed."""
    max_restarts: int = 0
    """How often a run that lost a process restarts from its last checkpoint by itself. Under torchrun use
    torchrun's --max-restarts instead."""
    on_nonfinite: OnNonFinite = "stop"
    """What to do when the loss or a gradient is not finite. stop: end the run and say in which layer and
    chunk it began; skip: leave out that epoch's step."""
    on_write_error: OnWriteError = "stop"
    """What to do when a record, the weights or a checkpoint can't be written, as on a full disk. stop: end
    the run; continue: go on training, and write what is missing as soon as that is possible."""
    out: str | None = None
    """Folder of the run. By default runs/DATE-DATASET-MODEL."""
    overwrite: bool = False
    """Replace the run that --out holds."""
    warm_start: str | None = None
    """Begin with the weights of another run: its folder, or a file such as its model.safetensors. They are
    taken where name and shape agree, whatever its plan, its graph or its classes; the others begin at random.
    The optimiser starts fresh, unlike with --resume."""
    log: tuple[Log, ...] = ()
    """Also log epochs and results elsewhere, as tensorboard,wandb. csv and tensorboard: files in logs of the
    run's folder; wandb: Weights & Biases, offline unless WANDB_MODE is online; mlflow: its server or store,
    or else the folder mlruns. All but csv need a package: pip install 'gnnpipe[tensorboard]'. A run that goes
    on goes on logging; [] ends that. Under torchrun write -m -- gnnpipe, as it has flags that begin alike."""
    resume: str | None = None
    """Go on with the run in this folder from its last checkpoint, with its settings. Flags win over them:
    more --epochs, or another plan (--stages, --parts, --chunks). The graph and the model stay."""

    staleness: StalenessConfig = field(default_factory=StalenessConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    gcnii: GcniiConfig = field(default_factory=GcniiConfig)
