"""Features for graphs that have none, from where their edges are."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from gnnpipe.graph.csr import Csr

Say = Callable[[str], None]


def made_features(adjacency: Csr, spec: str, say: Say = lambda line: None) -> Tensor:
    """float32 ``[num_nodes, num_features]`` features of a graph's structure."""
    del spec, say
    return adjacency.rowptr.diff().float().log1p().unsqueeze(1)
