"""``gnnpipe profile``: measure this machine and fit the cost model's rates to it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
import torch

from gnnpipe.comm.launch import launch_local, warm_up
from gnnpipe.comm.world import World, choose_device, join
from gnnpipe.config.commands import ProfileConfig
from gnnpipe.config.run import Model, RanksConfig
from gnnpipe.errors import DataError
from gnnpipe.files.reading import read_json
from gnnpipe.files.scratch import scratch_folder
from gnnpipe.files.typed_json import from_object, json_text
from gnnpipe.files.writing import write_file
from gnnpipe.graph.cut.chunks import CutSpec
from gnnpipe.graph.data import Graph
from gnnpipe.graph.prepare.normalize import Normalization
from gnnpipe.graph.prepare.prepared import PreparedGraph, prepare_file
from gnnpipe.graph.sources.datasets import load_dataset
from gnnpipe.nn.models import MODELS
from gnnpipe.planner.costs import row_cost
from gnnpipe.planner.hardware import GIB, TURN, Hardware, Link
from gnnpipe.planner.measure import (
    Sample,
    contention,
    crowding,
    fit,
    layers_beyond_cache,
    measure_layer,
    measure_link,
    measure_message,
    measure_message_start,
    middle_stage,
    with_fewer_edges,
)
from gnnpipe.planner.memory.rank import RankRows, rank_memory
from gnnpipe.system.memory import free_memory_bytes
from gnnpipe.system.resources import cores, total_memory

# Several sizes of chunks, so that the fit can tell a chunk's fixed cost from the cost of its rows ...
CHUNKS = (1, 4, 16, 64)
# ... and fewer edges on the same rows, so that it can tell the cost of edges from that of rows.
FEWER_EDGES = 0.5
# Each load is measured this often, in turn with the others, so that a slow minute hits all of them alike.
TURNS = 3
# Up to this number of cores, the slowdown of an oversubscribed host is measured with two ranks per core.
FEW_CORES = 8
# The link of a host with one rank, where there is none to measure.
UNMEASURED = Link(1e-5, 4e9)


@dataclass(frozen=True)
class _Task:
    """Work that all ranks are started with."""

    graphs: tuple[tuple[str, Path], ...]
    """Normalisation and file of each prepared graph; one normalisation's in the order of `CHUNKS`."""
    models: tuple[Model, ...]
    widths: tuple[int, ...]
    num_ranks: int
    """Number of devices or cores."""
    crowd: int
    """Number of further ranks, which compute only while the cores are to be oversubscribed."""
    out: Path
    """File for the measurements of all ranks."""


@dataclass(frozen=True)
class _Measured:
    """Measurements of one rank, or of all ranks together."""

    alone: list[Sample] = field(default_factory=list)
    """Every model, width and graph, on one rank while the others wait; the rates are fitted to these."""
    lone: list[Sample] = field(default_factory=list)
    """The first model in a few chunks, on one rank while the others wait."""
    busy: list[Sample] = field(default_factory=list)
    """The same on every core at once."""
    crowded: list[Sample] = field(default_factory=list)
    """The same on two ranks per core at once."""
    messages: list[float] = field(default_factory=list)
    """Seconds of a core per byte of a message."""
    starts: list[float] = field(default_factory=list)
    """Seconds of a core per short message."""
    crowded_starts: list[float] = field(default_factory=list)
    """The same with two ranks per core."""
    links: list[Link] = field(default_factory=list)


@dataclass(frozen=True)
class Profile:
    """Measurements of a host, and the hardware fitted to them."""

    hardware: Hardware
    samples: list[Sample]
    """Measurements that the rates were fitted to."""
    off: float
    """Mean relative error of the fitted times."""


def profile(config: ProfileConfig) -> Profile:
    """Measure this host.

    Raises:
        DataError: the data set can't be loaded, or is too large to measure with.
    """
    device = choose_device("auto", 1)
    num_ranks = torch.cuda.device_count() if device.type == "cuda" else cores()
    crowd = num_ranks if device.type == "cpu" and 1 < num_ranks <= FEW_CORES else 0
    warm_up(_rank)
    data = load_dataset(config, max(config.hidden))
    check_memory(data, config, num_ranks + crowd, device)
    measured = _measured_by_ranks(data, config, num_ranks, crowd)
    rates, off = fit(measured.alone)
    link = _median_link(measured.links or [UNMEASURED])
    hardware = Hardware(
        config.name or os.uname().nodename,
        f"measured by gnnpipe profile on {data.name} ({data.num_nodes:,} nodes, {data.num_edges:,} edges)",
        num_ranks,
        torch.cuda.get_device_properties(0).total_memory if device.type == "cuda" else total_memory(),
        rates,
        link,
        link,
        cores_per_host=num_ranks if device.type == "cpu" else None,
        contention=max(1.0, contention(measured.lone, measured.busy)),
        crowding=crowding(measured.busy, measured.crowded, 1 + crowd / num_ranks),
        message_seconds=_median(measured.messages),
        message_start_seconds=_median(measured.starts),
        crowded_message_seconds=_median(measured.crowded_starts),
        turn_seconds=TURN,
        torch=torch.__version__,
    )
    return Profile(hardware, measured.alone, off)


def _measured_by_ranks(data: Graph, config: ProfileConfig, num_ranks: int, crowd: int) -> _Measured:
    """Start the ranks and return the measurements of all of them."""
    with scratch_folder() as folder:
        graphs = tuple(_prepared(data, config.models, config.hidden, folder))
        task = _Task(graphs, config.models, config.hidden, num_ranks, crowd, folder / "measured.json")
        launch_local(_rank, (task,), num_ranks + crowd)
        return from_object(_Measured, read_json(task.out))


def _median(values: Sequence[float]) -> float:
    """Median, or 0 where nothing was measured."""
    return float(np.median(values or [0.0]))


def _median_link(links: Sequence[Link]) -> Link:
    return Link(_median([link.latency for link in links]), _median([link.bandwidth for link in links]))


def check_memory(data: Graph, config: ProfileConfig, num_ranks: int, device: torch.device) -> None:
    """Raise DataError if the ranks that measure at the same time would need more memory than is free.

    Args:
        data: the graph.
        config: models and widths to measure.
        num_ranks: number of ranks that measure the first model and width at the same time; one rank measures
            the others.
        device: a GPU that one rank has for itself, or the CPU that all share.
    """
    # the graph is not counted: all ranks map the same file
    rows = RankRows(data.num_nodes, 0, data.num_nodes)

    def needs(model: Model, width: int) -> int:
        layers = layers_beyond_cache(data.num_nodes, width)
        return max(
            rank_memory(plan, spec, settings, 1, rows)
            for plan, spec, settings in (
                middle_stage(data, min(chunks, data.num_nodes), model, width, layers) for chunks in CHUNKS
            )
        )

    # two moments may need most: many ranks with the first model, or one rank with the largest
    together = num_ranks if device.type == "cpu" else 1
    deep = together * needs(config.models[0], config.hidden[0])
    alone = max(needs(model, width) for model in config.models for width in config.hidden)
    needed, free = max(deep, alone), free_memory_bytes(device)
    if free is not None and needed > free:
        raise DataError(
            f"dataset: measuring with {data.name} ({data.num_nodes:,} nodes, {data.num_edges:,} edges) and "
            f"{num_ranks} ranks needs about {needed / GIB:.1f} GiB, but only {free / GIB:.1f} GiB are free; "
            f"give a smaller --hidden, or measure with a smaller graph"
        )


def _prepared(
    data: Graph, models: Sequence[Model], widths: Sequence[int], folder: Path
) -> list[tuple[Normalization, Path]]:
    """Save the graph in each number of chunks, for each normalisation that the models need."""
    graphs: list[tuple[Normalization, Path]] = []
    kinds = {MODELS[model].normalization for model in models}
    for kind in sorted(kinds):
        for chunks in CHUNKS:
            if chunks > data.num_nodes:
                continue
            cut = CutSpec(1, chunks, row_cost(widths[0]))
            path = folder / f"{kind}-{chunks}.safetensors"
            prepare_file(data, cut, kind, path)
            graphs.append((kind, path))
    return graphs


def _rank(task: _Task, store: str) -> None:
    """Measure as one of all ranks; rank 0 then writes the measurements of all."""
    with join(RanksConfig(stages=task.num_ranks + task.crowd), store, threads=1) as world:
        graphs = [(kind, PreparedGraph.load(path)) for kind, path in task.graphs]
        mine = _Measured()
        for _ in range(TURNS):
            _time_layers(graphs, task, world, mine)
            _time_messages(task, world, mine)
        if world.rank == 0:
            mine.alone.extend(_samples(graphs, task.models, task.widths, world.device))
        every = world.gather(mine)
        if world.rank == 0:
            write_file(task.out, json_text(_together(every)))


def _time_layers(
    graphs: Sequence[tuple[str, PreparedGraph]], task: _Task, world: World, mine: _Measured
) -> None:
    """Time a few layers under each load, once.

    # Who computes on a host of 2 cores, with a crowd of 2; at each | all ranks meet:
    #
    #            busy   lone   crowded
    #   rank 0 |  x   |  x   |  x   |
    #   rank 1 |  x   |  .   |  x   |
    #   rank 2 |  .   |  .   |  x   |    (the crowd)
    #   rank 3 |  .   |  .   |  x   |
    """
    loads = (
        (mine.busy, world.rank < task.num_ranks),
        (mine.lone, world.rank == 0),
        (mine.crowded, task.crowd > 0),
    )
    for samples, takes_part in loads:
        world.gather(None)  # no rank may still compute under the load before
        if takes_part:
            # the second and third of `CHUNKS`, with the first normalisation
            samples.extend(
                measure_layer(graph, task.models[0], task.widths[0], world.device) for _, graph in graphs[1:3]
            )
    world.gather(None)


def _time_messages(task: _Task, world: World, mine: _Measured) -> None:
    """Time messages between ranks 0 and 1, and, where there is a crowd, between all pairs at once."""
    link = measure_link(world)
    mine.links.extend([link] if link else [])
    seconds = measure_message(world)
    if world.rank == 0:
        mine.messages.append(seconds)
    if task.num_ranks > 1 and world.device.type == "cpu":
        # all ranks call it, as they meet in it; only those of the pair have something to report
        start = measure_message_start(world, 2)
        mine.starts.extend([start] if world.rank < 2 else [])
    if task.crowd:
        mine.crowded_starts.append(measure_message_start(world, task.num_ranks + task.crowd))


def _together(every: Sequence[_Measured]) -> _Measured:
    """Measurements of all ranks, rank after rank."""
    names = [column.name for column in fields(_Measured)]
    return _Measured(*([value for mine in every for value in getattr(mine, name)] for name in names))


def _samples(
    graphs: Sequence[tuple[str, PreparedGraph]],
    models: Sequence[Model],
    widths: Sequence[int],
    device: torch.device,
) -> list[Sample]:
    """Time every model and width on every graph of its normalisation, with all edges and with fewer."""
    samples = []
    for normalization, graph in graphs:
        for share in (1.0, FEWER_EDGES):
            thin = graph if share == 1 else with_fewer_edges(graph, share)
            for model in models:
                if MODELS[model].normalization == normalization:
                    samples += [measure_layer(thin, model, width, device) for width in widths]
    return samples
