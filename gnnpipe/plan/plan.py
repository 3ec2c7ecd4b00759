"""The plan: stages, parts, chunks, and which layers run where."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from gnnpipe.base.errors import PlanError
from gnnpipe.plan.schedule import Schedule, lifo

DEFAULT_CHUNKS_PER_STAGE = 8


@dataclass(frozen=True)
class Plan:
    """How one epoch is spread over ranks; ``rank = stage * num_parts + part``."""

    num_stages: int
    num_parts: int
    num_chunks: int
    layer_ranges: tuple[tuple[int, int], ...]
    """Convolutions ``[first, last)`` of each stage. Dense ends go with the first and the last one."""

    @property
    def num_ranks(self) -> int:
        """Processes that the plan needs."""
        return self.num_stages * self.num_parts

    @property
    def schedule(self) -> Schedule:
        """The actions of each stage."""
        return lifo(self.num_stages, self.num_chunks)

    @property
    def bubble(self) -> float:
        """Share of an epoch that a stage idles when stages and chunks are balanced."""
        return (self.num_stages - 1) / (self.num_chunks + self.num_stages - 1)

    def stage_of(self, convolution: int) -> int:
        """The stage that a convolution runs on."""
        return next(s for s, (first, last) in enumerate(self.layer_ranges) if first <= convolution < last)


def make_plan(
    num_stages: int, num_parts: int, num_chunks: int | None, num_layers: int, num_nodes: int
) -> Plan:
    """Check the numbers against the model and the graph, and share the layers out evenly.

    Args:
        num_stages: pipeline stages.
        num_parts: graph parts of each stage.
        num_chunks: None for `DEFAULT_CHUNKS_PER_STAGE` a stage, or 1 with one stage.
        num_layers: convolutions.
        num_nodes: nodes of the graph.

    Raises:
        PlanError: more stages than layers, more parts than nodes, or chunks below 1 or above the number of
            nodes of a part.
    """
    for key, number in (("stages", num_stages), ("parts", num_parts)):
        if number < 1:
            raise PlanError(f"{key}: {number} is too small; use 1 or more")
    if num_stages > num_layers:
        raise PlanError(
            f"stages: {num_stages} stages can't share {num_layers} layers; "
            f"use --stages {num_layers} or fewer, or more --layers"
        )
    if num_parts > num_nodes:
        raise PlanError(
            f"parts: {num_parts} parts of a graph of {num_nodes} nodes would leave some empty; "
            f"use --parts {num_nodes} or fewer"
        )
    most = num_nodes // num_parts
    if num_chunks is None:
        num_chunks = 1 if num_stages == 1 else min(DEFAULT_CHUNKS_PER_STAGE * num_stages, most)
    if not 1 <= num_chunks <= most:
        of_parts = f" in {num_parts} parts" if num_parts > 1 else ""
        raise PlanError(
            f"chunks: {num_chunks} does not fit a graph of {num_nodes} nodes{of_parts}; use 1 to {most}"
        )
    bounds = [stage * num_layers // num_stages for stage in range(num_stages + 1)]
    return Plan(num_stages, num_parts, num_chunks, tuple(pairwise(bounds)))
