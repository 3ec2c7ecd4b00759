"""The built-in graph: a planted partition with noisy class features."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch

from gnnpipe.base.config import SyntheticConfig
from gnnpipe.base.errors import ConfigError
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.data import GraphData
from gnnpipe.graph.splits import random_split


def planted_partition(config: SyntheticConfig, split: int = 0) -> GraphData:
    """A seeded undirected graph whose classes are made of densely connected blocks.

    Every step is vectorised: a million nodes with ten million edges take seconds.

    Raises:
        ConfigError: a field that no graph can have.
    """
    _check(config)
    rng = np.random.default_rng(config.seed)
    num_blocks = config.num_classes * config.blocks_per_class
    block = rng.permutation(np.arange(config.num_nodes, dtype=np.int64) % num_blocks)
    labels = block % config.num_classes
    mean = rng.choice(np.array([-1.0, 1.0], dtype=np.float32), size=(config.num_classes, config.num_features))
    features = rng.standard_normal((config.num_nodes, config.num_features), dtype=np.float32)
    features *= np.float32(config.noise)
    features += mean[labels]
    target = torch.from_numpy(labels)
    return GraphData(
        "synthetic",
        _edges(config, block, num_blocks, rng),
        torch.from_numpy(features),
        target,
        config.num_classes,
        *random_split(config.num_nodes, seed=split),
    )


def _edges(config: SyntheticConfig, block: np.ndarray, num_blocks: int, rng: np.random.Generator) -> Csr:
    """Draw both ends of every edge: inside a block with probability ``homophily``, else anywhere."""
    num_edges = round(config.num_nodes * config.avg_degree / 2)
    source = rng.integers(config.num_nodes, size=num_edges)
    target = rng.integers(config.num_nodes, size=num_edges)
    inside = rng.random(num_edges) < config.homophily
    # members[first[b]:first[b] + size[b]] are the nodes of block b
    members = np.argsort(block, kind="stable")
    size = np.bincount(block, minlength=num_blocks)
    first = np.cumsum(size) - size
    home = block[source[inside]]
    target[inside] = members[first[home] + (rng.random(home.size) * size[home]).astype(np.int64)]
    proper = source != target
    source, target = source[proper], target[proper]
    ends = np.concatenate([target, source]), np.concatenate([source, target])
    shape = (config.num_nodes, config.num_nodes)
    matrix = sp.coo_matrix((np.ones(ends[0].size, dtype=np.float32), ends), shape=shape).tocsr()
    matrix.data[:] = 1.0
    return Csr.from_scipy(matrix)


def _check(config: SyntheticConfig) -> None:
    least = {"num_nodes": 5, "num_classes": 2, "num_features": 1, "blocks_per_class": 1}
    for key, minimum in least.items():
        if getattr(config, key) < minimum:
            raise ConfigError(f"synthetic.{key}: {getattr(config, key)} is too small; use {minimum} or more")
    if not 0 <= config.homophily <= 1:
        raise ConfigError(f"synthetic.homophily: {config.homophily} is not a fraction; use 0 to 1")
    if not 0 <= config.avg_degree < config.num_nodes:
        raise ConfigError(
            f"synthetic.avg_degree: {config.avg_degree} does not fit {config.num_nodes} nodes; "
            f"use 0 to {config.num_nodes - 1}"
        )
    if config.noise < 0:
        raise ConfigError(f"synthetic.noise: {config.noise} is negative; use 0 or more")
