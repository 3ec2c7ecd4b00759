"""Checks of a graph folder that somebody else may have made: nothing in it leads to a read beyond an array.

All raise ValueError, with what is wrong and what was expected.
"""

from __future__ import annotations

import codecs

import numpy as np

from gnnpipe.errors import shown
from gnnpipe.files.npy import StoredRows
from gnnpipe.graph.folder.edges import MOST_NODES
from gnnpipe.graph.folder.form import ARRAYS, GraphFile
from gnnpipe.graph.ids import NodeIds
from gnnpipe.graph.splits import MASKS

INTO = {
    "rowptr": "col",
    "feature_rowptr": "feature_col",
    "ids_start": "ids",
    "class_names_start": "class_names",
    "edge_type_names_start": "edge_type_names",
}
"""Arrays of starts, and the arrays that they lead into."""
TOGETHER = (
    ("rowptr", "col"),
    MASKS,
    ("feature_rowptr", "feature_col", "feature_value"),
    ("class_names", "class_names_start"),
    ("edge_type_names", "edge_type_names_start"),
)
"""Arrays that say nothing alone."""
MOST_CLASSES = 10**8  # as --num-classes has it
FINITE = ("weight", "count", "edge_attr")
"""Arrays of numbers that are neither NaN nor infinite."""
MOST_TYPES = 2**31
"""Types of edges are numbers below it."""
_ROWS = 1 << 18


def check_arrays(content: GraphFile) -> None:
    """Refuse unknown, unsuitable and absent arrays: no name leads out of the folder, no size is absurd."""
    if content.format < 1:
        raise ValueError(f"format {content.format} is none")
    for name, known in content.arrays.items():
        if name not in ARRAYS:
            raise ValueError(f"it names the array '{shown(name)}', which no graph has")
        types, dimensions = ARRAYS[name]
        if known.dtype not in types or len(known.shape) not in dimensions or min(known.shape) < 0:
            raise ValueError(
                f"{name} is {shown(known.dtype)} {shown(list(known.shape))}; expected {' or '.join(types)} "
                f"of {' or '.join(map(str, dimensions))} dimensions"
            )
    present = set(content.arrays)
    needed = {"rowptr"}.union(*(group for group in TOGETHER if not present.isdisjoint(group)))
    needed |= {into for start, into in INTO.items() if start in present}
    if absent := sorted(needed - present):
        raise ValueError(f"{absent[0]} is absent")
    if "ids" in present and (content.arrays["ids"].dtype == "|u1") != ("ids_start" in present):
        raise ValueError("ids are text, with ids_start, or numbers without")
    _check_sizes(content)


def num_columns(content: GraphFile) -> int:
    """Columns of the features, by graph.yaml."""
    facts = content.report.features
    return 0 if facts is None else facts.num_features


def check_content(name: str, rows: StoredRows, content: GraphFile) -> None:
    """Refuse indices out of range, starts that fall, and numbers that are none."""
    if name in INTO:
        _check_starts(rows, content.arrays[INTO[name]].shape[0])
    elif name in ("col", "feature_col"):
        _check_range(rows, content.num_nodes if name == "col" else num_columns(content))
    elif name in MASKS:
        if any(block.view(np.uint8).max() > 1 for block in rows.blocks()):
            raise ValueError("an entry is neither 0 nor 1")
    elif name == "edge_type":
        _check_range(rows, MOST_TYPES)
    elif name in FINITE and not all(np.isfinite(block).all() for block in rows.blocks()):
        raise ValueError("an entry is not finite")


def check_text(texts: NodeIds) -> None:
    """Refuse text that is no UTF-8, and starts inside a letter."""
    if texts.start is None:
        return
    decoder, size = codecs.getincrementaldecoder("utf-8")(), len(texts.content)
    for at in range(0, size, _ROWS):
        decoder.decode(texts.content[at : at + _ROWS].tobytes(), final=at + _ROWS >= size)
    for at in range(0, len(texts.start), _ROWS):
        start = texts.start[at : at + _ROWS]
        # a byte 10xxxxxx continues a letter
        if bool((texts.content[start[start < size]] & 0xC0 == 0x80).any()):
            raise ValueError("a text starts inside a letter")


def _check_sizes(content: GraphFile) -> None:
    for name, known in content.arrays.items():
        rows = _num_rows(name, content)
        if rows is not None and known.shape[0] != rows:
            raise ValueError(f"{name} has {known.shape[0]:,} rows; expected {rows:,}")
    columns = num_columns(content)
    dense = content.arrays.get("features")
    if dense is not None and dense.shape[1] != columns:
        raise ValueError(f"features have {dense.shape[1]:,} columns; expected {columns:,}")
    if not 0 <= columns <= MOST_NODES:
        raise ValueError(f"{columns:,} columns of features are out of range")
    if not 0 <= (content.num_classes or 0) <= MOST_CLASSES:
        raise ValueError(f"{content.num_classes:,} classes are out of range")


def _num_rows(name: str, content: GraphFile) -> int | None:
    """Rows that an array must have; None where any number will do."""
    if name in ("rowptr", "feature_rowptr", "ids_start"):
        return content.num_nodes + 1
    if name in ("labels", "features", *MASKS) or (name == "ids" and "ids_start" not in content.arrays):
        return content.num_nodes
    if name in ("weight", "count", "edge_attr", "edge_type"):
        return content.arrays["col"].shape[0]
    if name == "feature_value":
        return content.arrays["feature_col"].shape[0]
    return None


def _check_range(rows: StoredRows, end: int) -> None:
    for block in rows.blocks():
        low, high = int(block.min()), int(block.max())
        if low < 0 or high >= end:
            raise ValueError(f"{low if low < 0 else high} is out of range; expected 0 to {end - 1}")


def _check_starts(rows: StoredRows, end: int) -> None:
    last = None
    for block in rows.blocks():
        first = int(block[0])
        if (first != 0 if last is None else first < last) or bool((block[1:] < block[:-1]).any()):
            raise ValueError("its starts don't rise from 0")
        last = int(block[-1])
    if last != end:
        raise ValueError(f"its starts end at {last}; expected {end}")
