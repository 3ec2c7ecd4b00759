"""The plan of exact training: one chunk, or chunks with so much lookahead that no row is stale."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from gnnpipe.config.resolved import StalenessSettings
from gnnpipe.config.run import LayoutConfig
from gnnpipe.errors import PlanError
from gnnpipe.graph.cut.locality import Locality
from gnnpipe.graph.cut.partition import node_cost
from gnnpipe.graph.data import Graph
from gnnpipe.planner.costs import row_cost
from gnnpipe.planner.hardware import SHIPPED
from gnnpipe.schedule.plan import Plan, make_plan

# Seconds that a chunk takes in a convolution, both ways, on top of its work: some two dozen operations to
# start, and the Python between them (benchmarks/roads).
START_SECONDS = 1e-4
# Seconds that a message between stages takes of each of its two ranks, whose cores copy it.
MESSAGE_SECONDS = 2e-4
# How many times as long work takes where several cores share the memory.
CONTENTION = 1.08
CORE = SHIPPED["cpu-25g"].rates
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
    best, seconds = min(plans, key=lambda pair: pair[1])
    ratio = _seconds(whole, layout.hidden, data) / seconds
    candidate = f"lookahead {best.lookahead} over {best.num_chunks} chunks"
    if ratio <= 1 and chosen_freely:
        return replace(
            whole, note=f"one chunk: {candidate}, the best pipeline, would take {1 / ratio:.2f} x as long"
        )
    return replace(best, note=f"{candidate}: {ratio:.2f} x as fast as one chunk, by simulation")


def _pipelines(layout: LayoutConfig, data: Graph) -> Iterator[tuple[Plan, float]]:
    """Plans with several chunks, each with the smallest lookahead that leaves no row stale, and `_seconds`.

    That lookahead is the width of the graph: the largest distance between two chunks that an edge joins. The
    number of chunks doubles as long as the lookahead becomes a smaller share of it; then numbers between the
    best one and those beside it are tried.
    """
    most = max(1, min(data.num_nodes // layout.parts, MOST_CHUNKS))
    if layout.chunks is not None:
        # raises if impossible
        make_plan(layout.stages, layout.parts, layout.chunks, layout.layers, data.num_nodes)
    if 1 in (most, layout.chunks):
        return
    locality = Locality(data.adjacency, node_cost(data.adjacency, row_cost(layout.hidden)))

    def of(num_chunks: int) -> tuple[Plan, float]:
        plan = make_plan(layout.stages, layout.parts, num_chunks, layout.layers, data.num_nodes)
        cut = locality.cut(num_chunks, layout.parts)
        plan = replace(plan, lookahead=cut.width, exact=True)
        return plan, _seconds(plan, layout.hidden, data, cut.shares.tolist())

    if layout.chunks is not None:
        yield of(layout.chunks)
        return
    doubled: list[tuple[Plan, float]] = []
    for power in range(1, int(math.log2(most)) + 1):
        doubled.append(of(2**power))
        yield doubled[-1]
        # two doublings in a row that gained nothing: further ones would not either
        shares = [plan.lookahead / plan.num_chunks for plan, _ in doubled]
        if len(shares) > 2 and min(shares[-2:]) >= min(shares[:-2]):
            break
    best = min(doubled, key=lambda pair: pair[1])[0].num_chunks
    for eighths in (5, 6, 7, 10, 12, 14):
        if best * eighths % 8 == 0 and 2 <= best * eighths // 8 <= most:
            yield of(best * eighths // 8)


def _seconds(plan: Plan, hidden: int, data: Graph, shares: Sequence[float] = ()) -> float:
    """Simulated epoch on cores of a CPU, one for each rank, of convolutions of ``hidden`` columns.

    Args:
        plan: the plan.
        hidden: columns of the rows.
        data: the graph.
        shares: work of each chunk over that of the mean chunk; empty if all are alike.
    """
    # an edge is read once each way; see `row_cost` for the unit
    edges = data.num_nodes * row_cost(hidden, CORE) + data.num_edges
    one_way = edges * CORE.gather * hidden / (plan.num_parts * plan.num_chunks)
    one_way *= CONTENTION if plan.num_chunks > 1 else 1.0
    return one_way * plan.makespan(START_SECONDS / 2 / one_way, shares, MESSAGE_SECONDS / one_way)
