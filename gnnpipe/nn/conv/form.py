"""The two ways to call a convolution on a block of rows.

pair      conv((referenced rows, own rows), edge_index)             rows that are read twice: none
square    conv(cat[own rows, other rows], edge_index)[:n]           the block as a graph of its own
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from gnnpipe.nn.blocks.edges import BlockEdges
from gnnpipe.nn.conv.call import Call

Form = Literal["pair", "square"]
FORMS: tuple[Form, ...] = ("pair", "square")
"""In the order in which they are tried: a pair computes nothing for rows that nobody asked for."""


def on_block(
    form: Form, conv: nn.Module, call: Call, referenced: Tensor, own: Tensor, edges: BlockEdges
) -> Tensor:
    """Output rows ``[n, out_features]`` of a block.

    Args:
        form: how to call the convolution.
        conv: the convolution.
        call: arguments that it takes.
        referenced: rows ``[num_referenced, in_features]`` that edges come from.
        own: rows of the block, ``[n, in_features]``.
        edges: the edges into the block.
    """
    if form == "pair":
        size = (referenced.shape[0], own.shape[0])
        return call(conv, (referenced, own), edges.edge_index, edges, size)
    joint = edges.joint
    rows = torch.cat([own, referenced.index_select(0, joint.others)])
    return call(conv, rows, joint.edge_index, edges, (len(rows), len(rows)))[: own.shape[0]]
