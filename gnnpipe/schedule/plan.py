"""The plan: numbers of stages, parts and chunks, and the layers of each stage."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from gnnpipe.config.run import Compute, Initial, TableFormat, WireFormat
from gnnpipe.errors import PlanError
from gnnpipe.schedule.actions import Action, Schedule, lifo, makespan
from gnnpipe.schedule.balance import balanced_ranges


@dataclass(frozen=True)
class Plan:
    """How one epoch is spread over ranks; ``rank = stage * num_parts + part``."""

    num_stages: int
    num_parts: int
    num_chunks: int
    layer_ranges: tuple[tuple[int, int], ...]
    """Convolutions ``[first, last)`` of each stage. Dense ends go with the first and the last one."""
    lookahead: int = 0
    """Number of chunks behind its own in the order that a convolution waits for, to read their fresh rows."""
    exact: bool = False
    """Whether no chunk reads rows beyond the lookahead, so that no row is ever stale. Chunks then follow a
    locality order and are never shuffled."""
    note: str = ""
    """Reason for this plan, if the planner chose it."""
    initial: Initial = "relay"
    """How stages behind the first get the initial rows of models that have them."""
    wire: WireFormat = "fp32"
    """Number format of rows between stages."""
    tables: TableFormat = "fp32"
    """Number format of aggregated rows, in tables and between parts."""
    recompute: bool = False
    """Whether saved activations that a layer can make again cheaply are dropped and made again."""
    compute: Compute = "fp32"
    """Arithmetic of products of rows with weights in training."""

    @property
    def num_ranks(self) -> int:
        """Number of processes that the plan needs."""
        return self.num_stages * self.num_parts

    @property
    def recomputes_initial(self) -> bool:
        """Whether stages behind the first compute initial rows themselves, in models that have them."""
        return self.initial == "recompute" and self.num_stages > 1

    def reads_stale_rows(self, *, stale_halo: bool) -> bool:
        """Whether any row of an earlier epoch is read."""
        return (self.num_chunks > 1 and not self.exact) or (stale_halo and self.num_parts > 1)

    @property
    def schedule(self) -> Schedule:
        """The actions of each stage."""
        sizes = [last - first for first, last in self.layer_ranges]
        return lifo(self.num_stages, self.num_chunks, sizes, self.lookahead)

    @property
    def bubble(self) -> float:
        """Share of an epoch in which a stage idles if convolutions and chunks are balanced:
        ``(S - 1) / (K + S - 1)``; with lookahead, the share in a dry run."""
        return self.bubble_of(())

    def bubble_of(self, shares: Sequence[float]) -> float:
        """The `bubble` of chunks of unequal work, as `makespan` takes it."""
        if not self.lookahead:
            return (self.num_stages - 1) / (self.num_chunks + self.num_stages - 1)
        layers = self.layer_ranges[-1][1]
        work = 2 * layers * self.num_chunks
        return 1 - work / (self.num_stages * self.makespan(shares=shares))

    def makespan(self, overhead: float = 0.0, shares: Sequence[float] = (), message: float = 0.0) -> float:
        """Simulated time of an epoch's actions, in units of one convolution of a mean chunk, either way.

        Args:
            overhead: fixed cost of a convolution of a chunk, on top of its work, in the same unit.
            shares: work of each chunk over that of the mean chunk; empty if all are alike.
            message: time that a message between stages takes of each of its two ranks, in the same unit.
        """
        ends = {("F", -1): 0, ("F", 1): self.num_stages - 1, ("B", -1): self.num_stages - 1, ("B", 1): 0}

        def cost(stage: int, action: Action) -> float:
            own = sum(shares[position] for position in action.taken) if shares else action.num_taken
            comes = action.enters is not None and stage != ends[action.kind, -1]
            goes = action.leaves is not None and stage != ends[action.kind, 1]
            return own + overhead * action.num_taken + message * (comes + goes)

        return makespan(self.schedule, cost)

    def stage_of(self, convolution: int) -> int:
        """The stage that a convolution runs on."""
        if not 0 <= convolution < self.layer_ranges[-1][1]:
            raise ValueError(f"{convolution} is none of {self.layer_ranges[-1][1]} convolutions")
        return bisect_right(self.layer_ranges, convolution, key=lambda bounds: bounds[0]) - 1


def check_shape(num_stages: int, num_parts: int, num_layers: int) -> None:
    """Raise PlanError for numbers that no graph can be trained with; `make_plan` checks the others."""
    for key, number in (("stages", num_stages), ("parts", num_parts)):
        if number < 1:
            raise PlanError(f"{key}: {number} is too small; use 1 or more")
    if num_stages > num_layers:
        raise PlanError(
            f"stages: {num_stages} stages can't share {num_layers} layers; "
            f"use --stages {num_layers} or fewer, or more --layers"
        )


def make_plan(
    num_stages: int,
    num_parts: int,
    num_chunks: int,
    num_layers: int,
    num_nodes: int,
    lookahead: int = 0,
    costs: Sequence[float] | None = None,
) -> Plan:
    """Check the numbers against the model and the graph, and share the layers out.

    Args:
        num_stages: number of stages.
        num_parts: number of parts of each stage.
        num_chunks: number of chunks of each part.
        num_layers: number of convolutions.
        num_nodes: number of nodes of the graph.
        lookahead: positions to look ahead; more than there are mean all.
        costs: cost of each convolution; by default all cost the same.

    Raises:
        PlanError: more stages than layers, more parts than nodes, or chunks below 1 or above the number of
            nodes of a part.
    """
    check_shape(num_stages, num_parts, num_layers)
    if num_parts > num_nodes:
        raise PlanError(
            f"parts: {num_parts} parts of a graph of {num_nodes} nodes would leave some empty; "
            f"use --parts {num_nodes} or fewer"
        )
    most = num_nodes // num_parts
    if not 1 <= num_chunks <= most:
        of_parts = f" in {num_parts} parts" if num_parts > 1 else ""
        raise PlanError(
            f"chunks: {num_chunks} does not fit a graph of {num_nodes} nodes{of_parts}; use 1 to {most}"
        )
    bounds = [stage * num_layers // num_stages for stage in range(num_stages + 1)]
    ranges = tuple(pairwise(bounds)) if costs is None else balanced_ranges(costs, num_stages)
    return Plan(num_stages, num_parts, num_chunks, ranges, min(lookahead, num_chunks - 1))
