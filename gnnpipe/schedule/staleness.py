"""Rules about stale rows: the chunk order of each epoch, weights of gradients, epochs of snapshots."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from gnnpipe.config.resolved import Freeze
from gnnpipe.config.run import Gradient, Order


def chunk_orders(order: Order, num_chunks: int, seed: int) -> Iterator[list[int]]:
    """Yield the chunk order of epoch 0, 1, 2 ...; the same on every rank.

    shuffled draws a permutation each epoch. antithetic runs every other epoch in the reverse of the order
    before, so that each ordered pair of chunks is fresh exactly once in two epochs. fixed is 0, 1, 2 ...

        # antithetic   2 0 1 | 1 0 2 | 0 2 1 | 1 2 0 | ...
    """
    rng = random.Random(seed)
    current = list(range(num_chunks))
    epoch = 0
    while True:
        if order == "antithetic" and epoch % 2:
            current.reverse()
        elif order != "fixed":
            current = rng.sample(range(num_chunks), num_chunks)
        yield list(current)
        epoch += 1


@dataclass(frozen=True)
class GradientRule:
    """Weights of a chunk's row of the gradient table when another chunk pulls it.

    With d the row of this epoch and d_prev that of the last one:

        # computed this epoch   fresh * d - corrected * d_prev
        # not yet               historical * d_prev
        # in the own pull       d
    """

    fresh: float
    corrected: float
    historical: float


def gradient_rule(gradient: Gradient, weight: float, fresh: float = 0.5) -> GradientRule:
    """The three weights of a `gradient` setting.

    The row that a chunk reads of another is fresh with probability p.

        fresh       fresh rows count 1 / p, others 0: p (d / p) = d in the mean, unbiased
        reuse       fresh rows count 1, others w d_prev: biased unless d_prev = d / w
        corrected   fresh, and last epoch's row as a control variate, whose mean is 0:
                    p (d / p - w (1 / p - 1) d_prev) + (1 - p) w d_prev = d

    Args:
        gradient: the setting.
        weight: w, the weight of last epoch's rows.
        fresh: p, see `fresh_probability`.
    """
    return {
        "fresh": GradientRule(1 / fresh, 0.0, 0.0),
        "reuse": GradientRule(1.0, 0.0, weight),
        "corrected": GradientRule(1 / fresh, weight * (1 / fresh - 1), weight),
    }[gradient]


def fresh_probability(num_chunks: int, lookahead: int) -> float:
    """Share of ordered pairs of different chunks in which the reader finds the owner's row fresh.

    Those are the chunks in front of the reader in the order, and the next ``lookahead`` ones behind it; 1/2
    without lookahead.

        # 4 chunks, lookahead 1; rows are readers, columns owners, by position
        #    0 1 2 3
        # 0  . x
        # 1  x . x           6 pairs in front, 3 by looking ahead: 9 of 12
        # 2  x x . x
        # 3  x x x .
    """
    if num_chunks == 1:
        return 1.0
    reach = min(lookahead, num_chunks - 1)
    beyond = reach * num_chunks - reach * (reach + 1) / 2
    return 0.5 + beyond / (num_chunks * (num_chunks - 1))


def snapshot_due(freeze: Freeze, epoch: int) -> bool:
    """Whether a snapshot is taken as ``epoch`` begins.

    A pair (start, R) of ``freeze`` takes the first one at epoch start, or at 1 if that is 0, when there are
    no rows yet, and then one every R epochs.
    """
    start, epochs = next(setting for setting in reversed(freeze) if setting[0] <= epoch)
    return epoch > 0 and (epoch - max(start, 1)) % epochs == 0
