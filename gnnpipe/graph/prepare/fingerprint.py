"""Fingerprints: hashes of all that a graph holds, at the speed of memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path

import numpy as np
import torch
import xxhash
from torch import Tensor

from gnnpipe.config.catalog import GRAPH_FILE
from gnnpipe.config.run import GraphConfig
from gnnpipe.files.reading import CONFIG_BYTES, read_bytes
from gnnpipe.files.writing import tensor_bytes
from gnnpipe.graph.data import Graph

# Bytes that are hashed at once: an array that is mapped from disk is never in memory as a whole.
BLOCK_BYTES = 1 << 25
# Fields of a config that say where a graph is or what is measured on it, and nothing about its content.
NOT_CONTENT = ("graph", "root", "metric")


def fingerprint(graph: Graph) -> str:
    """128 bits of XXH3 in hexadecimal digits, over every field of a graph: arrays, their types and shapes,
    name, notes and all. It tells apart what differs by accident; it is no protection against forgery."""
    return _hashed(graph)


def task_fingerprint(graph: Graph) -> str:
    """The same over edges with all they have, labels and masks: what a run is trained and scored on, whatever
    it is called.

    Without features: those that are made (`gnnpipe.graph.made_features`) may differ in their last bits from
    machine to machine.
    """
    parts = (graph.adjacency, graph.labels, graph.train_mask, graph.val_mask, graph.test_mask)
    return _hashed((*parts, graph.edge_data) if graph.edge_data.exists else parts)


def array_fingerprint(array: Tensor) -> str:
    """The same for one array."""
    return _hashed(array)


def _hashed(value: object) -> str:
    digest = xxhash.xxh3_128()
    for piece in _pieces(value):
        digest.update(piece)
    return digest.hexdigest()


def known_fingerprint(config: GraphConfig, assumed_width: int | None = None) -> Callable[[], str] | None:
    """Computes the fingerprint of a config's graph without loading it; None where that can't be.

    The built-in graph is decided by its settings, and a graph folder by the checksums in its graph.yaml.

    Args:
        config: names the graph.
        assumed_width: as for `gnnpipe.graph.sources.datasets.load_dataset`.
    """
    settings = {field.name: getattr(config, field.name) for field in fields(GraphConfig)}
    settings |= {"synthetic": asdict(config.synthetic), "assumed_width": assumed_width}
    content = {key: value for key, value in settings.items() if key not in NOT_CONTENT}
    if config.is_synthetic:
        return lambda: _of_settings({**content, "assumed_width": None})
    if config.graph:
        folder, name = Path(config.graph), config.data_name  # the graph may be named for its folder
        return lambda: folder_fingerprint(folder, {**content, "name": name})
    return None


def folder_fingerprint(folder: Path, content: dict[str, object]) -> str:
    """Fingerprint of a graph folder, whose arrays are not read: graph.yaml holds their checksums.

    Args:
        folder: as ``gnnpipe import`` writes it.
        content: all that decides how a graph is made of it, such as its split; plain values.

    Raises:
        OSError: graph.yaml can't be read.
    """
    checksums = xxhash.xxh3_128(read_bytes(folder / GRAPH_FILE, CONFIG_BYTES, link=True)).hexdigest()
    return _of_settings({**content, "checksums": checksums})


def _of_settings(content: dict[str, object]) -> str:
    return xxhash.xxh3_128(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _pieces(value: object) -> Iterator[bytes | memoryview]:
    """A value as bytes. Each part tells its type and its length, so that no two values give the same."""
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(value)
    if isinstance(value, Tensor):
        yield f"{value.dtype}{list(value.shape)}".encode()
        yield from _blocks(value)
    elif is_dataclass(value) and not isinstance(value, type):
        yield type(value).__name__.encode()
        for field in fields(value):
            if field.compare:  # other fields are caches of what the compared ones say
                yield f".{field.name}".encode()
                yield from _pieces(getattr(value, field.name))
    elif isinstance(value, tuple):
        yield f"tuple[{len(value)}]".encode()
        for item in value:
            yield from _pieces(item)
    elif value is None or isinstance(value, str | int | float):
        yield f"{type(value).__name__}[{len(repr(value))}]{value!r}".encode()
    else:
        raise TypeError(f"a {type(value).__name__} has no fingerprint")


def _blocks(array: Tensor) -> Iterator[memoryview]:
    """The numbers of an array, some rows at a time; rows of stride 0 are written out."""
    if not array.numel():
        return
    if array.dim() == 0:
        array = array.view(1)
    row_bytes = max(1, array.nbytes // array.shape[0])
    for rows in array.split(max(1, BLOCK_BYTES // row_bytes)):
        yield tensor_bytes(rows)
