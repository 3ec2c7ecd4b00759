"""Folders in GraphSAINT's layout (arXiv 1907.04931): Flickr, Reddit2, Yelp, AmazonProducts, and others' own.

adj_full.npz      sparse matrix with sources as rows; entries other than 1 are weights
feats.npy         float ``[num_nodes, num_features]``; may be absent
class_map.json    {"0": 3, ...} or {"0": [0, 1, 1], ...}
role.json         {"tr": [ids], "va": [ids], "te": [ids]}
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gnnpipe.errors import DataError, shown
from gnnpipe.files.arrays import check_memory
from gnnpipe.files.mapped import map_array, map_arrays
from gnnpipe.files.reading import read_json
from gnnpipe.graph.convert import as_ids
from gnnpipe.graph.sources.formats.named import as_matrix, mask_of, sparse_edges
from gnnpipe.graph.sources.formats.sparse import read_scipy
from gnnpipe.graph.sources.raw import RawGraph
from gnnpipe.system.steps import Say

LOOKS_FOR = "a folder with adj_full.npz, and class_map.json, role.json or feats.npy"
# A parsed JSON file takes about this many times its size: a list has 8 bytes for "0, ".
_PARSED = 6
_FILES = ("feats.npy", "class_map.json", "role.json")
_ROLES = (("tr", "train"), ("va", "val", "valid"), ("te", "test"))


def recognises(folder: Path) -> bool:
    """Whether a folder has the layout."""
    return (folder / "adj_full.npz").is_file() and any((folder / name).is_file() for name in _FILES)


def read(folder: Path, scratch: Path, say: Say) -> RawGraph:
    """The graph of a folder.

    Raises:
        DataError, OSError, ValueError: a file can't be read, or its content does not fit the others.
    """
    there = [name for name in ("adj_full.npz", *_FILES) if (folder / name).is_file()]
    say(f"{shown(folder.name)}: GraphSAINT's layout ({', '.join(there)})")
    with map_arrays(folder / "adj_full.npz", scratch) as file:
        matrix = read_scipy(file, "adj_full.npz")
    features = as_matrix(map_array(folder / "feats.npy"), "feats.npy") if "feats.npy" in there else None
    num_nodes = int(matrix.shape[0])
    if matrix.shape != (num_nodes, num_nodes) or (features is not None and len(features) != num_nodes):
        rows = "" if features is None else f", and feats.npy has {len(features):,} rows"
        raise DataError(
            f"adj_full.npz: it is {' x '.join(map(str, matrix.shape))}{rows}; a row and a column for each "
            "node are needed"
        )
    edge_index, weight = sparse_edges(matrix)
    labels = _class_map(_json(folder / "class_map.json"), num_nodes) if "class_map.json" in there else None
    masks = None
    if "role.json" in there:
        roles = _json(folder / "role.json")
        train, val, test = (_role(roles, names, num_nodes) for names in _ROLES)
        masks = train, val, test
    others = sorted(shown(path.name, 60) for path in folder.iterdir() if path.name not in there)
    notes = (f"{shown(folder.name)}: not used: {shown(', '.join(others), 400)}",) if others else ()
    return RawGraph(edge_index, features, labels, masks, notes, weight, num_nodes)


def _role(roles: Any, names: tuple[str, ...], num_nodes: int) -> Tensor:
    name = next((name for name in names if isinstance(roles, dict) and name in roles), None)
    if name is None:
        raise DataError(f"role.json: '{names[0]}' is missing; it lists the nodes of each of tr, va and te")
    return mask_of(roles[name], f"role.json: '{name}'", num_nodes)


def _class_map(classes: Any, num_nodes: int) -> Tensor:
    """float64 ``[num_nodes]`` classes or ``[num_nodes, num_labels]`` of 0 and 1; NaN where there is none."""
    if not isinstance(classes, dict):
        raise DataError("class_map.json: expected an object of classes by node")
    try:
        keys = torch.tensor([int(key) for key in classes], dtype=torch.int64)
    except (ValueError, RuntimeError, OverflowError):
        raise DataError("class_map.json: a key is no node id; number the nodes 0, 1, 2 and so on") from None
    nodes = as_ids(keys, "class_map.json", num_nodes)
    known = _label_values(list(classes.values()))
    labels = torch.full((num_nodes, *known.shape[1:]), torch.nan, dtype=torch.float64)
    labels[nodes] = known
    return labels


def _label_values(values: list[Any]) -> Tensor:
    """float64 from numbers, or from lists of numbers of equal length; raises DataError for anything else."""
    lists = [isinstance(value, list) for value in values]
    if any(lists) and not (all(lists) and len({len(value) for value in values}) == 1):
        raise DataError("class_map.json: give each node one class number, or each a list of equal length")
    try:
        return torch.tensor(values, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        odd = next(
            (value for value in values if not isinstance(value, int | float | list)),
            values[0] if values else None,
        )
        raise DataError(
            f"class_map.json: '{shown(odd)}' is neither a class number nor a list of 0 and 1"
        ) from None


def _json(path: Path) -> Any:
    """A JSON file of any size for which there is memory: AmazonProducts' class_map.json has 500 MB."""
    size = path.stat().st_size
    try:
        check_memory(_PARSED * size)
        return read_json(path, link=True, finite=False, most=size)
    except ValueError as error:
        raise DataError(f"{path.name}: it is no JSON that can be read ({shown(str(error))})") from None
