"""What the commands beside train are told, as frozen dataclasses like `gnnpipe.config.run.RunConfig`."""

from __future__ import annotations

from dataclasses import dataclass, field

from gnnpipe.config.run import Initial, Model, PartBalance, SyntheticConfig, TableFormat, WireFormat


@dataclass(frozen=True)
class VolumeConfig:
    """What ``gnnpipe volume`` is told."""

    dataset: str = "synthetic"
    """Name of the data set, as for train."""
    root: str | None = None
    """Folder that the torch_geometric data set class is given. By default data/CLASS."""
    undirected: bool = False
    """Add the reverse of every edge."""
    num_nodes: int | None = None
    """Instead of a data set: number of nodes of a graph that is not at hand. What parts exchange follows from
    --alpha then, and is left out without it."""
    alpha: float | None = None
    """With --num-nodes: mean number of other parts that need a node's row when the graph is cut into as many
    parts as there are --devices. Plans with fewer parts are left out, as their alpha is another one."""
    num_features: int | None = None
    """With --num-nodes: columns of the features, for the bytes of weights. By default --hidden."""
    num_classes: int | None = None
    """With --num-nodes: number of classes, for the bytes of weights. By default --hidden."""

    model: Model = "gcnii"
    """gcn, sage (mean), gcnii, or resgcn."""
    layers: int = 32
    """Number of graph convolutions."""
    hidden: int = 64
    """Width of the hidden rows."""
    devices: int = 8
    """Devices to share out: every stages x parts with this product is listed."""
    part_balance: PartBalance = "nodes"
    """What parts have equally much of: nodes, or work (rows and edges)."""
    initial: Initial = "relay"
    """How stages get GCNII's initial rows: relay or recompute, as for train."""
    wire: WireFormat = "fp32"
    """How rows travel between stages: fp32, bf16 or int8, as for train."""
    tables: TableFormat = "fp32"
    """How rows are held that parts exchange: fp32 or bf16, as for train."""
    json: bool = False
    """Print JSON instead of a table."""

    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)


@dataclass(frozen=True)
class ProfileConfig:
    """What ``gnnpipe profile`` is told."""

    dataset: str = "synthetic"
    """Name of the data set, as for train. How fast rows are read depends on the graph, so
    measure on your own."""
    root: str | None = None
    """Folder that the torch_geometric data set class is given. By default data/CLASS."""
    undirected: bool = False
    """Add the reverse of every edge."""
    models: tuple[Model, ...] = ("gcn", "sage", "gcnii", "resgcn")
    """Kinds of layers to measure, as [gcnii,resgcn]."""
    hidden: tuple[int, ...] = (64, 128)
    """Widths to measure, as [64,128]."""
    name: str | None = None
    """What the profile is called. By default this host's name."""
    out: str = "here.json"
    """File to write."""
    overwrite: bool = False
    """Replace the file if there is one."""

    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)


@dataclass(frozen=True)
class PlanConfig:
    """What ``gnnpipe plan`` is told."""

    dataset: str = "synthetic"
    """Name of the data set, as for train."""
    root: str | None = None
    """Folder that the torch_geometric data set class is given. By default data/CLASS."""
    undirected: bool = False
    """Add the reverse of every edge."""
    num_nodes: int | None = None
    """Instead of a data set: number of nodes of a graph that is not at hand."""
    num_edges: int | None = None
    """With --num-nodes: number of directed edges."""
    alpha: float | None = None
    """With --num-nodes: mean number of other parts that need a node's row when the graph is cut into as many
    parts as there are --devices; for fewer parts it is taken to grow with their logarithm. Without it plans
    with parts are left out."""
    num_features: int | None = None
    """With --num-nodes: columns of the features. By default --hidden."""
    num_classes: int | None = None
    """With --num-nodes: number of classes. By default --hidden."""

    model: Model = "gcnii"
    """gcn, sage (mean), gcnii, or resgcn."""
    layers: int = 32
    """Number of graph convolutions."""
    hidden: int = 64
    """Width of the hidden rows."""
    devices: int = 8
    """Devices to share out."""
    hardware: str = "a5000x8"
    """What the devices are: a5000x8, a100, h100, h200, cpu-10g, cpu-25g, cpu-100g, or a file that
    ``gnnpipe profile`` wrote."""
    bandwidth: float | None = None
    """Gb/s out of a host, instead of the hardware's."""
    compress: bool = False
    """Also consider rows of fewer bits: --wire bf16 and int8, --tables bf16. They change numbers a little."""
    chunks: int | None = None
    """Consider so many chunks only."""
    show: int = 10
    """How many plans to print."""
    json: bool = False
    """Print JSON instead of a table."""

    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)
