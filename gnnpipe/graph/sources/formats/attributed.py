"""torch_geometric's AttributedGraphDataset (arXiv 2009.00826), whose class needs pandas and dense features.

attrs.npz       features, a matrix of scipy.sparse.save_npz
edgelist.txt    a source and a target on each line
labels.txt      a node and its classes on each line, counted from 1
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gnnpipe.errors import DataError, shown
from gnnpipe.files.mapped import map_arrays, table_blocks, text_blocks
from gnnpipe.files.spool import Spool
from gnnpipe.graph.convert import as_integers
from gnnpipe.graph.sources.formats.sparse import read_scipy
from gnnpipe.graph.sources.raw import RawGraph

# Largest label matrix, in entries.
_MOST_ENTRIES = 2**31


def read(folder: Path, scratch: Path) -> RawGraph:
    """The graph of a raw folder, as torch_geometric's class makes it of the files; features stay sparse.

    Raises:
        DataError, OSError, ValueError: a file can't be read, or does not fit the others.
    """
    with map_arrays(folder / "attrs.npz", scratch) as file:
        features = read_scipy(file, "attrs.npz").tocsr()
    edges = Spool(scratch / "edges", np.int64, 2)
    for block in table_blocks(folder / "edgelist.txt", delimiter=None):
        if block.shape[1] != 2:
            raise DataError(f"edgelist.txt: two columns are needed, and {block.shape[1]} are there")
        edges.append(as_integers(block, "edgelist.txt").numpy())
    labels = _labels(folder / "labels.txt")
    return RawGraph(edges.mapped().T, features, labels, None, num_nodes=features.shape[0])


def _labels(path: Path) -> np.ndarray:
    """int64 ``[num_nodes]`` classes; float32 ``[num_nodes, num_classes]`` where a node has several."""
    lines = [line.split()[1:] for text in text_blocks(path) for line in text.splitlines()]
    try:
        classes = np.array([int(word) for words in lines for word in words], dtype=np.int64) - 1
    except (ValueError, OverflowError) as error:
        raise DataError(f"labels.txt: {shown(str(error))}; whole numbers are needed") from None
    if len(classes) and classes.min() < 0:
        raise DataError("labels.txt: a class is below 1, and classes are counted from 1")
    counts = np.array([len(words) for words in lines], dtype=np.int64)
    if len(lines) and counts.min() == counts.max() == 1:
        return classes
    num_classes = int(classes.max(initial=-1)) + 1
    if len(lines) * num_classes > _MOST_ENTRIES:
        raise DataError(f"labels.txt: {num_classes:,} classes of {len(lines):,} nodes are too many")
    labels = np.zeros((len(lines), num_classes), dtype=np.float32)
    labels[np.repeat(np.arange(len(lines)), counts), classes] = 1.0
    return labels
