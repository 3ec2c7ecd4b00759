"""All-reduce of weight gradients, bucket by bucket, while earlier layers still run backward.

backward        layer 7    layer 6    layer 5    layer 4
all-reduce                            [ 7, 6, 5 ]           a bucket leaves when its first layer is done
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from gnnpipe.comm.groups import Links
from gnnpipe.schedule.volume import bucket_bytes, buckets

WEIGHTS = "weights"
AWAITED = "the gradients of weights that other ranks hold too"


@dataclass(frozen=True)
class _Sum:
    """A bucket under way."""

    parameters: list[nn.Parameter]
    """Weights of its layers."""
    flat: Tensor
    """Their gradients, one behind the other; zeros fill it up to its size."""
    work: dist.Work
    """The all-reduce."""


class WeightSums:
    """Sums gradients of weights over the ranks that hold them, bucket by bucket.

    Gradients become complete in backward order; a bucket holds consecutive layers with enough numbers for an
    all-reduce to be worth its latency.

    Args:
        layers: weights of each layer of the stage, in forward order.
        num_ranks: number of ranks that hold the weights; with 1 nothing is sent.
        group: process group of those ranks.
        links: the count of bytes.
    """

    def __init__(
        self,
        layers: Sequence[list[nn.Parameter]],
        num_ranks: int,
        group: dist.ProcessGroup | None,
        links: Links,
    ) -> None:
        self._num_ranks, self._group, self._links = num_ranks, group, links
        sizes = [sum(weight.numel() for weight in weights) for weights in layers]
        # by the layer that completes the bucket
        self._buckets = {
            bucket[-1]: [weight for layer in bucket for weight in layers[layer]] for bucket in buckets(sizes)
        }
        self._under_way: list[_Sum] = []

    def complete(self, layer: int) -> None:
        """Note that a layer's gradients are complete on this rank; send its bucket off if that fills it."""
        parameters = self._buckets.get(layer)
        if self._num_ranks == 1 or not parameters:
            return
        numbers = sum(weight.numel() for weight in parameters)
        flat = torch.zeros(
            bucket_bytes(numbers, self._num_ranks) // parameters[0].element_size(),
            device=parameters[0].device,
        )
        for part, weight in zip(_split(flat, parameters), parameters, strict=True):
            if weight.grad is not None:
                part.copy_(weight.grad)
        # a ring all-reduce sends the buffer twice, less each rank's own share
        self._links.bytes_sent[WEIGHTS] += 2 * (self._num_ranks - 1) * flat.nbytes // self._num_ranks
        work = dist.all_reduce(flat, group=self._group, async_op=True)
        assert work is not None
        if self._links.carrier.in_step:
            work.wait()
            self._links.carrier.pace(flat)
        self._under_way.append(_Sum(parameters, flat, work))

    def finish(self) -> None:
        """Wait for all sums and replace the gradients by them."""
        for bucket in self._under_way:
            with self._links.waiting.on(AWAITED):
                bucket.work.wait()
            self._links.waiting.later(AWAITED, bucket.flat.device)
            for part, weight in zip(_split(bucket.flat, bucket.parameters), bucket.parameters, strict=True):
                if weight.grad is None:
                    weight.grad = part.clone()
                else:
                    weight.grad.copy_(part)
        self._under_way = []


def sum_small(tensors: Sequence[Tensor], links: Links) -> None:
    """Sum tensors of one shape over the parts of a stage, in place.

    They hold a few numbers each; their bytes are not counted.
    """
    if tensors:
        stacked = torch.stack([*tensors])
        dist.all_reduce(stacked, group=links.weights)
        links.carrier.pace(stacked)
        for tensor, total in zip(tensors, stacked, strict=True):
            tensor.copy_(total)


def _split(flat: Tensor, parameters: list[nn.Parameter]) -> list[Tensor]:
    """Views of a bucket's buffer in the shapes of its weights."""
    sizes = [weight.numel() for weight in parameters]
    parts = flat[: sum(sizes)].split(sizes)
    return [part.view_as(weight) for part, weight in zip(parts, parameters, strict=True)]
