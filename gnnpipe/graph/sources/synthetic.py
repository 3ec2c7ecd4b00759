"""The built-in graph: a planted partition with noisy class features."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch

from gnnpipe.config.run import SyntheticConfig
from gnnpipe.config.synthetic import check_synthetic
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.data import Graph
from gnnpipe.graph.splits import random_split


def planted_partition(config: SyntheticConfig, split: int = 0) -> Graph:
    """A seeded undirected graph of densely connected blocks; each class has ``blocks_per_class`` of them.

    Features are the class's mean, a corner of a hypercube, plus Gaussian noise. Every step is vectorised: a
    million nodes with ten million edges take seconds.

    Raises:
        ConfigError: a field is out of range.
    """
    check_synthetic(config)
    rng = np.random.default_rng(config.seed)
    num_blocks = config.num_classes * config.blocks_per_class
    block = rng.permutation(np.arange(config.num_nodes, dtype=np.int64) % num_blocks)
    labels = block % config.num_classes
    mean = rng.choice(np.array([-1.0, 1.0], dtype=np.float32), size=(config.num_classes, config.num_features))
    features = rng.standard_normal((config.num_nodes, config.num_features), dtype=np.float32)
    features *= np.float32(config.deviation)
    features += mean[labels]
    target = torch.from_numpy(labels)
    return Graph(
        "synthetic",
        _edges(config, block, num_blocks, rng),
        torch.from_numpy(features),
        target,
        config.num_classes,
        *random_split(config.num_nodes, seed=split),
    )


def _edges(config: SyntheticConfig, block: np.ndarray, num_blocks: int, rng: np.random.Generator) -> Csr:
    """Draw both ends of every edge.

    The target lies in the source's block with probability ``homophily``; otherwise at most ``reach`` blocks
    away, or anywhere where ``reach`` is 0.
    """
    num_edges = round(config.num_nodes * config.degree / 2)  # undirected: each counts for both ends
    source = rng.integers(config.num_nodes, size=num_edges)
    target = rng.integers(config.num_nodes, size=num_edges)
    inside = rng.random(num_edges) < config.homophily
    # members[first[b]:first[b] + size[b]] are the nodes of block b
    members = np.argsort(block, kind="stable")
    size = np.bincount(block, minlength=num_blocks)
    first = np.cumsum(size) - size
    # targets that are drawn again, inside a block; without reach only those of edges inside one
    redrawn = inside if config.reach == 0 else np.ones_like(inside)
    target_block = block[source[redrawn]]
    if config.reach:
        step = rng.integers(-config.reach, config.reach + 1, size=num_edges)
        target_block = np.clip(target_block + np.where(inside, 0, step), 0, num_blocks - 1)
    position = (rng.random(target_block.size) * size[target_block]).astype(np.int64)
    target[redrawn] = members[first[target_block] + position]
    no_loop = source != target
    source, target = source[no_loop], target[no_loop]
    rows, cols = np.concatenate([target, source]), np.concatenate([source, target])
    shape = (config.num_nodes, config.num_nodes)
    matrix = sp.coo_matrix((np.ones(rows.size, dtype=np.float32), (rows, cols)), shape=shape).tocsr()
    matrix.data[:] = 1.0  # an edge that was drawn twice counts once
    return Csr.from_scipy(matrix)
