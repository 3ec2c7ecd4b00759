"""Reading a graph folder: everything is checked, and nothing is copied."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import scipy.sparse as sp
import torch

from gnnpipe.config.catalog import GRAPH_FILE
from gnnpipe.errors import DataError, shown
from gnnpipe.files.npy import StoredArray, stored_rows
from gnnpipe.files.reading import read_yaml_text
from gnnpipe.files.typed_json import from_object
from gnnpipe.graph.convert import as_tensor
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.folder.check import check_arrays, check_content, check_text, num_columns
from gnnpipe.graph.folder.form import FORMAT, GraphFile
from gnnpipe.graph.ids import NodeIds
from gnnpipe.graph.sources.raw import RawGraph
from gnnpipe.graph.splits import MASKS

Arrays = dict[str, np.ndarray]
"""Mapped arrays by their names without ``.npy``."""


def open_graph(path: Path) -> RawGraph:
    """The graph of a folder. All files are read once, to be checked; their arrays are then mapped.

    Args:
        path: the folder.

    Returns:
        The graph. Its adjacency is ready, and its arrays must not be written to: they are the files.

    Raises:
        DataError: the folder holds no graph, one of a later version, or files that were changed or damaged.
    """
    content = read_graph_file(path)
    with _told(path, GRAPH_FILE):
        check_arrays(content)
    arrays = {}
    for name, known in content.arrays.items():
        with _told(path, f"{name}.npy"), stored_rows(path / f"{name}.npy", known) as rows:
            check_content(name, rows, content)
            arrays[name] = rows.map()
    return _graph(path, content, arrays)


def read_graph_file(path: Path) -> GraphFile:
    """The content of a folder's graph.yaml; raises DataError."""
    if not path.is_dir():
        raise DataError(f"graph: '{shown(path)}' is no folder; make one with gnnpipe import")
    try:
        _, fields = read_yaml_text(path / GRAPH_FILE)
        written = fields.get("format")
        if type(written) is int and written > FORMAT:
            raise DataError(
                f"graph: '{shown(path)}' has format {written}, written by {shown(fields.get('written_by'))}; "
                f"this version reads formats up to {FORMAT}: upgrade gnnpipe, or import the graph again"
            )
        return from_object(GraphFile, fields)
    except FileNotFoundError:
        raise DataError(
            f"graph: '{shown(path)}' holds no graph ({GRAPH_FILE} is absent); make one with gnnpipe import"
        ) from None
    except DataError:
        raise
    except (OSError, ValueError) as error:
        raise DataError(f"graph: {GRAPH_FILE} of '{shown(path)}' can't be used: {_reason(error)}") from None


def features_checksum(path: Path) -> str:
    """The checksums of a folder's features, as graph.yaml has them; empty if it has no features.

    Raises:
        DataError: graph.yaml can't be used.
    """
    arrays = read_graph_file(path).arrays
    return " ".join(arrays[name].xxh3 for name in sorted(arrays) if name.startswith("feature"))


def map_adjacency(folder: Path, stored: dict[str, StoredArray]) -> Csr:
    """The adjacency of a folder that is being written, mapped."""
    arrays: Arrays = {}
    for name in ("rowptr", "col", "weight", "count"):
        if name in stored:
            with stored_rows(folder / f"{name}.npy", stored[name]) as rows:
                arrays[name] = rows.map()
    return _adjacency(arrays)


def _graph(path: Path, content: GraphFile, arrays: Arrays) -> RawGraph:
    adjacency = _adjacency(arrays)
    masks = tuple(torch.from_numpy(np.array(arrays[name])) for name in MASKS if name in arrays)
    ids, classes, types = (_texts(path, name, arrays) for name in ("ids", "class_names", "edge_type_names"))
    return RawGraph(
        adjacency,
        _features(content, arrays),
        arrays.get("labels"),
        (masks[0], masks[1], masks[2]) if masks else None,
        content.notes,
        weight=adjacency.value if "weight" in arrays else None,
        num_nodes=content.num_nodes,
        ids=ids,
        class_names=_names(classes),
        name=content.name,
        task=content.task,
        num_classes=content.num_classes if content.task == "classes" else None,
        edge_attr=arrays.get("edge_attr"),
        edge_type=arrays.get("edge_type"),
        edge_type_names=_names(types),
    )


def _adjacency(arrays: Arrays) -> Csr:
    """The adjacency, as `Csr` has it: indices are int32 below 2^31 entries."""
    col, rowptr = arrays["col"], arrays["rowptr"]
    value = arrays.get("weight", arrays.get("count"))
    return Csr(
        torch.from_numpy(rowptr.astype(col.dtype)),
        as_tensor(col, "col"),
        torch.ones(1).expand(len(col)) if value is None else as_tensor(value, "weight"),
        len(rowptr) - 1,
    )


def _features(content: GraphFile, arrays: Arrays) -> np.ndarray | sp.csr_matrix | None:
    if "feature_rowptr" not in arrays:
        return arrays.get("features")
    parts = (arrays["feature_value"], arrays["feature_col"], arrays["feature_rowptr"])
    return sp.csr_matrix(parts, shape=(content.num_nodes, num_columns(content)))


def _texts(path: Path, name: str, arrays: Arrays) -> NodeIds | None:
    """Ids of nodes or names of classes; None without any."""
    if name not in arrays:
        return None
    texts = NodeIds(arrays[name], arrays.get(f"{name}_start"))
    with _told(path, f"{name}.npy"):
        check_text(texts)
    return texts


def _names(texts: NodeIds | None) -> tuple[str, ...]:
    return () if texts is None else tuple(str(texts[number]) for number in range(len(texts)))


@contextmanager
def _told(path: Path, name: str) -> Iterator[None]:
    """Turn what is wrong with the file ``name`` into a DataError that says where."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise DataError(
            f"graph: {name} of '{shown(path)}' can't be used: {_reason(error)}; import the graph again"
        ) from None


def _reason(error: Exception) -> str:
    return shown(error.strerror or str(error)) if isinstance(error, OSError) else shown(str(error))
