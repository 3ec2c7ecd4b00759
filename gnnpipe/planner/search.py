"""Every plan for a number of devices, simulated and ranked: ``gnnpipe plan`` and ``train --plan auto``."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeVar, get_args

import numpy as np

from gnnpipe.comm.groups import num_groups
from gnnpipe.config.commands import PlanConfig
from gnnpipe.config.run import Device, LayoutConfig, TableFormat, WireFormat
from gnnpipe.engine.tables import TableSettings
from gnnpipe.errors import PlanError
from gnnpipe.files.reading import Content
from gnnpipe.graph.data import Graph
from gnnpipe.graph.prepare.lazy import LazyGraph, as_lazy
from gnnpipe.planner.hardware import GIB, Hardware, hardware_here
from gnnpipe.planner.memory.peak import on_device
from gnnpipe.planner.memory.rank import RankRows, adjacency_bytes, checkpoint_memory, rank_memory
from gnnpipe.planner.predictions import (
    convolution_costs,
    volume_of,
)
from gnnpipe.planner.question import Question, question_of
from gnnpipe.planner.simulate import simulate
from gnnpipe.planner.workload import LEAST_ROWS_PER_CHUNK, best_chunks, work_of
from gnnpipe.schedule.plan import Plan, make_plan
from gnnpipe.schedule.timeline import Breakdown, breakdowns
from gnnpipe.schedule.volume import Volume
from gnnpipe.system.words import readable_bytes

# Most actions that a search simulates, which takes seconds; beyond, it leaves out the slowest by formula.
MOST_ACTIONS = 150_000
# Share of a device's memory that plans may use: fragments are not counted.
USABLE_MEMORY = 0.92


@dataclass(frozen=True, repr=False)
class Candidate:
    """A plan and its simulated epoch."""

    plan: Plan
    seconds: float
    """Seconds of an epoch; infinite where the plan does not fit."""
    volume: Volume
    """Bytes of an epoch over all ranks."""
    memory: int
    """Bytes of the rank that needs most."""
    mean: Breakdown
    """Seconds of an epoch by kind, mean over ranks."""
    lack: int
    """Bytes of memory that it lacks; 0 if it fits."""

    @property
    def settings(self) -> Content:
        """Settings of a run that takes this plan, by the names of their fields in `RunConfig`."""
        plan = self.plan
        settings: Content = {
            "stages": plan.num_stages, "parts": plan.num_parts, "chunks": plan.num_chunks
        }  # fmt: skip
        if plan.recomputes_initial:
            settings["initial"] = plan.initial
        formats = {"wire": plan.wire, "tables": plan.tables}
        return settings | {key: value for key, value in formats.items() if value != "fp32"}

    def __repr__(self) -> str:
        memory = f"{readable_bytes(self.memory)} a device"
        if self.lack:
            return f"Candidate({describe(self.plan)}: needs {memory}, {readable_bytes(self.lack)} too much)"
        sent = readable_bytes(self.volume.total)
        return f"Candidate({describe(self.plan)}: {self.seconds:.3g} s an epoch, {sent} sent, {memory})"


def search(config: PlanConfig, question: Question, hardware: Hardware) -> list[Candidate]:
    """Simulate the plans for a number of devices; return those that fit, fastest first, then the others.

    Raises:
        PlanError: no plan for this number of devices, or none that fits; it names the plan that lacks least.
    """
    if config.bandwidth is not None:
        hardware = replace(hardware, network=replace(hardware.network, bandwidth=config.bandwidth * 1e9 / 8))
    # all plans -> those that fit -> those worth simulating -> by simulated seconds
    plans = list(_plans(config, question, hardware))
    if not plans:
        raise PlanError(
            f"devices: {config.devices} devices can't be shared out among {question.spec.layers} layers and "
            f"{question.size.num_nodes} nodes; use fewer"
        )
    needs = {plan: _needed(plan, question, hardware) for plan in plans}
    fitting = [plan for plan in plans if not needs[plan][1]]
    if not fitting:
        least = min(plans, key=lambda plan: needs[plan][1])
        memory, lack = needs[least]
        raise PlanError(
            f"devices: no plan for {config.devices} of {hardware.name} fits; the one that needs least, "
            f"{describe(least)}, needs {memory / GIB:.1f} GiB a device, and {lack / GIB:.1f} GiB are "
            "lacking; use more --devices, or lower --hidden or --layers"
        )
    candidates = [assess(plan, question, hardware) for plan in _promising(fitting, question, hardware)]
    candidates.sort(key=lambda candidate: candidate.seconds)
    nothing = Breakdown(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    for plan in plans:
        memory, lack = needs[plan]
        if lack:
            candidates.append(Candidate(plan, math.inf, Volume(0, 0, 0), memory, nothing, lack))
    return candidates


def _promising(plans: list[Plan], question: Question, hardware: Hardware) -> list[Plan]:
    """The plans to simulate: the fastest by formula, up to `MOST_ACTIONS` in all, but at least one."""
    rated = sorted(plans, key=lambda plan: estimate(plan, question, hardware))
    actions = [2 * plan.num_chunks * plan.num_stages * _halo_steps(plan) for plan in rated]
    spent = itertools.accumulate(actions)
    return [plan for plan, total in zip(rated, spent, strict=True) if total <= MOST_ACTIONS] or rated[:1]


def assess(plan: Plan, question: Question, hardware: Hardware) -> Candidate:
    """Simulate a plan and count its bytes and memory."""
    cut = question.cuts[plan.num_parts]
    settings = _settings(plan)
    work = work_of(plan, question.spec, question.size, cut, hardware.rates, settings.versions_sent)
    result = simulate(plan, work, hardware)
    # parts are alike, so part 0 of each stage stands for all
    parts = breakdowns(result.timeline[:: plan.num_parts], plan.schedule, result.seconds)
    mean = Breakdown(*(float(np.mean(column)) for column in zip(*map(_figures, parts), strict=True)))
    volume = volume_of(plan, question.spec, question.size.num_nodes, cut.halo, settings.versions_sent)
    needed, lack = _needed(plan, question, hardware)
    return Candidate(plan, result.seconds, volume, needed, mean, lack)


def _needed(plan: Plan, question: Question, hardware: Hardware) -> tuple[int, int]:
    """Bytes of the rank that needs most, and the bytes that a device, or a host of cores, lacks."""
    memory, checkpoint = _memory(plan, question, _settings(plan))
    needed, room = max(memory), USABLE_MEMORY * hardware.memory
    if not hardware.is_cpu:
        needed = on_device(needed, num_groups(plan.num_stages, plan.num_parts))
    worst = float(needed)
    if hardware.is_cpu:
        # ranks of a host share its memory, and hold their shares of a checkpoint in it
        ranks = [rank // plan.num_parts for rank in range(plan.num_ranks)]
        each = [memory[stage] + checkpoint[stage] for stage in ranks]
        hosts = range(0, plan.num_ranks, hardware.devices_per_host)
        worst = float(max(sum(each[first : first + hardware.devices_per_host]) for first in hosts))
    return needed, max(0, round(worst - room))


def estimate(plan: Plan, question: Question, hardware: Hardware) -> float:
    """Epoch seconds by formula, to choose the plans worth simulating.

    That is chunks + stages - 1 steps of the most expensive stage, with exchanges of boundary rows that
    nothing hides.
    """
    cut = question.cuts[plan.num_parts]
    work = work_of(plan, question.spec, question.size, cut, hardware.rates)
    most_expensive = max(sum(layer.total for layer in stage) for stage in work.layers)
    near = plan.num_parts <= hardware.devices_per_host
    link = hardware.local if near else hardware.network
    halo = max(
        sum(2 * link.latency + (layer.halo + layer.halo_back) / link.bandwidth for layer in stage)
        for stage in work.layers
    )
    exchange = halo if plan.num_parts > 1 else 0.0
    return (plan.num_chunks + plan.num_stages - 1) * (most_expensive + exchange)


def describe(plan: Plan) -> str:
    """Name of a plan, as ``gnnpipe compare --plans`` reads it: ``2x4x16+recompute``."""
    words: list[str] = [plan.initial] if plan.recomputes_initial else []
    words += [plan.wire] if plan.wire != "fp32" else []
    words += [f"tables-{plan.tables}"] if plan.tables != "fp32" else []
    words += [f"compute-{plan.compute}"] if plan.compute != "fp32" else []
    return "+".join([f"{plan.num_stages}x{plan.num_parts}x{plan.num_chunks}", *words])


def _plans(config: PlanConfig, question: Question, hardware: Hardware) -> Iterator[Plan]:
    """Every shape, with every format of rows and way of initial rows that is asked for and has an effect."""
    spec, nodes = question.spec, question.size.num_nodes
    costs = convolution_costs(spec, question.size, hardware.rates)
    wires = get_args(WireFormat) if config.compress else ("fp32",)
    tables = get_args(TableFormat) if config.compress else ("fp32",)
    for parts in question.cuts:
        stages = config.devices // parts
        if stages > spec.layers or parts > nodes:
            continue
        # with one stage no rows travel between stages: their format and the initial rows make no difference
        for wire, table in itertools.product(wires if stages > 1 else ("fp32",), tables):
            for initial in ("relay", "recompute") if spec.has_initial and stages > 1 else ("relay",):
                plan = replace(
                    make_plan(stages, parts, 1, spec.layers, nodes, costs=costs),
                    wire=wire,
                    tables=table,
                    initial=initial,
                )
                for chunks in _chunks(config, plan, question, hardware):
                    yield replace(plan, num_chunks=chunks)


def _chunks(config: PlanConfig, plan: Plan, question: Question, hardware: Hardware) -> list[int]:
    """Numbers of chunks worth simulating: the formula's best, and powers of two from 1/8 to 4 times that."""
    most = max(1, question.size.num_nodes // plan.num_parts)
    if config.chunks is not None:
        return [config.chunks] if config.chunks <= most else []
    if plan.num_stages == 1:
        return [1]
    best = best_chunks(plan, question.spec, question.size, hardware.rates)
    powers = [2**power for power in range(11) if best / 8 <= 2**power <= best * 4]
    return sorted({best, *(power for power in powers if power <= most // LEAST_ROWS_PER_CHUNK or power == 1)})


def _halo_steps(plan: Plan) -> int:
    """Simulated steps of an action: one, or with several parts about three per layer."""
    layers = max(last - first for first, last in plan.layer_ranges)
    return 1 if plan.num_parts == 1 else 3 * layers


def _memory(plan: Plan, question: Question, settings: TableSettings) -> tuple[list[int], list[int]]:
    """Bytes of a rank of each stage, and of its share of a checkpoint."""
    parts, cut = plan.num_parts, question.cuts[plan.num_parts]
    # parts and chunks are taken to be alike
    rows = -(-question.size.num_nodes // parts)
    rank = RankRows(
        rows,
        max(cut.halo.forward, cut.halo.backward) // parts,
        -(-rows // plan.num_chunks),
        question.num_matrices * adjacency_bytes(question.size.num_edges // parts, rows, parts, plan.tables),
        question.feature_entries // parts,
        question.train_share,
        question.several_labels,
        edges_per_row=question.size.num_edges / max(question.size.num_nodes, 1),
    )
    # stages between the ends that have equally many layers are alike: one of each kind is counted
    known: dict[tuple[int, bool, bool], tuple[int, int]] = {}
    by_stage = []
    for stage, (first, last) in enumerate(plan.layer_ranges):
        kind = last - first, stage == 0, stage == plan.num_stages - 1
        if kind not in known:
            stale = plan.reads_stale_rows(stale_halo=False)
            known[kind] = (
                rank_memory(plan, question.spec, settings, stage, rank),
                checkpoint_memory(plan, question.spec, settings, stage, rank, stale=stale),
            )
        by_stage.append(known[kind])
    return [memory for memory, _ in by_stage], [checkpoint for _, checkpoint in by_stage]


def _settings(plan: Plan) -> TableSettings:
    """Tables of the default staleness settings."""
    if plan.num_chunks == 1:
        return TableSettings(alone=True, format=plan.tables)
    return TableSettings(gradient="reuse", weight=0.7, format=plan.tables)


def _figures(rank: Breakdown) -> tuple[float, ...]:
    return (
        rank.compute,
        rank.bubble,
        rank.imbalance,
        rank.communication_layer,
        rank.communication_graph,
        rank.other,
    )


_Layout = TypeVar("_Layout", bound=LayoutConfig)


def planned(config: _Layout, data: Graph | LazyGraph, device: Device = "auto") -> tuple[_Layout, str]:
    """The config with the stages, parts and chunks of the fastest plan, and a line that says so.

    Raises:
        PlanError: no plan fits, or the number of chunks that is given is impossible.
    """
    graph = as_lazy(data)
    if config.chunks is not None:
        make_plan(1, 1, config.chunks, config.layers, graph.graph.num_nodes)  # raises if impossible
    hardware = hardware_here(config.hardware, device)
    asked = PlanConfig(
        model=config.model,
        model_options=config.model_options,
        layers=config.layers,
        hidden=config.hidden,
        devices=config.devices or hardware.devices_per_host,
        chunks=config.chunks,
    )
    best = search(asked, question_of(asked, graph), hardware)[0]
    plan = best.plan
    chosen = replace(
        config,
        plan="given",
        devices=None,
        stages=plan.num_stages,
        parts=plan.num_parts,
        chunks=plan.num_chunks,
        initial=plan.initial,
    )
    return chosen, (
        f"plan {plan.num_stages}x{plan.num_parts} with {plan.num_chunks} chunks, fastest by simulation on "
        f"{hardware.name}: {best.seconds:.3g} s an epoch"
    )
