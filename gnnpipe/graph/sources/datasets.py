"""Data sets by name: raw files with readers of our own, or torch_geometric's classes.

reader    files come from             and are read by
pyg       torch_geometric's class     the class, too
npz       the class                   `npz.read_as_torch_geometric`: sparse features stay sparse
saint     the class                   `saint.read`
attributed  the class                 `attributed.read`: without pandas, features stay sparse
ogb       OGB, or the user            `ogb.read.read_ogb`
"""

from __future__ import annotations

import functools
import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from filelock import FileLock

from gnnpipe.config.catalog import IN_MEMORY, Source, find_source, is_synthetic
from gnnpipe.config.run import GraphConfig
from gnnpipe.errors import ConfigError, DataError, shown
from gnnpipe.files.foreign import check_written_inside, safely
from gnnpipe.files.reading import open_file
from gnnpipe.files.scratch import scratch_folder
from gnnpipe.files.writing import open_lock
from gnnpipe.graph.convert import as_labels, as_tensor, labelled
from gnnpipe.graph.data import Graph
from gnnpipe.graph.sources.formats import attributed, npz, saint
from gnnpipe.graph.sources.ogb.read import read_ogb
from gnnpipe.graph.sources.raw import RawGraph
from gnnpipe.graph.sources.synthetic import planted_partition
from gnnpipe.graph.splits import Masks, per_class_split, random_split

# Fewest labelled nodes for a seeded split: with fewer, one of the three masks may be empty.
LEAST_FOR_SPLIT = 5
# Masks of a torch_geometric Data.
_MASKS = ("train_mask", "val_mask", "test_mask")


def load_dataset(config: GraphConfig) -> Graph:
    """Load ``config.dataset`` and check it.

    Raises:
        DataError: unknown name, files that are absent and can't be downloaded, a split that does not
            exist, or contents that `Graph` refuses.
    """
    if is_synthetic(config.dataset):
        data = planted_partition(config.synthetic, split=config.split)
    else:
        source = find_source(config.dataset)
        read = _READERS[source.reader]
        root = config.root or str(Path("data") / source.class_name)
        try:
            with _alone(root), safely():
                raw = read(source, root)
        except DataError:
            raise
        except Exception as error:  # a class that meets unexpected files may fail in any way
            raise DataError(
                f"root: can't read {source.name} from '{shown(root)}' ({type(error).__name__}: "
                f"{shown(str(error))}); give the folder that the torch_geometric class is given, "
                "or delete its files and load them anew"
            ) from error
        data = _built(raw, config, source.name)
    return data.with_normalized_features() if config.normalize_features else data


def as_graph(data: Any, config: GraphConfig) -> Graph:
    """The graph that a program holds in memory, checked like a loaded one.

    Args:
        data: a ``torch_geometric.data.Data``; or a Graph, which keeps its edges and masks.
        config: split, normalisation of features, and whether to add reversed edges.

    Raises:
        DataError: ``data`` is another kind of object, or has contents that `Graph` refuses.
        ConfigError: reversed edges are wanted of a Graph.
    """
    import torch_geometric.data

    if isinstance(data, torch_geometric.data.Data):
        graph = _built(_raw(data, IN_MEMORY), config, IN_MEMORY)
    elif not isinstance(data, Graph):
        raise DataError(
            f"data: an object of type {type(data).__name__} can't be used; give a data set's name, a "
            "torch_geometric Data such as the first of a Dataset, dataset[0], or a Graph"
        )
    elif config.undirected:
        raise ConfigError(
            "undirected: the edges of a Graph are taken as they are; leave it out, or give undirected to "
            "Graph.from_edge_index"
        )
    else:
        graph = data
    return graph.with_normalized_features() if config.normalize_features else graph


def _built(raw: RawGraph, config: GraphConfig, name: str) -> Graph:
    """The checked graph of a data set's raw content."""
    features, labels = raw.features, raw.labels
    if features is None or labels is None:
        raise DataError(f"dataset: {name} has no {'features' if features is None else 'labels'}")
    notes = raw.notes
    if raw.weight is not None:
        notes = (*notes, npz.weights_note("adj_full.npz", np.asarray(raw.weight)))
    return Graph.from_edge_index(
        as_tensor(raw.edge_index, "edge_index"),
        features if sp.issparse(features) else as_tensor(features, "features"),
        as_tensor(labels, "labels"),
        _choose_masks(raw, config),
        name=name,
        undirected=config.undirected,
        notes=notes,
    )


def _alone(root: str) -> FileLock:
    """A lock that keeps other runs of this host from reading files while this one still makes them.

    It stands in the temporary folder, as the data's folder may be read-only.
    """
    user = os.getuid() if hasattr(os, "getuid") else "everyone"
    name = hashlib.sha256(str(Path(root).resolve()).encode()).hexdigest()[:16]
    path = Path(tempfile.gettempdir()) / f"gnnpipe-{user}-{name}.lock"
    os.close(open_lock(path, own=True))  # refuses a link that another user has put there
    return FileLock(path)


def _choose_masks(raw: RawGraph, config: GraphConfig) -> Masks:
    """The split number ``config.split`` of the data set; a seeded split where it ships none.

    Raises:
        DataError: it ships fewer splits, or too few nodes have labels for a seeded one.
    """
    if raw.masks is None:
        labels = as_labels(raw.labels)
        has_label = labelled(labels)
        if int(has_label.sum()) < LEAST_FOR_SPLIT:
            raise DataError(
                f"labels: {int(has_label.sum())} nodes have one, and {config.dataset} ships no split; "
                f"{LEAST_FOR_SPLIT} are needed to make one"
            )
        if config.make_split == "per-class" and labels.dim() == 1:
            return per_class_split(labels, seed=config.split)
        return random_split(len(labels), seed=config.split, among=has_label)
    # a mask [num_nodes] holds for every split, one of [num_nodes, num_splits] has a column for each
    num_splits = min((mask.shape[1] for mask in raw.masks if mask.dim() == 2), default=1)
    if not 0 <= config.split < num_splits:
        raise DataError(
            f"split: {config.split} does not exist; {config.dataset} ships {num_splits} "
            f"(use 0 to {num_splits - 1})"
        )
    train, val, test = (
        (mask[:, config.split] if mask.dim() == 2 else mask).contiguous() for mask in raw.masks
    )
    return train, val, test


def _open(source: Source, root: str, *, process: bool) -> Any:
    """Make an instance of the torch_geometric class, which downloads and processes its files if need be.

    Args:
        source: class and arguments.
        root: folder of the files.
        process: whether to process and load the files; otherwise only the raw ones are downloaded.
    """
    import torch_geometric.datasets

    cls = getattr(torch_geometric.datasets, source.class_name)
    # a subclass, as the class itself does all this in its constructor
    changes: dict[str, object] = {
        "download": functools.partialmethod(_download_or_explain, cls.download),
        "_download": functools.partialmethod(_inside, cls._download, "raw"),
        "_process": functools.partialmethod(_inside, cls._process, "processed"),
    }
    if not process:
        changes |= {"_process": lambda self: None, "load": lambda self, path: None}
    return type(cls.__name__, (cls,), changes)(root, *source.arguments)


def _download_or_explain(dataset: Any, download: Callable[[Any], None]) -> None:
    """Download, or raise a DataError that says which files belong where."""
    try:
        download(dataset)
    except Exception as error:  # each class downloads in its own way and fails in its own way
        names = dataset.raw_file_names
        files = ", ".join([names] if isinstance(names, str) else names)
        raise DataError(
            f"root: {dataset.__class__.__name__} finds no files in '{dataset.raw_dir}' and can't download "
            f"them ({type(error).__name__}); put there: {files}; or point --root at a folder that has them"
        ) from None


def _inside(dataset: Any, make: Callable[[Any], None], kind: str) -> None:
    """Let a class make its raw or processed files, if need be, but only below the root.

    Args:
        dataset: instance of the class.
        make: method of the class that makes the files.
        kind: ``raw`` or ``processed``.
    """
    paths = [Path(path) for path in getattr(dataset, f"{kind}_paths")]
    for path in paths:
        if path.exists():
            open_file(path, link=True).close()  # refuses pipes, which block, and files that are all holes
    if not all(path.exists() for path in paths):
        check_written_inside(Path(getattr(dataset, f"{kind}_dir")), Path(dataset.root))
    make(dataset)


def _read_pyg(source: Source, root: str) -> RawGraph:
    return _raw(_open(source, root, process=True)[0], source.name)


def _raw(data: Any, name: str) -> RawGraph:
    """The fields of a torch_geometric Data that training uses, and a note that names the others."""
    for key, words in (("x", "features"), ("y", "labels"), ("edge_index", "edges")):
        if key not in data:
            raise DataError(f"dataset: {name} has no {words} ({key}), which training needs")
    unused = sorted(set(data.keys()) - {"x", "y", "edge_index", *_MASKS})
    notes = (f"{name}: not used: {', '.join(unused)}",) if unused else ()
    return RawGraph(data.edge_index, data.x, data.y, _shipped_masks(data, name), notes)


def _shipped_masks(data: Any, name: str) -> Masks | None:
    """The three masks of a torch_geometric Data; None if it has none, DataError if it has some of them."""
    present = [mask for mask in _MASKS if mask in data]
    if not present:
        return None
    if len(present) < len(_MASKS):
        absent = next(mask for mask in _MASKS if mask not in present)
        raise DataError(f"dataset: {name} has {present[0]}, but no {absent}; all three are needed")
    train, val, test = (as_tensor(data[mask], mask) for mask in _MASKS)
    return train, val, test


def _read_npz(source: Source, root: str) -> RawGraph:
    path = Path(_open(source, root, process=False).raw_paths[0])
    with scratch_folder() as scratch:
        return npz.read_as_torch_geometric(path, scratch)


def _read_saint(source: Source, root: str) -> RawGraph:
    folder = Path(_open(source, root, process=False).raw_dir)
    with scratch_folder() as scratch:
        return saint.read(folder, scratch, _silently)


def _read_attributed(source: Source, root: str) -> RawGraph:
    folder = Path(_open(source, root, process=False).raw_dir)
    with scratch_folder() as scratch:
        return attributed.read(folder, scratch)


def _read_ogb(source: Source, root: str) -> RawGraph:
    with scratch_folder() as scratch:  # arrays that are mapped from there outlive the folder
        return read_ogb(source.name, Path(root), scratch)


_READERS = {
    "pyg": _read_pyg,
    "npz": _read_npz,
    "saint": _read_saint,
    "attributed": _read_attributed,
    "ogb": _read_ogb,
}


def _silently(line: str) -> None:
    """Say nothing: the user named the data set, and so its format."""
