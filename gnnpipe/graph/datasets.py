"""Data sets by name, through torch_geometric's classes (and OGB's, where it is installed)."""

from __future__ import annotations

import functools
import hashlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from filelock import FileLock
from torch import Tensor

from gnnpipe.base.arrays import arrays
from gnnpipe.base.config import RunConfig
from gnnpipe.base.errors import DataError
from gnnpipe.base.foreign import check_written_inside, safely
from gnnpipe.base.reading import one_line, open_file
from gnnpipe.base.writing import open_lock
from gnnpipe.graph.catalog import Source, find_source, is_synthetic
from gnnpipe.graph.data import GraphData
from gnnpipe.graph.splits import Masks, per_class_split, random_split
from gnnpipe.graph.synthetic import planted_partition


@dataclass(frozen=True)
class RawGraph:
    """What a file holds, before it is checked; masks are ``[num_nodes]`` or ``[num_nodes, num_splits]``."""

    edge_index: Tensor
    features: Tensor | sp.csr_matrix
    labels: Tensor
    masks: Masks | None


def load_dataset(config: RunConfig) -> GraphData:
    """Load ``config.dataset`` and check it.

    Raises:
        DataError: unknown name, files that are absent and can't be downloaded, a split that does not
            exist, or contents that `GraphData` refuses.
    """
    if is_synthetic(config.dataset):
        data = planted_partition(config.synthetic, split=config.split)
    else:
        source = find_source(config.dataset)
        read = {"pyg": _read_pyg, "npz": _read_npz, "ogb": _read_ogb}[source.reader]
        root = config.root or str(Path("data") / source.class_name)
        try:
            with _alone(root), safely():
                raw = read(source, root)
        except DataError:
            raise
        except Exception as error:  # whatever a class makes of files that are not what it expects
            raise DataError(
                f"root: can't read {source.name} from '{root}' ({type(error).__name__}: "
                f"{one_line(str(error))}); give the folder that the torch_geometric class is given, "
                "or delete its files and load them anew"
            ) from error
        data = GraphData.from_edge_index(
            raw.edge_index,
            raw.features,
            raw.labels,
            _choose_masks(raw, config),
            name=source.name,
            undirected=config.undirected,
        )
    return data.with_normalized_features() if config.normalize_features else data


def _alone(root: str) -> FileLock:
    """Keeps other runs of this host from downloading or processing the same files meanwhile, of which they
    would read half. It stands in the temporary folder, as the data may be read-only."""
    user = os.getuid() if hasattr(os, "getuid") else "everyone"
    name = hashlib.sha256(str(Path(root).resolve()).encode()).hexdigest()[:16]
    path = Path(tempfile.gettempdir()) / f"gnnpipe-{user}-{name}.lock"
    os.close(open_lock(path, own=True))  # anybody could have put a link there
    return FileLock(path)


def _choose_masks(raw: RawGraph, config: RunConfig) -> Masks:
    """Pick a split that the data set ships, or make a seeded one."""
    if raw.masks is None:
        if config.make_split == "per-class" and raw.labels.dim() == 1:
            return per_class_split(raw.labels, seed=config.split)
        return random_split(raw.features.shape[0], seed=config.split)
    num_splits = max(mask.shape[1] if mask.dim() == 2 else 1 for mask in raw.masks)
    if not 0 <= config.split < num_splits:
        raise DataError(
            f"split: {config.split} does not exist; {config.dataset} ships {num_splits} "
            f"(use 0 to {num_splits - 1})"
        )
    train, val, test = (
        (mask[:, config.split] if mask.dim() == 2 else mask).bool().contiguous() for mask in raw.masks
    )
    return train, val, test


def _open(source: Source, root: str, *, process: bool) -> Any:
    """Make an instance of the torch_geometric class, whose files are then in place.

    With ``process=False`` only the raw files are seen to.
    """
    import torch_geometric.datasets

    cls = getattr(torch_geometric.datasets, source.class_name)
    changes: dict[str, Any] = {
        "download": functools.partialmethod(_download_or_explain, cls.download),
        "_download": functools.partialmethod(_inside, cls._download, "raw"),
        "_process": functools.partialmethod(_inside, cls._process, "processed"),
    }
    if not process:
        changes |= {"_process": lambda self: None, "load": lambda self, path: None}
    return type(cls.__name__, (cls,), changes)(root, *source.arguments)


def _download_or_explain(dataset: Any, download: Callable[[Any], None]) -> None:
    """Download, or say which files belong where."""
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
    """Let a class make its raw or processed files, if need be, but nowhere else than below the root."""
    paths = [Path(path) for path in getattr(dataset, f"{kind}_paths")]
    for path in paths:
        if path.exists():
            open_file(path, link=True).close()  # a pipe would be waited for, and holes would be read
    if not all(path.exists() for path in paths):
        check_written_inside(Path(getattr(dataset, f"{kind}_dir")), Path(dataset.root))
    make(dataset)


def _read_pyg(source: Source, root: str) -> RawGraph:
    data = _open(source, root, process=True)[0]
    masks = (data.train_mask, data.val_mask, data.test_mask) if "train_mask" in data else None
    return RawGraph(data.edge_index, data.x, data.y, masks)


def _read_npz(source: Source, root: str) -> RawGraph:
    """Coauthor and Amazon: read the class's raw file without its dense copy of the features.

    (Coauthor Physics' features have 1.1 million non-zeros; dense they take 1.16 GB.)
    As in torch_geometric, features become 0 or 1, self loops go, and every edge gets its reverse.
    """
    with arrays(Path(_open(source, root, process=False).raw_paths[0])) as file:
        features = _csr_of(file, "attr")
        adjacency = _csr_of(file, "adj").tocoo()
        labels = torch.from_numpy(file["labels"].astype(np.int64))
    features.data[features.data > 0] = 1.0
    proper = adjacency.row != adjacency.col
    ends = np.stack([adjacency.row[proper], adjacency.col[proper]]).astype(np.int64)
    both = np.unique(np.concatenate([ends, ends[::-1]], axis=1), axis=1)
    return RawGraph(torch.from_numpy(both), features, labels, None)


def _csr_of(file: Any, name: str) -> sp.csr_matrix:
    data, indices, indptr, shape = (file[f"{name}_{part}"] for part in ("data", "indices", "indptr", "shape"))
    matrix = sp.csr_matrix((data.astype(np.float32), indices, indptr), shape)
    matrix.check_format(full_check=True)  # scipy takes for granted that indices lie inside
    return matrix


def _read_ogb(source: Source, root: str) -> RawGraph:
    name = source.name
    try:
        from ogb.nodeproppred import PygNodePropPredDataset
    except ImportError:
        raise DataError(f"dataset: {name} needs the ogb package; pip install 'gnnpipe[ogb]'") from None
    dataset = PygNodePropPredDataset(name, root)
    data, index = dataset[0], dataset.get_idx_split()
    masks = []
    for part in ("train", "valid", "test"):
        mask = torch.zeros(data.num_nodes, dtype=torch.bool)
        mask[index[part]] = True
        masks.append(mask)
    return RawGraph(data.edge_index, data.x, data.y, (masks[0], masks[1], masks[2]))
