"""Every accepted convolution in chunks: outputs and gradients of torch_geometric's on the whole graph."""

from __future__ import annotations

import copy
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from gnnpipe.nn.conv import Conv
from gnnpipe.nn.conv.sample import EdgeKinds
from tests.nn.conv.accepted import ACCEPTED, EDGE_DIM, NUM_TYPES, ROWS
from tests.nn.conv.graphs import NUM_NODES, in_chunks, plain_graph, results

KINDS = EdgeKinds(EDGE_DIM, NUM_TYPES)
cuts_of = st.lists(st.integers(1, NUM_NODES - 1), max_size=5, unique=True).map(sorted)


@pytest.mark.parametrize("name", ACCEPTED)
def test_form(name: str) -> None:
    torch.manual_seed(0)
    accepted = ACCEPTED[name]
    layer = Conv(accepted.make(), edges=accepted.edges, in_features=ROWS)
    assert layer.settle(KINDS) == accepted.form


@given(name=st.sampled_from(sorted(ACCEPTED)), seed=st.integers(0, 10_000), cuts=cuts_of)
@settings(max_examples=150, deadline=None)
def test_any_cut_equals_the_whole_graph(name: str, seed: int, cuts: list[int]) -> None:
    accepted = ACCEPTED[name]
    torch.manual_seed(seed)
    plain = accepted.make().double()
    layer = Conv(copy.deepcopy(plain), edges=accepted.edges, in_features=ROWS)
    layer.form = accepted.form
    graph = plain_graph(seed, EDGE_DIM, NUM_TYPES, accepted.edges)
    x = torch.randn(NUM_NODES, ROWS, dtype=torch.float64)
    ours = results(layer, lambda rows: in_chunks(layer, rows, graph.edges, cuts), x)
    theirs = results(plain, lambda rows: graph.run(plain, rows), x)
    torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-7)


@given(
    seed=st.integers(0, 10_000),
    cuts=cuts_of,
    skip=st.sampled_from([False, True, "identity", "linear"]),
    normed=st.booleans(),
    acts=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_what_is_around_it(
    seed: int, cuts: list[int], skip: bool | Literal["identity", "linear"], normed: bool, acts: bool
) -> None:
    """``act(norm(conv(x) + skip(x)))``, written down with the weights of the layer."""
    torch.manual_seed(seed)
    name = "CG" if skip == "identity" else "GAT" if seed % 2 else "Graph"
    layer = Conv(
        ACCEPTED[name].make(), norm="layer" if normed else None, act=F.relu if acts else None, skip=skip
    ).double()
    assert layer.relu == acts
    layer.settle(KINDS)
    graph = plain_graph(seed, EDGE_DIM, NUM_TYPES)

    def whole(x: Tensor) -> Tensor:
        out = graph.run(layer.conv, x)
        if skip:
            out = out + (x @ layer.skip.weight.T if isinstance(layer.skip, nn.Linear) else x)
        if isinstance(layer.norm, nn.LayerNorm):
            centred = out - out.mean(dim=1, keepdim=True)
            out = centred / (centred.square().mean(dim=1, keepdim=True) + 1e-5).sqrt()
            out = out * layer.norm.weight + layer.norm.bias
        return torch.where(out > 0, out, 0.0) if acts else out

    x = torch.randn(NUM_NODES, ROWS, dtype=torch.float64)
    ours = results(layer, lambda rows: in_chunks(layer, rows, graph.edges, cuts), x)
    torch.testing.assert_close(ours, results(layer, whole, x))
