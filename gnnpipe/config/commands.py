"""Settings of the commands other than train, as frozen dataclasses like `gnnpipe.config.run.RunConfig`.

A field that a command can't change is no flag of it (``init=False``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from gnnpipe.config.run import (
    CacheConfig,
    Device,
    ExchangeConfig,
    GraphConfig,
    HaloMode,
    LabelTask,
    MakeSplit,
    Metric,
    Model,
    ModelConfig,
)

Nodes = Literal["all", "train", "val", "test"]
"""Nodes of a graph: all, or those of a split."""


@dataclass(frozen=True)
class StructureConfig(GraphConfig):
    """A graph on which nothing is learnt, so that its split and metric don't matter."""

    split: int = field(default=0, init=False)
    make_split: MakeSplit = field(default="random", init=False)
    task: LabelTask = field(default="auto", init=False)
    normalize_features: bool = field(default=False, init=False)
    standardize_features: bool = field(default=False, init=False)
    metric: Metric = field(default="auto", init=False)


@dataclass(frozen=True)
class SizesConfig(StructureConfig):
    """A graph that is loaded, or given by its sizes."""

    num_nodes: int | None = None
    """Instead of a data set: number of nodes of a graph that is not at hand."""
    num_edges: int | None = None
    """With --num-nodes: number of directed edges."""
    alpha: float | None = None
    """With --num-nodes: mean number of other parts that need a node's row when the graph is cut into as many
    parts as there are --devices. For fewer parts it is estimated, as growing with the logarithm of their
    number. Without it plans with parts are left out."""
    num_features: int | None = None
    """With --num-nodes: columns of the features. By default --hidden."""
    num_classes: int | None = None
    """With --num-nodes: number of classes. By default --hidden."""


@dataclass(frozen=True)
class DevicesConfig(CacheConfig, ModelConfig, SizesConfig):
    """A graph, a model, and the devices to share them out among."""

    dropout: float = field(default=0.5, init=False)
    devices: int = 8
    """Number of devices. Plans are all ways to write it as stages x parts."""


@dataclass(frozen=True)
class VolumeConfig(ExchangeConfig, DevicesConfig):
    """Settings of ``gnnpipe volume``."""

    num_edges: int | None = field(default=None, init=False)
    alpha: float | None = None
    """With --num-nodes: mean number of other parts that need a node's row when the graph is cut into as many
    parts as there are --devices. Plans with fewer parts, which have another alpha, are left out. Without it,
    the bytes between parts are left out."""
    halo: HaloMode = field(default="exact", init=False)  # stale rows are as many bytes
    json: bool = False
    """Print JSON instead of a table."""


@dataclass(frozen=True)
class PlanConfig(DevicesConfig):
    """Settings of ``gnnpipe plan``."""

    hardware: str = "a5000x8"
    """The devices: a5000x8, a100, h100, h200, cpu-10g, cpu-25g, cpu-100g, or a file that
    ``gnnpipe profile`` wrote."""
    bandwidth: float | None = None
    """Gb/s out of a host, instead of the hardware's."""
    compress: bool = False
    """Also consider rows of fewer bits: --wire bf16 and int8, --tables bf16. They change numbers a little."""
    chunks: int | None = None
    """Consider only plans with this number of chunks."""
    show: int = 10
    """Number of plans to print."""
    json: bool = False
    """Print JSON instead of a table."""


@dataclass(frozen=True)
class PredictConfig(CacheConfig):
    """Settings of ``gnnpipe predict``; the run's own apply where one is not given."""

    out: str | None = None
    """File to write, in the format of its ending: .npz (NumPy's arrays), .csv, or .parquet (with pyarrow)."""
    overwrite: bool = False
    """Replace the file if there is one."""
    embed: int | None = None
    """Instead of predictions, write the hidden rows after this number of convolutions: 0 for those of the
    input layer, where the model has one; -1 for the last ones, of which logits are made; -2 for those
    before."""
    graph: str | None = None
    """Folder of another graph with the same features, as ``gnnpipe import`` writes it. It needs no labels."""
    dataset: str | None = None
    """Name of another data set with the same features, as for ``gnnpipe train``."""
    root: str | None = None
    """Folder of the data set's files, if it has moved since the run, or for --dataset."""
    model: str | None = None
    """Place of the run's own model, as my_model.py:layers, if its file has moved, or lies in the folder of
    the run, which may be somebody else's: code there is run only if it is named here."""
    nodes: Nodes = "all"
    """The nodes that are written: all, or those of a split of the run's own graph."""
    stages: int | None = None
    """Number of pipeline stages. By default the run's."""
    parts: int | None = None
    """Number of graph parts. By default the run's."""
    device: Device | None = None
    """auto, cpu or cuda, as for ``gnnpipe train``. By default the run's."""
    threads: int | None = None
    """CPU threads a process; 0 divides the cores of the host among its processes. By default the run's."""


@dataclass(frozen=True)
class ProfileConfig(StructureConfig):
    """Settings of ``gnnpipe profile``."""

    models: tuple[Model, ...] = ("gcn", "sage", "gcnii", "resgcn")
    """Kinds of layers to measure, as [gcnii,resgcn]."""
    hidden: tuple[int, ...] = (64, 128)
    """Widths to measure, as [64,128]."""
    name: str | None = None
    """Name of the profile. By default this host's name."""
    out: str = "here.json"
    """File to write."""
    overwrite: bool = False
    """Replace the file if there is one."""
