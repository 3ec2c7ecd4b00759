"""The plan of exact training: one chunk, or chunks with so much lookahead that no row is stale."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from gnnpipe.config.resolved import StalenessSettings
from gnnpipe.config.run import LayoutConfig
from gnnpipe.errors import PlanError
from gnnpipe.graph.cut.locality import Locality
from gnnpipe.graph.cut.partition import node_cost
from gnnpipe.graph.data import Graph
from gnnpipe.planner.costs import row_cost
from gnnpipe.schedule.plan import Plan, make_plan

# Fixed cost of a chunk in a convolution, in rows of work: 32 chunks of 3,125 rows took 1.07 times as long as
# one chunk (GCNII, 32 layers, hidden 128; benchmarks/chunking).
ROWS_PER_START = 200
MOST_CHUNKS = 1024


def exact_plan(layout: LayoutConfig, staleness: StalenessSettings, data: Graph) -> Plan:
    """The plan of ``--staleness exact`` or ``--staleness.lookahead exact``.

    The preset takes the plan with the shortest simulated epoch, which may be that with one chunk; the
    lookahead setting always takes several chunks. With ``chunks`` given, that number is the only candidate
    beside one.

    Raises:
        PlanError: an impossible number of stages, parts or chunks, or a lookahead asked for with one chunk.
    """
    whole = make_plan(layout.stages, layout.parts, 1, layout.layers, data.num_nodes)
    chosen_freely = staleness.preset == "exact"
    if staleness.lookahead == 0:
        return replace(whole, note="one chunk, as --staleness.lookahead is 0")
    if layout.norm == "batch":  # with several chunks asked for, the config was refused
        return replace(whole, note="one chunk, as batch norm reads all rows at once")
    if layout.stages == 1 and chosen_freely:
        return whole
    # of the pipelines, each as wide a lookahead as it needs, the one with the shortest epoch
    plans = list(_pipelines(layout, data))
    if not plans:
        if not chosen_freely:
            raise PlanError(
                "chunks: 1 leaves nothing to look ahead to; use --chunks 2 or more, or leave it out"
            )
        return replace(whole, note="one chunk, as asked")
    best = min(plans, key=lambda plan: _seconds(plan, data.num_nodes))
    ratio = _seconds(whole, data.num_nodes) / _seconds(best, data.num_nodes)
    candidate = f"lookahead {best.lookahead} over {best.num_chunks} chunks"
    if ratio <= 1 and chosen_freely:
        return replace(
            whole, note=f"one chunk: {candidate}, the best pipeline, would take {1 / ratio:.2f} x as long"
        )
    return replace(best, note=f"{candidate}: {ratio:.2f} x as fast as one chunk, by simulation")


def _pipelines(layout: LayoutConfig, data: Graph) -> Iterator[Plan]:
    """Plans with several chunks, each with the smallest lookahead that leaves no row stale.

    That lookahead is the width of the graph: the largest distance between two chunks that an edge joins. The
    number of chunks doubles as long as the lookahead becomes a smaller share of it.
    """
    most = max(1, min(data.num_nodes // layout.parts, MOST_CHUNKS))
    numbers = [2**power for power in range(1, int(math.log2(most)) + 1)]
    if layout.chunks is not None:
        # raises if impossible
        make_plan(layout.stages, layout.parts, layout.chunks, layout.layers, data.num_nodes)
        numbers = [layout.chunks] if layout.chunks > 1 else []
    if not numbers:
        return
    locality = Locality(data.adjacency, node_cost(data.adjacency, row_cost(layout.hidden)))
    shares: list[float] = []
    for num_chunks in numbers:
        plan = make_plan(layout.stages, layout.parts, num_chunks, layout.layers, data.num_nodes)
        width = locality.cut(num_chunks, layout.parts).width
        yield replace(plan, lookahead=width, exact=True)
        shares.append(width / num_chunks)
        # two doublings in a row that gained nothing: further ones would not either
        if len(shares) > 2 and min(shares[-2:]) >= min(shares[:-2]):
            return


def _seconds(plan: Plan, num_nodes: int) -> float:
    """Simulated epoch, in units of one convolution of the whole graph in one direction."""
    rows = num_nodes / (plan.num_parts * plan.num_chunks)
    return plan.makespan(ROWS_PER_START / rows) / plan.num_chunks
