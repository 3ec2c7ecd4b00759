"""The learning-rate schedule. Imports nothing heavy."""

from __future__ import annotations

import math

from gnnpipe.config.resolved import OptimizerSettings


def rate_factor(config: OptimizerSettings, epochs: int, epoch: int) -> float:
    """Factor on the learning rate in an epoch: a linear warm-up, then 1 or a cosine down to 0.

    Args:
        config: schedule and warm-up.
        epochs: of the whole run, over which the cosine is stretched.
        epoch: counted from 0.
    """
    if epoch < config.warmup:
        return (epoch + 1) / (config.warmup + 1)
    if config.schedule == "constant":
        return 1.0
    done = (epoch - config.warmup) / max(1, epochs - config.warmup)
    return 0.5 * (1.0 + math.cos(math.pi * min(done, 1.0)))
