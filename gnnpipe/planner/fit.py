"""What measured layers make of the cost model's figures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import nnls

from gnnpipe.planner.hardware import REFERENCE, KindRates, Rates
from gnnpipe.planner.measure import Sample


def fit(samples: Sequence[Sample]) -> tuple[Rates, float]:
    """Non-negative least squares of relative errors: rates of all kinds together, and their mean error."""
    kinds = sorted({sample.kind for sample in samples})
    # for all: gather, multiply; of each kind: start and entry each way, and entries of one chunk each way
    per_kind = 6
    rows, seconds = [], []
    for sample in samples:
        entries = sample.rows * sample.width
        gathered, product = sample.edges * sample.width, sample.rows * sample.weights
        place = 2 + per_kind * kinds.index(sample.kind)
        whole = sample.num_chunks == 1
        for way, time in enumerate((sample.forward, sample.backward, sample.products)):
            row = np.zeros(2 + per_kind * len(kinds))
            row[1] = product
            if way < 2:
                row[0] = gathered
                row[place + 2 * way] = 1.0
                row[place + (4 + way if whole else 1 + 2 * way)] = entries
            rows.append(row)
            seconds.append(time)
    times = np.array(seconds)
    known = times > 0
    matrix = np.array(rows)[known] / times[known, None]
    scale = matrix.max(axis=0).clip(min=1e-300)
    found = nnls(matrix / scale, np.ones(len(matrix)))[0] / scale
    off = float(np.abs(matrix @ found - 1).mean())
    by_kind: dict[str, KindRates] = {}
    for n, kind in enumerate(kinds):
        by_kind[kind] = KindRates(*found[2 + per_kind * n : 2 + per_kind * (n + 1)].tolist())
    by_kind["dense"] = min(by_kind.values(), key=lambda kind: kind.start + kind.start_back)
    gather, multiply = found[:2].tolist()
    return Rates(gather, multiply, REFERENCE.sparse_entry, REFERENCE.epoch, REFERENCE.weight, by_kind), off


def contention(alone: Sequence[Sample], busy: Sequence[Sample]) -> float:
    """How many times as long the same work takes when all cores are busy: median over numbers of chunks of
    the ratio of medians."""
    ratios = []
    for chunks in sorted({item.num_chunks for item in alone} & {item.num_chunks for item in busy}):
        lone, crowded = (
            np.median([item.forward + item.backward for item in items if item.num_chunks == chunks])
            for items in (alone, busy)
        )
        ratios.append(crowded / lone)
    return float(np.median(ratios)) if ratios else 1.0


def crowding(busy: Sequence[Sample], crowded: Sequence[Sample], ranks_per_core: float) -> float:
    """How many times as long the same work takes, besides, when ranks take turns at all cores: what turns
    alone do not explain, and 1 at least."""
    return max(1.0, contention(busy, crowded) / ranks_per_core)
