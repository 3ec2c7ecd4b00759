"""Checks that need neither a graph nor PyTorch, which takes seconds to import.

The run itself makes the same checks later; these only report a mistake sooner.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from gnnpipe.checkpoint.names import weights_file
from gnnpipe.config.checks import check_graph_folder
from gnnpipe.config.code.place import is_code
from gnnpipe.config.resolved import Resolved
from gnnpipe.config.synthetic import check_synthetic
from gnnpipe.errors import ConfigError, shown
from gnnpipe.planner.hardware import load_hardware
from gnnpipe.records.taking import check_may_take
from gnnpipe.run.callbacks.named import check_installed
from gnnpipe.schedule.plan import check_shape, make_plan


def check_early(config: Resolved) -> None:
    """Refuse a folder that is taken, unknown hardware, and a plan that can't be.

    Args:
        config: resolved by `check_config`.

    Raises:
        UserError: as the run itself would.
    """
    if "RANK" in os.environ:  # under torchrun rank 0 reports mistakes, once for all ranks
        return
    check_installed(config.log)
    if config.out and not config.resume:
        with suppress(OSError):  # reported when the folder is made
            check_may_take(Path(config.out), overwrite=config.overwrite)
    check_plan(config)
    if config.warm_start and not config.resume and not weights_file(config.warm_start).exists():
        raise ConfigError(
            f"warm-start: '{shown(str(weights_file(config.warm_start)))}' is absent; name the folder of a "
            "run that has weights, or a safetensors file"
        )


def check_plan(config: Resolved) -> None:
    """Refuse a graph folder without a graph, and a plan that fits no graph, or does not fit the built-in one;
    raises UserError."""
    check_graph_folder(config)
    if config.hardware:
        load_hardware(config.hardware)
    if config.is_synthetic:
        check_synthetic(config.synthetic)
    if config.plan == "auto":
        return
    if is_code(config.model):  # its layers are counted by running it
        return
    check_shape(config.stages, config.parts, config.layers)
    is_exact = config.staleness.preset == "exact"
    looks_exactly = config.staleness.lookahead == "exact"
    if config.is_synthetic:
        chunks = 1 if is_exact or looks_exactly or config.chunks is None else config.chunks
        make_plan(config.stages, config.parts, chunks, config.layers, config.synthetic.num_nodes)
