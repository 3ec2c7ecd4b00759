"""Five kinds of graph, made on the device in a second: symmetric, with self loops, normalised for GCN."""

from __future__ import annotations

import torch
from torch import Tensor

from gnnpipe.graph.csr import Csr

KINDS = ("planted", "shuffled", "reddit", "hubs", "mesh")


def make(kind: str, device: torch.device, scale: int = 1) -> Csr:
    """A graph's normalised adjacency.

    Args:
        kind: planted: 100,000 nodes, 2.1 M entries, numbered block by block as METIS would; shuffled: the
            same, numbered at random; reddit: Reddit's size, 232,965 nodes, 113 M entries; hubs: a power law
            of 1 M nodes, 21 M entries, the largest degree 251,222; mesh: 1 M nodes with 8 neighbours.
        device: device to make it on.
        scale: divides nodes and edges, for trials on a CPU.
    """
    if kind == "mesh":
        return _mesh(1024 if scale == 1 else 64, device)
    nodes, edges, block, inside, skew = {
        "planted": (100_000, 1_000_000, 1000, 0.6, 0.0),
        "shuffled": (100_000, 1_000_000, 1000, 0.6, 0.0),
        "reddit": (232_965, 58_500_000, 4096, 0.7, 0.5),
        "hubs": (1_000_000, 10_500_000, 4096, 0.3, 3.0),
    }[kind]
    if scale > 1:
        nodes, edges, block = nodes // scale, min(edges // scale, 40_000), 64
    return _blocks(nodes, edges, block, inside, skew, device, shuffled=kind == "shuffled")


def _blocks(
    nodes: int, edges: int, block: int, inside: float, skew: float, device: torch.device, *, shuffled: bool
) -> Csr:
    """Blocks of consecutive nodes with a share ``inside`` of the edges; a ``skew`` gives a power law."""
    generator = torch.Generator(device=device).manual_seed(0)

    def uniform() -> Tensor:
        return torch.rand(edges, generator=generator, device=device, dtype=torch.float64)

    def drawn() -> Tensor:
        end = (uniform().pow(1 + skew) * nodes).long().clamp_max_(nodes - 1)
        return spread[end] if skew else end

    spread = torch.randperm(nodes, generator=generator, device=device)
    source = drawn()
    near = (source // block * block + (uniform() * block).long()).clamp_max_(nodes - 1)
    target = torch.where(uniform() < inside, near, drawn())
    if shuffled:
        numbers = torch.randperm(nodes, generator=generator, device=device)
        source, target = numbers[source], numbers[target]
    return _normalised(source, target, nodes)


def _mesh(side: int, device: torch.device) -> Csr:
    """A grid, numbered in tiles of 32 x 32."""
    y, x = torch.meshgrid(torch.arange(side, device=device), torch.arange(side, device=device), indexing="ij")
    number = (y // 32 * (side // 32) + x // 32) * 1024 + y % 32 * 32 + x % 32
    sources, targets = [], []
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        left, width = max(0, -right), side - max(0, right)
        sources.append(number[: side - down, left:width].flatten())
        targets.append(number[down:, left + right : width + right].flatten())
    return _normalised(torch.cat(sources), torch.cat(targets), side * side)


def _normalised(source: Tensor, target: Tensor, nodes: int) -> Csr:
    loops = torch.arange(nodes, device=source.device)
    keys = torch.unique(torch.cat([source * nodes + target, target * nodes + source, loops * (nodes + 1)]))
    row, col = keys // nodes, keys % nodes
    degree = torch.bincount(row, minlength=nodes)
    rowptr = torch.zeros(nodes + 1, dtype=torch.int64, device=source.device)
    rowptr[1:] = degree.cumsum(0)
    scale = degree.double().rsqrt()
    return Csr(rowptr.int(), col.int(), (scale[row] * scale[col]).float(), nodes)
