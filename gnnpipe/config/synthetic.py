"""Checks of the built-in graph's fields. Imports nothing heavy, so that mistakes are reported at once."""

from __future__ import annotations

from gnnpipe.config.run import SyntheticConfig
from gnnpipe.errors import ConfigError

OF_BLOCKS = ("blocks_per_class", "homophily", "reach")
"""Fields that roads don't have."""
# A network of streets has cycles, and its edges are those of a grid, which has less than two a node.
ROAD_DEGREES = (2.1, 3.6)
LEAST_ROAD_NODES = 100


def check_synthetic(config: SyntheticConfig) -> None:
    """Raise ConfigError for a field that no graph can have."""
    is_roads = config.kind == "roads"
    bounds: dict[str, tuple[float, float]] = {
        "num_nodes": (LEAST_ROAD_NODES if is_roads else 5, 10**9),
        "avg_degree": ROAD_DEGREES if is_roads else (0, config.num_nodes - 1),
        "num_classes": (2, min(config.num_nodes, 10**6)),
        "num_features": (1, 10**6),
        "blocks_per_class": (1, config.num_nodes),
        "homophily": (0, 1),
        "reach": (0, config.num_nodes),
        "noise": (0, 10**6),
        "seed": (0, 2**62),
    }
    for key, (least, most) in bounds.items():
        value = getattr(config, key)
        if value is not None and not least <= value <= most:
            raise ConfigError(f"synthetic.{key}: {value} is out of range; use {least:g} to {most:g}")
    if is_roads:
        _check_roads(config)
        return
    blocks = config.num_classes * config.blocks_per_class
    if config.reach and blocks > config.num_nodes:
        raise ConfigError(
            f"synthetic.reach: {config.reach} needs a node in each of the {blocks} blocks, but there are "
            f"{config.num_nodes}; use fewer --synthetic.blocks_per_class, or --synthetic.reach 0"
        )


def _check_roads(config: SyntheticConfig) -> None:
    default = SyntheticConfig()
    for key in OF_BLOCKS:
        value = getattr(config, key)
        if value != getattr(default, key):
            raise ConfigError(
                f"synthetic.{key}: {value} belongs to --synthetic.kind blocks, and the kind is roads; leave "
                "it out, or ask for blocks"
            )
