"""Reading a graph folder: everything is checked, and nothing is copied."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from gnnpipe.errors import DataError, shown
from gnnpipe.files.npy import StoredArray, StoredRows, stored_rows
from gnnpipe.files.reading import read_yaml_text
from gnnpipe.files.typed_json import from_object
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.folder.form import ARRAYS, FORMAT, GRAPH, MASKS, GraphFile
from gnnpipe.graph.ids import NodeIds
from gnnpipe.graph.sources.raw import RawGraph

Arrays = dict[str, np.ndarray]
"""Mapped arrays by their names without ``.npy``."""
_INTO = {
    "rowptr": "col",
    "feature_rowptr": "feature_col",
    "ids_start": "ids",
    "class_names_start": "class_names",
}
# Arrays of starts, and the arrays that they lead into.


def is_graph_folder(path: Path) -> bool:
    """Whether a folder holds a graph.yaml."""
    return (path / GRAPH).is_file()


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
    _check_names(path, content)
    arrays = {}
    for name, known in content.arrays.items():
        with _told(path, name), stored_rows(path / f"{name}.npy", known) as rows:
            _check_content(name, rows, content)
            arrays[name] = rows.map()
    return _graph(path, content, arrays)


def read_graph_file(path: Path) -> GraphFile:
    """The content of a folder's graph.yaml; raises DataError."""
    if not path.is_dir():
        raise DataError(f"graph: '{shown(path)}' is no folder; make one with gnnpipe import")
    try:
        _, fields = read_yaml_text(path / GRAPH)
        written = fields.get("format")
        if isinstance(written, int) and written > FORMAT:
            raise DataError(
                f"graph: '{shown(path)}' has format {written}, written by {shown(fields.get('written_by'))}; "
                f"this version reads formats up to {FORMAT}: upgrade gnnpipe, or import the graph again"
            )
        return from_object(GraphFile, fields)
    except FileNotFoundError:
        raise DataError(
            f"graph: '{shown(path)}' holds no graph ({GRAPH} is absent); make one with gnnpipe import"
        ) from None
    except DataError:
        raise
    except (OSError, ValueError) as error:
        raise DataError(f"graph: {GRAPH} of '{shown(path)}' can't be used: {_reason(error)}") from None


def map_adjacency(folder: Path, stored: dict[str, StoredArray]) -> Csr:
    """The adjacency of a folder that is being written, mapped."""
    arrays: Arrays = {}
    for name in ("rowptr", "col", "weight", "count"):
        if name in stored:
            with stored_rows(folder / f"{name}.npy", stored[name]) as rows:
                arrays[name] = rows.map()
    return _adjacency(arrays)


def _check_names(path: Path, content: GraphFile) -> None:
    """Refuse unknown, unsuitable and absent arrays: no name leads out of the folder, no shape is absurd."""
    for name, known in content.arrays.items():
        if name not in ARRAYS:
            raise DataError(
                f"graph: {GRAPH} of '{shown(path)}' names the array '{shown(name)}', which no graph has"
            )
        types, dimensions = ARRAYS[name]
        if known.dtype not in types or len(known.shape) not in dimensions or min(known.shape) < 0:
            raise DataError(
                f"graph: {GRAPH} of '{shown(path)}' says that {name} is {shown(known.dtype)} "
                f"{shown(list(known.shape))}; expected {' or '.join(types)} of "
                f"{' or '.join(map(str, dimensions))} dimensions"
            )
    needed = {"rowptr", "col"}
    for group in (MASKS, ("feature_rowptr", "feature_col", "feature_value")):
        needed |= set(group) if not set(group).isdisjoint(content.arrays) else set()
    needed |= {into for start, into in _INTO.items() if start in content.arrays}
    absent = sorted(needed - set(content.arrays))
    if absent:
        raise DataError(f"graph: {GRAPH} of '{shown(path)}' has no {absent[0]}; import the graph again")
    for name, known in content.arrays.items():
        rows = _num_rows(name, content)
        if rows is not None and known.shape[0] != rows:
            raise DataError(
                f"graph: {GRAPH} of '{shown(path)}' says that {name} has {known.shape[0]:,} rows; "
                f"expected {rows:,}"
            )


def _num_rows(name: str, content: GraphFile) -> int | None:
    """Rows that an array must have; None where any number will do."""
    if name in ("rowptr", "feature_rowptr", "ids_start"):
        return content.num_nodes + 1
    if name in ("labels", "features", *MASKS) or (name == "ids" and "ids_start" not in content.arrays):
        return content.num_nodes
    if name in ("weight", "count"):
        return content.arrays["col"].shape[0]
    if name == "feature_value":
        return content.arrays["feature_col"].shape[0]
    return None


def _check_content(name: str, rows: StoredRows, content: GraphFile) -> None:
    """Refuse indices out of range and starts that fall; raises ValueError."""
    if name in _INTO:
        _check_starts(rows, content.arrays[_INTO[name]].shape[0])
    elif name == "col":
        _check_range(rows, 0, content.num_nodes)
    elif name == "feature_col":
        _check_range(rows, 0, max(1, 2**63 - 1))
    elif name in ("weight", "count"):
        for block in rows.blocks():
            if not np.isfinite(block).all():
                raise ValueError("a weight is not finite")


def _check_range(rows: StoredRows, low: int, high: int) -> None:
    for block in rows.blocks():
        if int(block.min()) < low or int(block.max()) >= high:
            bad = int(block.max()) if int(block.max()) >= high else int(block.min())
            raise ValueError(f"{bad} is out of range; expected {low} to {high - 1}")


def _check_starts(rows: StoredRows, end: int) -> None:
    last = 0
    for block in rows.blocks():
        if int(block[0]) < last or bool((block[1:] < block[:-1]).any()):
            raise ValueError("its starts fall; they must rise from 0")
        last = int(block[-1])
    if last != end:
        raise ValueError(f"its starts end at {last:,}; expected {end:,}")


def _graph(path: Path, content: GraphFile, arrays: Arrays) -> RawGraph:
    adjacency = _adjacency(arrays)
    masks = tuple(torch.from_numpy(np.array(arrays[name])) for name in MASKS if name in arrays)
    names = _texts(path, arrays)
    return RawGraph(
        adjacency,
        _features(content, arrays),
        arrays.get("labels"),
        (masks[0], masks[1], masks[2]) if masks else None,
        content.notes,
        weight=adjacency.value if "weight" in arrays else None,
        num_nodes=content.num_nodes,
        ids=NodeIds(arrays["ids"], arrays.get("ids_start")) if "ids" in arrays else None,
        class_names=names,
        name=content.name,
        task=content.task,
        num_classes=content.num_classes if content.task == "classes" else None,
    )


def _adjacency(arrays: Arrays) -> Csr:
    """The adjacency, as `Csr` has it: indices are int32 below 2^31 entries."""
    col, rowptr = arrays["col"], arrays["rowptr"]
    value = arrays.get("weight", arrays.get("count"))
    return Csr(
        torch.from_numpy(rowptr.astype(col.dtype)),
        _tensor(col),
        torch.ones(1).expand(len(col)) if value is None else _tensor(value),
        len(rowptr) - 1,
    )


def _features(content: GraphFile, arrays: Arrays) -> np.ndarray | sp.csr_matrix | None:
    if "feature_rowptr" not in arrays:
        return arrays.get("features")
    parts = (arrays["feature_value"], arrays["feature_col"], arrays["feature_rowptr"])
    facts = content.report.features
    return sp.csr_matrix(parts, shape=(content.num_nodes, facts.num_features if facts else 0))


def _texts(path: Path, arrays: Arrays) -> tuple[str, ...]:
    if "class_names_start" not in arrays:
        return ()
    names = NodeIds(arrays["class_names"], arrays["class_names_start"])
    with _told(path, "class_names"):
        return tuple(str(names[i]) for i in range(len(names)))


def _tensor(array: np.ndarray) -> Tensor:
    """A mapped array as a tensor. It is read-only, which tensors can't be: writing to it is a crash."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writ")
        return torch.from_numpy(array)


@contextmanager
def _told(path: Path, name: str) -> Iterator[None]:
    """Turn what is wrong with a file into a DataError that says where."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise DataError(
            f"graph: {name}.npy of '{shown(path)}' can't be used: {_reason(error)}; import the graph again"
        ) from None


def _reason(error: Exception) -> str:
    return shown(error.strerror or str(error)) if isinstance(error, OSError) else shown(str(error))
