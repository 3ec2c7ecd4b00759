"""Which reader is right for a file or folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from gnnpipe.config.importing import TablesConfig
from gnnpipe.files.arrays import arrays
from gnnpipe.graph.sources.raw import RawGraph

Say = Callable[[str], None]


def read_source(path: Path, config: TablesConfig, scratch: Path, say: Say) -> RawGraph:
    """The graph of an npz file with edge_index, x, y and perhaps edge_weight."""
    del config, scratch
    say(f"{path.name}: an npz file")
    if path.is_dir():
        load = lambda name: np.load(path / f"{name}.npy", mmap_mode="c")  # noqa
        return RawGraph(load("edge_index"), load("node_feat"), load("node_label"), None)
    with arrays(path) as file:
        parts = {name: file[name] for name in file.files}
    return RawGraph(
        parts["edge_index"], parts.get("x"), parts.get("y"), None, weight=parts.get("edge_weight")
    )
