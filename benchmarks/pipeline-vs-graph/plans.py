"""The plans that are compared, and the models and depths."""

from __future__ import annotations

from dataclasses import dataclass

from gnnpipe.config.run import HaloMode, SyntheticConfig

MODELS = ("gcn", "sage", "gcnii", "resgcn")
DEPTHS = (8, 16, 32, 64)
RANKS = (2, 4)
SHARES = (0.3, 0.5, 0.7)
"""Shares of its epoch that graph parallelism is to spend communicating; the links' rates follow from them."""
CALIBRATED_ON = ("gcnii", 32)

HIDDEN = 64
# cut into 8 parts, other parts need a row 1.0 times on average, as with Coauthor Physics (0.99)
GRAPH = SyntheticConfig(num_nodes=16_384, avg_degree=16, homophily=0.925)


@dataclass(frozen=True)
class Contender:
    """One of the plans that are compared."""

    name: str
    stages: int
    parts: int
    chunks: int
    halo: HaloMode = "exact"


def contenders(ranks: int) -> list[Contender]:
    """Plans of ``ranks`` ranks; four chunks a stage, as eight cost more than they save on a small graph."""
    result = [
        Contender("pipeline", ranks, 1, 4 * ranks),
        Contender("graph", 1, ranks, 1),
        Contender("graph-stale", 1, ranks, 1, "stale"),
    ]
    if ranks % 2 == 0 and ranks > 2:
        result.append(Contender("hybrid", ranks // 2, 2, 4 * ranks // 2))
    return result
