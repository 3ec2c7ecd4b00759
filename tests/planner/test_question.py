"""The sizes that plans are made from are those of the prepared graph."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gnnpipe.config.commands import PlanConfig
from gnnpipe.config.run import Model
from gnnpipe.graph.cut.chunks import CutSpec
from gnnpipe.graph.data import Graph
from gnnpipe.graph.prepare.prepared import prepare
from gnnpipe.planner.question import question_of
from tests.engine.test_exact import MODELS
from tests.graphs import random_graph, weighted_graph


def graphs() -> list[Graph]:
    edges = torch.randint(40, (2, 200), generator=torch.Generator().manual_seed(0))
    back, no_loop = edges.flip(0), edges[0] != edges[1]
    weight = torch.rand(200, generator=torch.Generator().manual_seed(1))
    weight[::7] = 0.0
    both = torch.cat([edges, back[:, no_loop].flip(1)], dim=1)
    return [
        random_graph(40, 200),
        random_graph(40, 200, undirected=True),
        weighted_graph(edges, weight, 40),
        weighted_graph(both, torch.cat([weight, weight[no_loop].flip(0)]), 40),
    ]


@pytest.mark.parametrize("model", MODELS)
def test_sizes_are_those_of_the_prepared_graph(model: Model) -> None:
    """With loops, parallel edges and weights of 0."""
    for data in graphs():
        question = question_of(PlanConfig(model=model, devices=2), replace(data, name="x"))
        graph = prepare(data, CutSpec(2, 1, 16.0), question.spec.normalization)
        assert question.size.num_edges == graph.matrix.num_entries
        assert question.num_matrices == (1 if graph.matrix_t is graph.matrix else 2)
        halo = question.cuts[2].halo
        assert halo.forward == sum(graph.facts.halo_forward)
        assert halo.backward == sum(graph.facts.halo_backward)
