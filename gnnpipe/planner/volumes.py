"""Bytes that every plan for a number of devices would send, from the graph's structure alone."""

from __future__ import annotations

from dataclasses import dataclass, replace

from gnnpipe.config.commands import VolumeConfig
from gnnpipe.errors import PlanError
from gnnpipe.graph.prepare.fingerprint import known_fingerprint
from gnnpipe.graph.prepare.lazy import LazyGraph, at_hand
from gnnpipe.graph.sources.datasets import load_dataset
from gnnpipe.nn.models import DataSizes, ModelSpec, spec_for, spec_of
from gnnpipe.planner.cuts import count_cut
from gnnpipe.planner.predictions import volume_of
from gnnpipe.schedule.plan import make_plan
from gnnpipe.schedule.volume import HaloRows, Volume


@dataclass(frozen=True)
class PlanVolume:
    """One plan and the bytes that it sends."""

    num_stages: int
    num_parts: int
    method: str
    """How the parts were cut; ``given`` where alpha was given instead."""
    halo: HaloRows | None
    """Rows that parts read of each other; None where that is not known."""
    alpha: float | None
    """Mean number of other parts that need a node's row; None where that is not known."""
    volume: Volume | None
    """Bytes of an epoch over all ranks; None where `halo` is not known."""


@dataclass(frozen=True)
class Volumes:
    """All plans for a number of devices."""

    name: str
    num_nodes: int
    num_edges: int | None
    layers: int
    """Number of convolutions."""
    hidden: int
    """Columns of the widest hidden rows."""
    plans: list[PlanVolume]
    """Graph parallelism first, the pipeline last."""
    notes: tuple[str, ...] = ()
    """Remarks on what was left out or changed when the graph was loaded."""

    @property
    def rival(self) -> int | None:
        """Bytes of graph parallelism, that is of one stage; None where they are not known."""
        volume = self.plans[0].volume if self.plans[0].num_stages == 1 else None
        return None if volume is None else volume.total


def volumes(config: VolumeConfig) -> Volumes:
    """Bytes of every plan with stages x parts = devices.

    Raises:
        PlanError: no plan fits.
        DataError: the data set can't be loaded.
    """
    if config.num_nodes is not None:
        return _of_sizes(config, config.num_nodes)
    width = config.hidden
    known = known_fingerprint(config, width)
    name, cache = config.data_name, config.cache
    with at_hand(name, cache, lambda: load_dataset(config, width), known=known) as graph:
        data = graph.graph
        spec = spec_for(config, data)
        plans = []
        for stages, parts in _shapes(config.devices, spec.layers, data.num_nodes):
            method, halo = _cut(config, graph, parts)
            plans.append(_plan_volume(config, spec, data.num_nodes, stages, parts, method, halo))
    return Volumes(data.name, data.num_nodes, data.num_edges, spec.layers, spec.hidden, plans, data.notes)


def _of_sizes(config: VolumeConfig, num_nodes: int) -> Volumes:
    """Bytes for a graph that is not at hand: alpha, if given, is that of as many parts as devices."""
    features, classes = config.num_features or config.hidden, config.num_classes or config.hidden
    spec = spec_of(config, DataSizes(features, classes))
    plans = []
    for stages, parts in _shapes(config.devices, spec.layers, num_nodes):
        halo = HaloRows(0, 0) if parts == 1 else None
        if parts == config.devices > 1 and config.alpha is not None:
            rows = round(config.alpha * num_nodes)
            halo = HaloRows(rows, rows)
        plans.append(_plan_volume(config, spec, num_nodes, stages, parts, "given", halo))
    return Volumes(f"a graph of {num_nodes:,} nodes", num_nodes, None, spec.layers, spec.hidden, plans)


def _shapes(devices: int, num_layers: int, num_nodes: int) -> list[tuple[int, int]]:
    """Stages and parts of every plan: at most as many stages as layers, and parts as nodes."""
    shapes = [
        (stages, devices // stages)
        for stages in range(1, devices + 1)
        if devices % stages == 0 and stages <= num_layers and devices // stages <= num_nodes
    ]
    if not shapes:
        raise PlanError(
            f"devices: {devices} devices can't be shared out among {num_layers} layers and "
            f"{num_nodes} nodes; use fewer"
        )
    return shapes


def _cut(config: VolumeConfig, graph: LazyGraph, parts: int) -> tuple[str, HaloRows]:
    """Cut the graph as a run would; return the method and the halo rows."""
    cut = count_cut(graph, parts, config.part_balance, config.hidden)
    return cut.method, HaloRows(cut.forward, cut.backward)


def _plan_volume(
    config: VolumeConfig,
    spec: ModelSpec,
    num_nodes: int,
    stages: int,
    parts: int,
    method: str,
    halo: HaloRows | None,
) -> PlanVolume:
    plan = replace(
        make_plan(stages, parts, 1, spec.layers, num_nodes),
        initial=config.initial,
        wire=config.wire,
        tables=config.tables,
    )
    if halo is None:
        return PlanVolume(stages, parts, method, None, None, None)
    volume = volume_of(plan, spec, num_nodes, halo)
    return PlanVolume(stages, parts, method, halo, halo.forward / num_nodes, volume)


def as_json(found: Volumes) -> dict[str, object]:
    """The object that ``--json`` prints."""
    return {
        "graph": found.name,
        "num_nodes": found.num_nodes,
        "num_edges": found.num_edges,
        "plans": [_plan_as_json(plan, found.rival) for plan in found.plans],
    }


def _plan_as_json(plan: PlanVolume, rival: int | None) -> dict[str, object]:
    volume, halo = plan.volume, plan.halo
    return {
        "stages": plan.num_stages,
        "parts": plan.num_parts,
        "method": plan.method,
        "alpha": plan.alpha,
        "halo_forward": None if halo is None else halo.forward,
        "halo_backward": None if halo is None else halo.backward,
        "communication_layer": None if volume is None else volume.communication_layer,
        "communication_graph": None if volume is None else volume.communication_graph,
        "weights": None if volume is None else volume.weights,
        "total": None if volume is None else volume.total,
        "ratio": ratio(plan, rival),
    }


def ratio(plan: PlanVolume, rival: int | None) -> float | None:
    """Bytes of graph parallelism over those of a plan; None where either is unknown or the latter is 0."""
    if plan.volume is None or rival is None or not plan.volume.total:
        return None
    return rival / plan.volume.total
