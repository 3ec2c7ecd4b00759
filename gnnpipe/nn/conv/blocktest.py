"""The self-test of a `BlockLayer` of a user's own: chunk by chunk it must give what one block gives."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gnnpipe.errors import ConfigError
from gnnpipe.graph.prepare.normalize import Normalization
from gnnpipe.nn.blocks.block import BlockLayer
from gnnpipe.nn.conv.call import Refused
from gnnpipe.nn.conv.probe import aside, quoted
from gnnpipe.nn.conv.sample import CHUNKS, NUM_NODES, EdgeKinds
from gnnpipe.nn.conv.selftest import Answer, Trial, answer_of, differ, random_rows, trials
from gnnpipe.nn.conv.still import still
from gnnpipe.nn.dropout import keep_all

Spans = Sequence[tuple[int, int]]
ONE_BLOCK: Spans = ((0, NUM_NODES),)


def check_block_layer(layer: BlockLayer, kinds: EdgeKinds, edges: Normalization) -> None:
    """Try a copy of a layer on small random graphs. One that draws random numbers is tried in evaluation.

    Args:
        layer: the layer, with weights.
        kinds: what edges of the graph have.
        edges: the adjacency that it is given.

    Raises:
        ConfigError: it fails, or its rows or gradients depend on how nodes are grouped.
    """
    try:
        with aside():
            _check(layer, kinds, edges)
    except Refused as error:
        raise ConfigError(f"{type(layer).__name__}: {error}") from error


def _check(layer: BlockLayer, kinds: EdgeKinds, edges: Normalization) -> None:
    tries = trials(kinds, edges)
    for trial in tries[-1:] if layer.draws else tries:
        dtype, expected = _whole(layer, trial)
        try:
            found = _run(layer, trial, CHUNKS, dtype)
        except Exception as error:
            raise Refused(f"it fails on a chunk: {quoted(error)}") from error
        if differ(found.out, expected.out, dtype):
            raise Refused(
                "its output rows depend on how nodes are grouped into chunks: a row may depend on its own "
                "row and on the edges into it alone"
            )
        pairs = zip(found.gradients, expected.gradients, strict=True)
        if any(differ(ours, theirs, dtype) for ours, theirs in pairs):
            raise Refused("its gradients depend on how nodes are grouped into chunks")
        if found.counted != expected.counted:
            raise Refused("its batch norm would count rows of neighbours once for each chunk that reads them")


def _whole(layer: BlockLayer, trial: Trial) -> tuple[torch.dtype, Answer]:
    """Answer on the whole graph, in float64 if the layer runs in that."""
    try:
        return torch.float64, _run(layer, trial, ONE_BLOCK, torch.float64)
    except Refused:
        raise
    except Exception:
        try:
            return torch.float32, _run(layer, trial, ONE_BLOCK, torch.float32)
        except Exception as error:
            raise Refused(f"it fails on a small graph: {quoted(error)}") from error


def _run(layer: BlockLayer, trial: Trial, spans: Spans, dtype: torch.dtype) -> Answer:
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(trial.seed)
        twin = still(layer, dtype, training=trial.training)
    h, edges = random_rows(layer.in_features, trial.seed, dtype), trial.graph.to(dtype).edges

    def run() -> Tensor:
        x = twin.prepare(h, keep_all)
        blocks = [edges.rows(*span).block for span in spans]
        outs = [
            twin.combine(x[block.referenced], x[block.start : block.start + block.num_targets], block)
            for block in blocks
        ]
        for out, block in zip(outs, blocks, strict=True):
            if out.shape != (block.num_targets, layer.out_features):
                raise ValueError(
                    f"combine made {list(out.shape)} rows of a block of {block.num_targets}, and "
                    f"out_features is {layer.out_features}"
                )
        return torch.cat(outs)

    return answer_of(twin, h, run)
