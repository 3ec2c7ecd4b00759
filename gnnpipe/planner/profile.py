"""``gnnpipe profile``: what this machine can do, measured and fitted to the cost model."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gnnpipe.comm.launch import launch_local, warm_up
from gnnpipe.comm.world import choose_device, join
from gnnpipe.config.commands import ProfileConfig
from gnnpipe.config.run import Model, RanksConfig
from gnnpipe.errors import DataError
from gnnpipe.files.reading import read_json
from gnnpipe.files.scratch import scratch_folder
from gnnpipe.files.writing import write_file
from gnnpipe.graph.chunks import CutSpec
from gnnpipe.graph.data import GraphData
from gnnpipe.graph.datasets import load_dataset
from gnnpipe.graph.normalize import Normalization
from gnnpipe.graph.prepared import PreparedGraph, prepare
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
from gnnpipe.planner.rank_memory import RankRows, rank_memory
from gnnpipe.system.memory import free_memory_bytes
from gnnpipe.system.resources import cores, total_memory

CHUNKS = (1, 4, 16, 64)
FEWER_EDGES = 0.5
TURNS = 3
# On hosts with so many cores, what ranks lose that outnumber them is measured with twice as many ranks.
FEW_CORES = 8
MEASURED = ("alone", "lone", "busy", "crowded", "messages", "starts", "crowded_starts", "links")
"""What ranks report: samples of all there is, of a few chunks alone, with all cores busy and crowded, and
what messages cost."""
# Of a host with one rank, where there is nothing to measure.
UNMEASURED = Link(1e-5, 4e9)


@dataclass(frozen=True)
class _Task:
    """What the ranks measure."""

    graphs: tuple[tuple[str, Path], ...]
    """Normalisation and prepared graph."""
    models: tuple[Model, ...]
    widths: tuple[int, ...]
    num_ranks: int
    """Devices or cores."""
    crowd: int
    """Ranks that wait until the cores are to be crowded."""
    out: Path


@dataclass(frozen=True)
class Profile:
    """What was measured, and what was made of it."""

    hardware: Hardware
    samples: list[Sample]
    off: float
    """Mean relative distance of the fitted times from the measured ones."""


def profile(config: ProfileConfig) -> Profile:
    """Measure this host.

    Raises:
        DataError: the data set can't be loaded, or is too large to measure with.
    """
    device = choose_device("auto", 1)
    num_ranks = torch.cuda.device_count() if device.type == "cuda" else cores()
    crowd = num_ranks if device.type == "cpu" and 1 < num_ranks <= FEW_CORES else 0
    warm_up(_rank)
    data = load_dataset(config)
    check_memory(data, config, num_ranks + crowd, device)
    with scratch_folder() as folder:
        task = _Task(
            tuple(_prepared(data, config.models, config.hidden, folder)),
            config.models,
            config.hidden,
            num_ranks,
            crowd,
            folder / "found.json",
        )
        launch_local(_rank, (task,), num_ranks + crowd)
        found = read_json(task.out)
    alone = [Sample(**item) for item in found["alone"]]
    busy, lone, crowded = ([Sample(**item) for item in found[name]] for name in ("busy", "lone", "crowded"))
    rates, off = fit(alone)
    links = found["links"] or [asdict(UNMEASURED)]
    link = Link(*(float(np.median([item[key] for item in links])) for key in ("latency", "bandwidth")))
    memory = total_memory()
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(0).total_memory
    hardware = Hardware(
        config.name or os.uname().nodename,
        f"measured by gnnpipe profile on {data.name} ({data.num_nodes:,} nodes, {data.num_edges:,} edges)",
        num_ranks,
        memory,
        rates,
        link,
        link,
        cores_per_host=num_ranks if device.type == "cpu" else None,
        contention=max(1.0, contention(lone, busy)),
        crowding=crowding(busy, crowded, 1 + crowd / num_ranks),
        message_seconds=float(np.median(found["messages"])),
        message_start_seconds=float(np.median(found["starts"] or [0.0])),
        crowded_message_seconds=float(np.median(found["crowded_starts"] or [0.0])),
        turn_seconds=TURN,
        torch=torch.__version__,
    )
    return Profile(hardware, alone, off)


def check_memory(data: GraphData, config: ProfileConfig, num_ranks: int, device: torch.device) -> None:
    """Raise DataError if what the ranks hold at a time does not fit.

    Args:
        data: the graph.
        config: what is to be measured.
        num_ranks: that measure the first model and width at once; all others are measured by one of them.
        device: of each rank, or of all of them where it is the CPU.
    """
    # the graph is not counted: ranks map one file of it
    rows = RankRows(data.num_nodes, 0, data.num_nodes)

    def needs(model: Model, width: int) -> int:
        layers = layers_beyond_cache(data.num_nodes, width)
        return max(
            rank_memory(plan, spec, settings, 1, rows)
            for plan, spec, settings in (
                middle_stage(data, min(chunks, data.num_nodes), model, width, layers) for chunks in CHUNKS
            )
        )

    together = num_ranks if device.type == "cpu" else 1
    deep = together * needs(config.models[0], config.hidden[0])
    alone = max(needs(model, width) for model in config.models for width in config.hidden)
    needed, free = max(deep, alone), free_memory_bytes(device)
    if needed > free:
        raise DataError(
            f"dataset: measuring with {data.name} ({data.num_nodes:,} nodes, {data.num_edges:,} edges) and "
            f"{num_ranks} ranks needs about {needed / GIB:.1f} GiB, but only {free / GIB:.1f} GiB are free; "
            f"give a smaller --hidden, or measure with a smaller graph"
        )


def _prepared(
    data: GraphData, models: Sequence[Model], widths: Sequence[int], folder: Path
) -> list[tuple[Normalization, Path]]:
    """The graph in each number of chunks, for each normalisation that the models need."""
    found: list[tuple[Normalization, Path]] = []
    kinds = {MODELS[model].normalization for model in models}
    for kind in sorted(kinds):
        for chunks in CHUNKS:
            if chunks > data.num_nodes:
                continue
            cut = CutSpec(1, chunks, row_cost(widths[0]))
            path = folder / f"{kind}-{chunks}.safetensors"
            prepare(data, cut, kind).save(path)
            found.append((kind, path))
    return found


def _rank(task: _Task, store: str) -> None:
    """One rank a core measures at once, the first one alone, more than there are cores, and two the link
    between them, in turns; then the first one measures all there is.
    """
    with join(RanksConfig(stages=task.num_ranks + task.crowd), store, threads=1) as world:
        sets = [(kind, PreparedGraph.load(path)) for kind, path in task.graphs]
        mine: dict[str, list[Any]] = {name: [] for name in MEASURED}
        for _ in range(TURNS):
            world.gather(None)
            if world.rank < task.num_ranks:
                mine["busy"] += _deep(sets, task, world.device)
            world.gather(None)
            if world.rank == 0:
                mine["lone"] += _deep(sets, task, world.device)
            world.gather(None)
            if task.crowd:
                mine["crowded"] += _deep(sets, task, world.device)
            world.gather(None)
            link = measure_link(world)
            mine["links"] += [link] if link else []
            seconds = measure_message(world)
            mine["messages"] += [] if world.rank else [seconds]
            if task.num_ranks > 1 and world.device.type == "cpu":
                start = measure_message_start(world, 2)
                mine["starts"] += [start] if world.rank < 2 else []
            if task.crowd:
                start = measure_message_start(world, task.num_ranks + task.crowd)
                mine["crowded_starts"].append(start)
        if world.rank == 0:
            mine["alone"] = _samples(sets, task.models, task.widths, world.device)
        every = world.gather(mine)
        if world.rank == 0:
            found = {name: [item for items in every for item in items[name]] for name in MEASURED}
            write_file(task.out, json.dumps(found, default=asdict))


def _deep(sets: Sequence[tuple[str, PreparedGraph]], task: _Task, device: torch.device) -> list[Sample]:
    """The first model in a few chunks."""
    return [measure_layer(graph, task.models[0], task.widths[0], device) for _, graph in sets[1:3]]


def _samples(
    sets: Sequence[tuple[str, PreparedGraph]],
    models: Sequence[Model],
    widths: Sequence[int],
    device: torch.device,
) -> list[Sample]:
    found = []
    for normalization, graph in sets:
        for share in (1.0, FEWER_EDGES):
            thin = graph if share == 1 else with_fewer_edges(graph, share)
            for model in models:
                if MODELS[model].normalization == normalization:
                    found += [measure_layer(thin, model, width, device) for width in widths]
    return found
