"""Tables as people write them, and what is read from them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from gnnpipe.config.importing import TablesConfig
from gnnpipe.graph.sources.raw import RawGraph
from gnnpipe.graph.sources.tables import read_tables

_numbers = itertools.count()


@dataclass
class Written:
    """A folder of tables."""

    folder: Path
    said: list[str] = field(default_factory=list)

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def read(self, name: str = "", **settings: Any) -> RawGraph:
        """Read a file, or the whole folder."""
        scratch = self.folder / f".scratch-{next(_numbers)}"
        scratch.mkdir()
        source = self.folder / name if name else self.folder
        return read_tables(source, TablesConfig(**settings), scratch, self.said.append)


def pairs(raw: RawGraph) -> list[tuple[Any, Any]]:
    """The edges by the ids in the files."""
    assert isinstance(raw.edge_index, np.ndarray)
    name = (lambda node: node) if raw.ids is None else raw.ids.__getitem__
    return [(name(int(source)), name(int(target))) for source, target in raw.edge_index.T]


def dense(raw: RawGraph) -> list[list[float]]:
    """The features as lists."""
    features = raw.features
    assert features is not None
    array = features.toarray() if sp.issparse(features) else np.asarray(features)
    return [[float(value) for value in row] for row in array]


def labels(raw: RawGraph) -> list[Any]:
    assert raw.labels is not None
    return np.asarray(raw.labels).tolist()


def masks(raw: RawGraph) -> list[list[int]]:
    """The nodes of each mask."""
    assert raw.masks is not None
    return [mask.nonzero().flatten().tolist() for mask in raw.masks]
