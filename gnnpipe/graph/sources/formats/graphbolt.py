"""Raw folders of DGL's GraphBolt (``OnDiskDataset``): ``metadata.yaml`` names the files of one graph.

graph:
  nodes: [{num: 1000}]
  edges: [{format: csv, path: edges.csv}]          csv without header, or numpy [2, num_edges]
  feature_data: [{domain: edge, name: weight, format: numpy, path: weight.npy}]
feature_data: [{domain: node, name: feat, format: numpy, in_memory: false, path: feat.npy}]
tasks:
  - name: node_classification
    num_classes: 7
    train_set: [{data: [{name: seeds, format: numpy, path: train.npy}, {name: labels, ...}]}]
    validation_set, test_set: the same
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from torch import Tensor

from gnnpipe.errors import DataError, shown
from gnnpipe.files.foreign import read_tensors
from gnnpipe.files.mapped import map_array, table_blocks
from gnnpipe.files.reading import Content, read_yaml_text
from gnnpipe.files.spool import Spool
from gnnpipe.graph.convert import as_ids, without_single_column
from gnnpipe.graph.sources.formats.named import (
    EDGE_FEATURES,
    EDGE_TYPES,
    FEATURES,
    LABELS,
    WEIGHTS,
    as_array,
    as_matrix,
    edges_of,
    labels_of,
    mask_of,
    weights_of,
)
from gnnpipe.graph.sources.raw import RawGraph
from gnnpipe.graph.splits import Masks
from gnnpipe.system.steps import Say

LOOKS_FOR = "a folder with metadata.yaml of GraphBolt"
_SETS = ("train_set", "validation_set", "test_set")
_SEEDS = {"seeds", "seed_nodes"}
_HETERO = (
    "several kinds of nodes or edges, and one of each is needed; make the graph homogeneous first: "
    "g = dgl.to_homogeneous(dgl_graph); np.save('edge_index.npy', torch.stack(g.edges()).numpy())"
)


@dataclass
class _Folder:
    """Files of a data set, entries of features that are used, and names of what is not read."""

    path: Path
    scratch: Path
    unused: list[str] = field(default_factory=list)
    used: list[Content] = field(default_factory=list)

    def array(self, entry: Content, what: str) -> np.ndarray:
        """The array that an entry of the metadata names; raises DataError."""
        path = self.file(entry, what)
        kind = entry.get("format")
        try:
            if kind == "numpy":
                return map_array(path)
            if kind == "torch":
                return as_array(read_tensors(path), what)
            if kind == "csv":
                return self._table(path)
        except (OSError, ValueError) as error:
            reason = shown(str(error))
            raise DataError(f"metadata.yaml: {what}: '{path.name}' can't be read ({reason})") from None
        raise DataError(f"metadata.yaml: {what}: format '{shown(kind)}' is not known; numpy, torch or csv is")

    def file(self, entry: Content, what: str) -> Path:
        """The file of an entry, which lies inside the folder."""
        name = entry.get("path")
        inside = isinstance(name, str) and name and not PurePosixPath(name).is_absolute()
        if not inside or ".." in PurePosixPath(str(name)).parts:
            raise DataError(f"metadata.yaml: {what}: '{shown(name)}' is no path of a file inside the folder")
        return self.path / str(name)

    def _table(self, path: Path) -> np.ndarray:
        blocks = table_blocks(path)
        first = next(blocks, np.empty((0, 2)))
        spool = Spool(
            self.scratch / f"table-{'-'.join(path.relative_to(self.path).parts)}", np.float64, first.shape[1]
        )
        spool.append(first)
        for block in blocks:
            spool.append(block)
        return spool.mapped()


def recognises(folder: Path) -> bool:
    """Whether a folder has the layout."""
    return (folder / "metadata.yaml").is_file()


def read(folder: Path, scratch: Path, say: Say) -> RawGraph:
    """The graph of a folder.

    Raises:
        DataError, OSError, ValueError: a file can't be read, does not fit the others, or there are several
            kinds of nodes or edges.
    """
    metadata = read_yaml_text(folder / "metadata.yaml", link=True)[1]
    files = _Folder(folder, scratch)
    graph = _mapping(metadata.get("graph"), "graph")
    say(f"{shown(folder.name)}: GraphBolt's folder '{shown(metadata.get('dataset_name', folder.name), 60)}'")
    edge_index = _edges(files, graph)
    owners = (graph, metadata)  # DGL puts what a sampler needs to the graph
    features = _feature(files, owners, "node", FEATURES)
    weight = _feature(files, owners, "edge", WEIGHTS)
    edge_attr = as_matrix(_feature(files, owners, "edge", (*EDGE_FEATURES, *FEATURES)), "features of edges")
    edge_type = _feature(files, owners, "edge", (*EDGE_TYPES, "etype"))
    num_nodes = _num_nodes(_one(graph.get("nodes"), "graph.nodes"))
    labels: Tensor | np.ndarray | None
    labels, masks = _task(files, metadata, num_nodes)
    if labels is None:
        labels = labels_of(_feature(files, owners, "node", LABELS), "labels")[0]
    _name_the_rest(files, owners)
    unused = shown(", ".join(dict.fromkeys(files.unused)), 400)
    return RawGraph(
        edge_index,
        as_matrix(features, "features"),
        labels,
        masks,
        (f"metadata.yaml: not used: {unused}",) if files.unused else (),
        weights_of(weight, "graph"),
        num_nodes,
        edge_attr=edge_attr,
        edge_type=edge_type,
    )


def _edges(files: _Folder, graph: Content) -> np.ndarray:
    entry = _one(graph.get("edges"), "graph.edges")
    kinds = str(entry.get("type") or "").split(":")  # source:relation:target
    if kinds[0] != kinds[-1]:
        raise DataError(f"metadata.yaml: graph.edges: {_HETERO}")
    edges = files.array(entry, "graph.edges")
    return edges_of(edges, "graph.edges", one_a_row=entry.get("format") == "csv")


def _num_nodes(entry: Content) -> int:
    number = entry.get("num")
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise DataError(f"metadata.yaml: graph.nodes: num: '{shown(number)}' is no number of nodes")
    return number


def _feature(
    files: _Folder, owners: tuple[Content, ...], domain: str, names: tuple[str, ...]
) -> np.ndarray | None:
    """The first feature of nodes or edges with one of some names."""
    for name in names:
        for entry in _entries(owners):
            if entry.get("domain") == domain and entry.get("name") == name:
                files.used.append(entry)
                return files.array(entry, f"feature_data: {name}")
    return None


def _entries(owners: tuple[Content, ...]) -> list[Content]:
    return [entry for owner in owners for entry in _list(owner.get("feature_data"), "feature_data")]


def _task(files: _Folder, metadata: Content, num_nodes: int) -> tuple[Tensor | None, Masks | None]:
    """Labels and masks of the first task with labels of nodes; other tasks are named as not used."""
    labels, masks = None, None
    for task in _list(metadata.get("tasks"), "tasks"):
        name = shown(task.get("name", "task"), 60)
        sets = [_columns(task.get(part), f"{name}.{part}") for part in _SETS]
        if labels is not None or not all(_SEEDS & {*columns} for columns in sets) or "labels" not in sets[0]:
            files.unused.append(f"task {name}")
            continue
        seeds = [files.array(next(columns[s] for s in columns if s in _SEEDS), name) for columns in sets]
        if any(nodes.ndim != 1 for nodes in map(without_single_column, seeds)):
            files.unused.append(f"task {name}")
            continue
        train, val, test = (
            mask_of(without_single_column(nodes), f"{name}: {part}", num_nodes)
            for nodes, part in zip(seeds, _SETS, strict=True)
        )
        labels, masks = _labels(files, sets, seeds, name, num_nodes), (train, val, test)
    return labels, masks


def _labels(
    files: _Folder, sets: list[dict[str, Content]], seeds: list[np.ndarray], name: str, num_nodes: int
) -> Tensor:
    """float64 ``[num_nodes]`` or ``[num_nodes, num_labels]``; NaN for nodes that no set gives a label."""
    labels: Tensor | None = None
    for columns, nodes in zip(sets, seeds, strict=True):
        if "labels" not in columns:  # hidden labels of the test set
            continue
        given = without_single_column(files.array(columns["labels"], f"{name}: labels"))
        known = torch.from_numpy(given.astype(np.float64))
        if labels is None:
            labels = torch.full((num_nodes, *known.shape[1:]), torch.nan, dtype=torch.float64)
        if known.shape[1:] != labels.shape[1:] or len(known) != len(nodes):
            raise DataError(f"{name}: {len(known)} labels for {len(nodes)} seeds, or of another shape")
        labels[as_ids(without_single_column(nodes), f"{name}: seeds", num_nodes)] = known
    if labels is None:
        raise DataError(f"metadata.yaml: {name}: no set has labels")
    return labels


def _columns(value: object, what: str) -> dict[str, Content]:
    """Entries of a set by the name of their column."""
    entry = {} if value is None else _one(value, what)
    return {str(column.get("name")): column for column in _list(entry.get("data"), what)}


def _name_the_rest(files: _Folder, owners: tuple[Content, ...]) -> None:
    for entry in _entries(owners):
        if not any(entry is one for one in files.used):
            files.unused.append(f"{shown(entry.get('domain'), 20)} feature {shown(entry.get('name'), 60)}")


def _one(value: object, what: str) -> Content:
    """The only entry of a list; raises DataError where there are several kinds of nodes or edges."""
    entries = _list(value, what)
    if len(entries) != 1:
        why = f": {_HETERO}" if entries else f" is absent; {LOOKS_FOR} is needed"
        raise DataError(f"metadata.yaml: {what}{why}")
    return entries[0]


def _list(value: object, what: str) -> list[Content]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise DataError(f"metadata.yaml: {what}: a list of entries is needed, not '{shown(value, 80)}'")
    return value


def _mapping(value: object, what: str) -> Content:
    if not isinstance(value, dict):
        raise DataError(
            f"metadata.yaml: {what}: '{shown(value, 80)}' names no files; give the raw folder, not the one "
            "that is preprocessed"
        )
    return value
