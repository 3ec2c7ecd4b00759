"""The output of ``gnnpipe volume``: a table or JSON."""

from __future__ import annotations

import json
import sys

from rich.table import Table

from gnnpipe.config.commands import VolumeConfig
from gnnpipe.planner.volumes import PlanVolume, Volumes, as_json, ratio
from gnnpipe.report.console import wide_console
from gnnpipe.system.words import readable_bytes

LEGEND = """\
plan: stages x parts. alpha: other parts that need a node's row, mean. halo rows: forward, + backward where
that differs. layer: rows between stages. graph: boundary rows between parts. ratio: graph parallelism's total
over the plan's."""


def print_volumes(found: Volumes, config: VolumeConfig) -> None:
    """Print a table, or JSON if the config says so."""
    if config.json:
        sys.stdout.write(json.dumps(as_json(found), indent=2) + "\n")
        return
    edges = "" if found.num_edges is None else f", {found.num_edges:,} edges"
    console = wide_console()
    console.print(
        f"{found.name}: {found.num_nodes:,} nodes{edges}; {config.model}, {found.layers} layers, hidden "
        f"{found.hidden}; bytes of one epoch over all {config.devices} devices",
        markup=False,
    )
    for line in found.notes:
        console.print(f"note: {line}", markup=False)
    table = Table()
    for name in ("plan", "", "alpha", "halo rows", "layer", "graph", "weights", "total", "ratio"):
        table.add_column(name, justify="left" if name in ("plan", "") else "right", no_wrap=True)
    for plan in found.plans:
        table.add_row(*_row(plan, found.rival))
    console.print(table)
    console.print(LEGEND)
    if any(plan.method == "rcm" for plan in found.plans):
        console.print("METIS could not cut the graph into parts; reverse Cuthill-McKee was used instead")
    if any(plan.volume is None for plan in found.plans):
        console.print("-: depends on how well the graph can be cut; give --dataset, or --alpha")


def _row(plan: PlanVolume, rival: int | None) -> list[str]:
    kind = "pipeline" if plan.num_parts == 1 else "graph" if plan.num_stages == 1 else "hybrid"
    cells = [f"{plan.num_stages}x{plan.num_parts}", kind]
    volume, halo = plan.volume, plan.halo
    if volume is None or halo is None or plan.alpha is None:
        return [*cells, *["-"] * 7]
    halo_rows = f"{halo.forward:,}"
    if halo.backward != halo.forward:
        halo_rows += f" + {halo.backward:,}"
    times = ratio(plan, rival)
    return [
        *cells,
        f"{plan.alpha:.3f}",
        halo_rows,
        readable_bytes(volume.communication_layer),
        readable_bytes(volume.communication_graph),
        readable_bytes(volume.weights),
        readable_bytes(volume.total),
        "-" if times is None else f"{times:.2f}",
    ]
