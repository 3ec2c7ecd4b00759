"""Node data sets of the Open Graph Benchmark, from the raw files of its archives (arXiv 2005.00687).

    ogbn_arxiv/raw    edge.csv.gz  node-feat.csv.gz  node-label.csv.gz      or data.npz  node-label.npz
    ogbn_arxiv/split/time    train.csv.gz  valid.csv.gz  test.csv.gz

The ``.pt`` files that OGB's package leaves beside them are pickles, and are never opened here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gnnpipe.errors import DataError, shown
from gnnpipe.files.arrays import arrays, read_array, read_table
from gnnpipe.graph.convert import as_integers, as_tensor
from gnnpipe.graph.sources.raw import RawGraph
from gnnpipe.graph.sources.raw_files import mask_of

_ARCHIVES = "snap.stanford.edu/ogb/data/nodeproppred"
_ENDINGS = (".csv.gz", ".csv", ".npz", ".npy")


@dataclass(frozen=True)
class _Release:
    """Form in which OGB publishes a data set."""

    archive: str
    """Name of its zip file, and of the folder inside."""
    split: str
    """Name of the folder with the official split."""
    one_way: bool
    """Whether the CSV files list each undirected edge once only."""


_RELEASES = {
    "ogbn-arxiv": _Release("arxiv", "time", one_way=False),
    "ogbn-products": _Release("products", "sales_ranking", one_way=True),
    "ogbn-papers100M": _Release("papers100M-bin", "time", one_way=False),
}


def read_ogb(name: str, root: Path) -> RawGraph:
    """Read a data set by its name in OGB.

    Raises:
        DataError: files are absent or damaged; the message says where they were looked for.
    """
    release = _RELEASES[name]
    folder = _folder(name, release, root)
    raw = folder / "raw"
    packed = raw / "data.npz"
    edge_index, features, notes = _read_packed(packed) if packed.is_file() else _read_tables(raw)
    # add the other direction, which only the CSV files leave out
    if release.one_way and not packed.is_file():
        edge_index = torch.cat([edge_index, edge_index.flip(0)], dim=1)
    labels = as_tensor(_read(raw, "node-label"), "node-label")
    split = _split_folder(folder, release)
    train, val, test = (
        mask_of(_read(split, part), f"{split.name}/{part}", len(features))
        for part in ("train", "valid", "test")
    )
    return RawGraph(edge_index, features, labels, (train, val, test), tuple(notes))


def _folder(name: str, release: _Release, root: Path) -> Path:
    """The folder that holds ``raw``: OGB's own package renames what the archive unpacks to."""
    folders = [root / name.replace("-", "_"), root / release.archive, root / name, root]
    for folder in folders:
        if (folder / "raw").is_dir():
            return folder
    looked = ", ".join(f"'{shown(str(folder))}'" for folder in folders)
    raise DataError(
        f"root: {name} is not in {looked} (no folder raw); "
        f"download {_ARCHIVES}/{release.archive}.zip, unpack it, and give --root the folder it is in"
    )


def _split_folder(folder: Path, release: _Release) -> Path:
    """Folder of the official split, or the only folder of a split that is there."""
    official = folder / "split" / release.split
    if official.is_dir():
        return official
    splits = sorted(path for path in (folder / "split").glob("*") if path.is_dir())
    if len(splits) == 1:
        return splits[0]
    raise DataError(f"root: '{official}' is not there; it holds train.csv.gz, valid.csv.gz and test.csv.gz")


def _read_packed(path: Path) -> tuple[Tensor, Tensor, list[str]]:
    """Edges, features and notes from ``data.npz``, which holds all arrays of the graph."""
    with arrays(path) as file:
        if not {"edge_index", "node_feat"} <= set(file.files):
            raise DataError(
                f"{path.name}: it holds {shown(file.files)}, but edge_index and node_feat are needed"
            )
        edge_index = as_integers(file["edge_index"], "edge_index")
        features = as_tensor(file["node_feat"], "node_feat")
        sizes = [("num_nodes_list", len(features)), ("num_edges_list", edge_index.shape[-1])]
        for key, size in sizes:
            if key in file.files:
                _check_size(as_integers(file[key], key), size, f"{path.name}: {key}")
        known = {"edge_index", "node_feat", "num_nodes_list", "num_edges_list"}
        return edge_index, features, _unused(set(file.files) - known, path.name)


def _read_tables(raw: Path) -> tuple[Tensor, Tensor, list[str]]:
    """Edges, features and notes from one file a table; a row of the table ``edge`` is an edge."""
    edge_index = as_integers(_read(raw, "edge"), "edge")
    if edge_index.dim() != 2 or 2 not in edge_index.shape:
        raise DataError(f"edge: expected two columns, got shape {list(edge_index.shape)}")
    # CSV files have an edge a row, npy and npz files may have one a column
    edge_index = edge_index if edge_index.shape[1] != 2 else edge_index.T.contiguous()
    features = as_tensor(_read(raw, "node-feat"), "node-feat")
    for name, size in (("num-node-list", len(features)), ("num-edge-list", edge_index.shape[1])):
        if _find(raw, name):
            _check_size(as_integers(_read(raw, name), name), size, name)
    known = {"edge", "node-feat", "node-label", "num-node-list", "num-edge-list"}
    tables = {path.name.split(".")[0] for path in raw.iterdir() if path.name.endswith(_ENDINGS)}
    return edge_index, features, _unused(tables - known, "raw")


def _unused(names: set[str], where: str) -> list[str]:
    """A note that names what is not read."""
    return [f"{where}: not used: {', '.join(sorted(map(shown, names)))}"] if names else []


def _check_size(counts: Tensor, size: int, what: str) -> None:
    """Raise DataError unless a list of sizes, one for each graph, is just ``[size]``."""
    if counts.numel() != 1:
        raise DataError(f"{what}: it lists {counts.numel()} graphs, and one is needed")
    if int(counts) != size:
        raise DataError(
            f"{what}: it says {int(counts)}, but there are {size}; the files don't belong together"
        )


def _find(folder: Path, name: str) -> Path | None:
    return next((folder / f"{name}{end}" for end in _ENDINGS if (folder / f"{name}{end}").is_file()), None)


def _read(folder: Path, name: str) -> np.ndarray:
    """A table of numbers from the first of its forms that exists; a single column becomes a vector."""
    path = _find(folder, name)
    if path is None:
        forms = " or ".join(f"{name}{end}" for end in _ENDINGS)
        raise DataError(f"root: '{folder}' holds no {name}; expected {forms} there")
    try:
        if path.suffix == ".npy":
            table = read_array(path)
        elif path.suffix == ".npz":
            with arrays(path) as file:
                table = file[file.files[0]]
        else:
            table = read_table(path)
    except (ValueError, OSError, EOFError, IndexError) as error:
        raise DataError(f"root: '{path}' can't be read ({shown(str(error))}); download it anew") from None
    return table[:, 0] if table.ndim == 2 and table.shape[1] == 1 else table
