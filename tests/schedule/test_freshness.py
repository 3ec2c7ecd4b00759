"""How fresh the rows are that layers read."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnnpipe.schedule.freshness import Ages
from gnnpipe.schedule.staleness import chunk_orders, fresh_probability

NEWEST = ((0, 1),)


def all_pairs(num_chunks: int) -> np.ndarray:
    """One message between every two chunks, none inside them or across parts."""
    return np.stack(
        [1 - np.eye(num_chunks, dtype=np.int64), np.zeros((num_chunks, num_chunks), dtype=np.int64)]
    )


def test_one_chunk_is_always_fresh() -> None:
    ages = Ages(np.ones((2, 1, 1), dtype=np.int64), 3, NEWEST, 0, stale_halo=False)
    for epoch in range(3):
        assert [(layer.fresh, layer.age) for layer in ages.epoch(epoch, [0])] == [(1.0, 0.0)] * 3


def test_two_chunks_in_a_fixed_order() -> None:
    """Chunk 0 reads chunk 1 one epoch late; at the next layer what chunk 1 tells has been told by chunk 0 and
    so is as old."""
    ages = Ages(all_pairs(2), 3, NEWEST, 0, stale_halo=False)
    for epoch in range(5):
        found = ages.epoch(epoch, [0, 1])
    assert [layer.fresh for layer in found] == [0.5] * 3
    # layer 0: (1 + 0) / 2; layer 1: chunk 0 reads what is 1 + 0 old, chunk 1 what is 1; layer 2: 1 + 1 and 1
    assert [layer.age for layer in found] == [0.5, 1.0, 1.5]


def test_freeze_and_refresh() -> None:
    frozen = Ages(all_pairs(2), 1, ((0, 3),), 0, stale_halo=False)
    assert [frozen.epoch(epoch, [0, 1])[0].age * 2 for epoch in range(8)] == [1, 1, 2, 3, 1, 2, 3, 1]
    fresh = Ages(all_pairs(2), 1, NEWEST, 0, stale_halo=False)
    assert fresh.epoch(4, [0, 1], refreshed=True)[0].age == 0


def test_stale_halo_is_one_epoch_old() -> None:
    across = np.zeros((2, 1, 1), dtype=np.int64)
    across[:, 0, 0] = 3, 1
    ages = Ages(across, 1, NEWEST, 0, stale_halo=True)
    (found,) = ages.epoch(0, [0])
    assert (found.fresh, found.age) == (0.75, 0.25)


@given(st.integers(2, 9), st.integers(0, 9))
def test_share_of_fresh_messages_is_the_probability(num_chunks: int, lookahead: int) -> None:
    """Where every chunk tells every other one, any order has the same share."""
    ages = Ages(all_pairs(num_chunks), 1, NEWEST, lookahead, stale_halo=False)
    (found,) = ages.epoch(0, next(chunk_orders("shuffled", num_chunks, 1)))
    assert found.fresh == pytest.approx(fresh_probability(num_chunks, lookahead))
