"""``train --plan auto``: the plan that is fastest by simulation, as flags."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from gnnpipe.config.commands import PlanConfig
from gnnpipe.config.run import Device, LayoutConfig
from gnnpipe.graph.data import GraphData
from gnnpipe.planner.machine import hardware_here
from gnnpipe.planner.question import question_of
from gnnpipe.planner.search import search
from gnnpipe.schedule.plan import make_plan

_Layout = TypeVar("_Layout", bound=LayoutConfig)


def planned(config: _Layout, data: GraphData, device: Device = "auto") -> tuple[_Layout, str]:
    """The config with the fastest plan's stages, parts and chunks, and why it is that.

    Raises:
        PlanError: no plan fits, or the number of chunks that is given is none.
    """
    if config.chunks is not None:
        make_plan(1, 1, config.chunks, config.layers, data.num_nodes)
    hardware = hardware_here(config.hardware, device)
    asked = PlanConfig(
        model=config.model,
        layers=config.layers,
        hidden=config.hidden,
        devices=config.devices or hardware.devices_per_host,
        chunks=config.chunks,
    )
    best = search(asked, question_of(asked, data), hardware)[0]
    plan = best.plan
    found = replace(
        config,
        plan="given",
        devices=None,
        stages=plan.num_stages,
        parts=plan.num_parts,
        chunks=plan.num_chunks,
        initial=plan.initial,
    )
    return found, (
        f"plan {plan.num_stages}x{plan.num_parts} with {plan.num_chunks} chunks, fastest by simulation on "
        f"{hardware.name}: {best.seconds:.3g} s an epoch"
    )
