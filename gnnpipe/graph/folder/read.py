"""Reading a graph folder."""

from __future__ import annotations

from pathlib import Path

from gnnpipe.errors import DataError, shown
from gnnpipe.graph.sources.raw import RawGraph


def open_graph(path: Path) -> RawGraph:
    """The graph in a folder, with its arrays mapped into memory; raises DataError."""
    raise DataError(f"graph: '{shown(str(path))}' can't be read by this version")
