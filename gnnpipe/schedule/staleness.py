"""Rules about stale rows: the chunk order of every epoch, what gradients weigh, when snapshots are due."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from gnnpipe.config.resolved import Freeze
from gnnpipe.config.run import Gradient, Order


def chunk_orders(order: Order, num_chunks: int, seed: int) -> Iterator[list[int]]:
    """Yield the chunk order of epoch 0, 1, 2 ...; the same on every rank.

    shuffled draws a permutation each epoch, antithetic runs every other one in reverse, so that each ordered
    pair of chunks is fresh exactly once in two epochs, and fixed is 0, 1, 2 ... each time.
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
    """What a chunk's row of ``D`` weighs when another chunk pulls it.

    A row d that this epoch already has counts ``fresh * d - corrected * d_prev``; a row that it does not
    have yet counts ``historical * d_prev``. A chunk's own rows count once.
    """

    fresh: float
    corrected: float
    historical: float


def gradient_rule(gradient: Gradient, weight: float, fresh: float = 0.5) -> GradientRule:
    """The three weights of a `gradient` setting.

    A pair of chunks is fresh with probability p. fresh divides fresh rows by p, which is right on average;
    corrected adds last epoch's row as a control variate of mean 0:
    p (d / p - w (1 / p - 1) d_prev) + (1 - p) w d_prev = d.

    Args:
        gradient: the setting.
        weight: w, of last epoch's rows.
        fresh: p, see `fresh_probability`.
    """
    return {
        "fresh": GradientRule(1 / fresh, 0.0, 0.0),
        "reuse": GradientRule(1.0, 0.0, weight),
        "corrected": GradientRule(1 / fresh, weight * (1 / fresh - 1), weight),
    }[gradient]


def fresh_probability(num_chunks: int, lookahead: int) -> float:
    """Share of ordered pairs of chunks in which the reader finds the other one's row fresh: those that are in
    front of it in the order, and ``lookahead`` behind it. 1/2 without lookahead."""
    if num_chunks == 1:
        return 1.0
    reach = min(lookahead, num_chunks - 1)
    beyond = reach * num_chunks - reach * (reach + 1) / 2
    return 0.5 + beyond / (num_chunks * (num_chunks - 1))


def snapshot_due(freeze: Freeze, epoch: int) -> bool:
    """Whether a snapshot is taken as ``epoch`` begins. Never at epoch 0, when there are no rows to take."""
    start, epochs = next(item for item in reversed(freeze) if item[0] <= epoch)
    return epoch > 0 and (epoch - max(start, 1)) % epochs == 0
