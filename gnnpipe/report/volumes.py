"""The table of ``gnnpipe volume``."""

from __future__ import annotations

import json
import sys

from rich.console import Console
from rich.table import Table

from gnnpipe.base.config import VolumeConfig
from gnnpipe.report.console import method_in_words, readable_bytes
from gnnpipe.train.volumes import PlanVolume, Volumes, as_json, ratio


def print_volumes(found: Volumes, config: VolumeConfig) -> None:
    """Print a table, or JSON if the config says so."""
    if config.json:
        sys.stdout.write(json.dumps(as_json(found), indent=2) + "\n")
        return
    edges = "" if found.num_edges is None else f", {found.num_edges:,} edges"
    console = Console(highlight=False, soft_wrap=True)
    console.print(
        f"{found.name}: {found.num_nodes:,} nodes{edges}; {config.model}, {config.layers} layers, hidden "
        f"{config.hidden}; bytes of one epoch over all {config.devices} devices",
        markup=False,
    )
    table = Table()
    for name in ("plan", "parts by", "alpha", "halo rows", "between stages", "between parts", "weights",
                 "total", "times less than graph parallelism"):  # fmt: skip
        table.add_column(name, justify="left" if name in ("plan", "parts by") else "right")
    for plan in found.plans:
        table.add_row(*_row(plan, found.rival))
    console.print(table)
    if any(plan.volume is None for plan in found.plans):
        console.print("-: depends on how well the graph can be cut; give --dataset, or --alpha")


def _row(plan: PlanVolume, rival: int | None) -> list[str]:
    kind = "graph parallel" if plan.num_stages == 1 else "pipeline" if plan.num_parts == 1 else "hybrid"
    cells = [f"{plan.num_stages} x {plan.num_parts} {kind}", method_in_words(plan.method)]
    volume, halo = plan.volume, plan.halo
    if volume is None or halo is None or plan.alpha is None:
        return [*cells, *["-"] * 7]
    halo_rows = f"{halo.forward:,}"
    if halo.backward != halo.forward:
        halo_rows += f" forward, {halo.backward:,} backward"
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
