"""What is done with each tile of a chunk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from gnnpipe.engine.chunks import Pull
from gnnpipe.nn.dropout import keep_all
from gnnpipe.nn.features import FeatureRows
from gnnpipe.nn.layer import Layer


def pull_tiles(
    pulls: Sequence[Pull],
    table: Tensor,
    use: Callable[[int, Tensor], None],
    wait: Callable[[], object],
) -> None:
    """Pull each tile's rows and use them.

    Everything that is at hand is pulled, and what needs nothing else is used, before the wait for the halo.
    """
    unfinished = []
    for number, pull in enumerate(pulls):
        product = pull.at_hand(table)
        if pull.later is None:
            use(number, product)
        else:
            unfinished.append((number, product, pull))
    wait()
    for number, product, pull in unfinished:
        use(number, pull.rest(table, product))


def nothing(count: int) -> Sequence[Tensor | None]:
    """For tiles that have none."""
    return [None] * count


@contextmanager
def floats(space: Tensor | None) -> Iterator[Tensor | None]:
    """Where float32 rows may be written that are to stand in ``space``, of whatever type that is."""
    if space is None or space.dtype == torch.float32:
        yield space
        return
    rows = torch.empty_like(space, dtype=torch.float32)
    yield rows
    space.copy_(rows)


def clean_messages(module: Layer, h: Sequence[FeatureRows]) -> Tensor:
    """The message without dropout."""
    found = [module.message(rows, keep_all)[0] for rows in h]
    return torch.cat([rows for rows in found if rows is not None])
