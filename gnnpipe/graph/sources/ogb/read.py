"""Reading OGB's raw files.

    ogbn_arxiv/raw    edge.csv.gz  node-feat.csv.gz  node-label.csv.gz      or data.npz  node-label.npz
    ogbn_arxiv/split/time    train.csv.gz  valid.csv.gz  test.csv.gz
    ogbn_mag/raw      relations/paper___cites___paper/edge.csv.gz  node-feat/paper/node-feat.csv.gz
                      node-label/paper/node-label.csv.gz                    (split/time/paper/train.csv.gz)

The ``.pt`` files that OGB's package leaves beside them are pickles, and are never opened here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gnnpipe.errors import DataError, shown
from gnnpipe.files.mapped import map_arrays
from gnnpipe.files.spool import Spool, copied_rows
from gnnpipe.graph.convert import as_integers, without_single_column
from gnnpipe.graph.sources.formats.named import as_array, edges_of, largest_id, mask_of
from gnnpipe.graph.sources.ogb.download import download
from gnnpipe.graph.sources.ogb.releases import RELEASES, Release, release_of
from gnnpipe.graph.sources.ogb.tables import Tables, check_size, size_of
from gnnpipe.graph.sources.raw import RawGraph
from gnnpipe.graph.splits import Masks
from gnnpipe.system.steps import Say

LOOKS_FOR = "a folder of OGB: raw/edge.csv.gz with node-feat and node-label, raw/data.npz, or raw/relations"
PAPERS, CITES, YEARS = "paper", "paper___cites___paper", "node_year"
_PARTS = ("train", "valid", "test")
_SIZES = {"num-node-list", "num-edge-list"}
_NODE_TABLES = ("node-feat", "node-label", "num-node-list")
_BLOCK = 1 << 20


@dataclass(frozen=True)
class _Content:
    """Content of a raw folder."""

    edge_index: np.ndarray
    """``[2, num_edges]``."""
    features: np.ndarray | None
    labels: np.ndarray
    num_nodes: int
    years: np.ndarray | None
    """``[num_nodes]``: year of each node; None where the files don't say."""
    unused: set[str]
    """Names of tables or arrays that are not used, or only where a split is made from years."""
    where: str
    """File or folder that they are in."""
    notes: tuple[str, ...] = ()
    edge_attr: np.ndarray | None = None
    """``[num_edges, edge_dim]``; None where the files have none."""


def read_ogb(name: str, root: Path, scratch: Path) -> RawGraph:
    """Read a data set by its name in OGB; it is downloaded if it is absent.

    Raises:
        DataError: files are absent or damaged; the message says where they were looked for.
    """
    release = RELEASES[name]
    if _folder(release, root) is None:
        download(release, root)
    folder = _folder(release, root)
    return _graph(root if folder is None else folder, release, scratch)


def recognises(folder: Path) -> bool:
    """Whether a folder, or the folder raw in it, has OGB's layout."""
    raw = _raw(folder)
    tables = Tables(raw, raw)
    if (raw / "relations" / CITES).is_dir():
        return True
    if (raw / "data.npz").is_file() and tables.find("node-label"):
        return True
    return tables.find("edge") is not None and any(tables.find(name) for name in _NODE_TABLES)


def read(folder: Path, scratch: Path, say: Say) -> RawGraph:
    """The graph of a folder that has OGB's layout.

    Raises:
        DataError: a table is absent or can't be read, or does not fit the others.
    """
    release = release_of(folder)
    say(f"{shown(folder.name)}: OGB's raw files{', ' + release.name if release.name else ''}")
    return _graph(folder.parent if folder.name == "raw" else folder, release, scratch)


def _folder(release: Release, root: Path) -> Path | None:
    """The folder of a data set that holds ``raw``."""
    return next((folder for folder in release.folders(root) if (folder / "raw").is_dir()), None)


def _raw(folder: Path) -> Path:
    return folder / "raw" if (folder / "raw").is_dir() else folder


def _graph(folder: Path, release: Release, scratch: Path) -> RawGraph:
    raw = _raw(folder)
    if (raw / "data.npz").is_file():
        content, inside = _read_packed(raw, scratch), ""
    elif (raw / "relations").is_dir():
        content, inside = _read_papers(raw, scratch), PAPERS
    else:
        content, inside = _read_tables(raw, release, scratch), ""
    masks, notes = _split(folder, release, inside, content, scratch)
    unused = content.unused - ({YEARS} if masks is not None and notes else set())
    notes = (*content.notes, *_unused(unused, content.where), *notes)
    return RawGraph(
        content.edge_index, content.features, content.labels, masks, notes,
        num_nodes=content.num_nodes, edge_attr=content.edge_attr,
    )  # fmt: skip


def _read_packed(raw: Path, scratch: Path) -> _Content:
    """``data.npz``, which holds all arrays of the graph but the labels."""
    path = raw / "data.npz"
    try:
        with map_arrays(path, scratch) as file:
            if "edge_index" not in file or "node_feat" not in file:
                raise DataError(
                    f"{path.name}: it holds {shown(', '.join(file))}, but edge_index and node_feat are needed"
                )
            edge_index = edges_of(file["edge_index"], "edge_index")
            features = as_array(file["node_feat"], "node_feat")
            sizes = {"num_nodes_list": len(features), "num_edges_list": edge_index.shape[1]}
            for key, size in sizes.items():
                if key in file:
                    check_size(size_of(file[key], key), size, f"{path.name}: {key}")
            years, of_edges = file.get(YEARS), file.get("edge_feat")
            edge_attr = None if of_edges is None else _rows(as_array(of_edges, "edge_feat"))
            unused = set(file) - {"edge_index", "node_feat", "edge_feat", *sizes}
    except DataError:
        raise
    except (OSError, ValueError) as error:
        raise DataError(f"root: '{path}' can't be read ({shown(str(error))}); download it anew") from None
    labels = Tables(raw, scratch).read("node-label")
    return _Content(
        edge_index, features, labels, len(features), _years(years), unused, path.name, (), edge_attr
    )


def _read_tables(raw: Path, release: Release, scratch: Path) -> _Content:
    """One file a table; a row of the table ``edge`` is an edge."""
    tables = Tables(raw, scratch)
    one_way = tables.edges()
    labels = tables.read("node-label")
    known = {"edge", "node-feat", "edge-feat", "node-label", *_SIZES}
    notes: tuple[str, ...] = ()
    said = tables.size("num-node-list")
    edge_attr = None if tables.find("edge-feat") is None else _rows(tables.read("edge-feat", np.float32))
    if edge_attr is not None:
        check_size(len(edge_attr), one_way.shape[1], "edge-feat")
    if tables.find("node-feat") is None and edge_attr is not None:
        num_nodes = len(labels) if said is None else said
        features = _mean_of_edges(edge_attr, one_way, num_nodes, both_ways=release.one_way)
        notes = (
            f"features: nodes have none; each gets the mean of its edges' {features.shape[1]} features, as "
            "in OGB's own example",
        )
    else:
        features = _rows(tables.read("node-feat", np.float32))
        num_nodes = len(features)
    check_size(said, num_nodes, "num-node-list")
    check_size(tables.size("num-edge-list"), one_way.shape[1], "num-edge-list")
    years = tables.read(YEARS) if tables.find(YEARS) else None
    edges = one_way
    if release.one_way:
        edges = _twice(one_way.T, scratch / "edges-both-ways", turn=True).T
        if edge_attr is not None:
            edge_attr = _twice(edge_attr, scratch / "features-both-ways")
    unused = tables.names() - known
    return _Content(edges, features, labels, num_nodes, _years(years), unused, "raw", notes, edge_attr)


def _read_papers(raw: Path, scratch: Path) -> _Content:
    """ogbn-mag: of its four kinds of nodes the papers, which have the features and labels."""
    cites = Tables(raw / "relations" / CITES, scratch)
    nodes = Tables(raw / "node-feat" / PAPERS, scratch)
    features = _rows(nodes.read("node-feat", np.float32))
    labels = Tables(raw / "node-label" / PAPERS, scratch).read("node-label")
    edges = cites.edges()
    check_size(cites.size("num-edge-list"), edges.shape[1], "num-edge-list")
    years = nodes.read(YEARS) if nodes.find(YEARS) else None
    unused = (cites.names() | nodes.names()) - {"edge", "node-feat", *_SIZES}
    others = sorted(path.name for path in (raw / "relations").iterdir() if path.name != CITES)
    note = (
        f"{CITES} is read: papers and their citations; left out, as one kind of nodes and edges is trained: "
        f"{shown(', '.join(others), 400)}"
    )
    return _Content(
        edges, features, labels, len(features), _years(years), unused, "raw", (note,) if others else ()
    )


def _mean_of_edges(
    edge_attr: np.ndarray, edge_index: np.ndarray, num_nodes: int, *, both_ways: bool
) -> np.ndarray:
    """float32 ``[num_nodes, columns]``: mean of the features of each node's edges; 0 for nodes without."""
    if largest_id(edge_index) >= num_nodes:
        raise DataError(f"edge: node id {largest_id(edge_index)} is out of range for {num_nodes} nodes")
    total, count = np.zeros((num_nodes, edge_attr.shape[1])), np.zeros(num_nodes)
    for start, rows in copied_rows(edge_attr, _BLOCK // max(1, edge_attr.shape[1])):
        for end in (1, 0) if both_ways else (1,):
            nodes = edge_index[end, start : start + len(rows)]
            if len(nodes) and int(nodes.min()) < 0:
                raise DataError(f"edge: node id {int(nodes.min())} is out of range for {num_nodes} nodes")
            count += np.bincount(nodes, minlength=num_nodes)
            for column in range(rows.shape[1]):
                total[:, column] += np.bincount(nodes, rows[:, column], num_nodes)
    return (total / np.maximum(count, 1)[:, None]).astype(np.float32)


def _twice(rows: np.ndarray, path: Path, *, turn: bool = False) -> np.ndarray:
    """Every row and, behind it, the same of its reverse: OGB's own reader adds what the CSV files leave out.

    Args:
        rows: ``[num_edges, columns]``.
        path: file to make, which the result is mapped from.
        turn: whether to turn the second of each two around, as ends of edges are.
    """
    spool = Spool(path, rows.dtype, rows.shape[1])
    for _, block in copied_rows(rows, max(1, _BLOCK // rows.shape[1])):
        both = np.stack([block, block[:, ::-1] if turn else block], axis=1)
        spool.append(both.reshape(-1, rows.shape[1]))
    return spool.mapped()


def _split(
    folder: Path, release: Release, inside: str, content: _Content, scratch: Path
) -> tuple[Masks | None, tuple[str, ...]]:
    """The official split, or the only one that is there; made from the years where there is none."""
    official = folder / "split" / release.split
    splits = sorted(path for path in (folder / "split").glob("*") if path.is_dir())
    place = official if official.is_dir() and release.split else splits[0] if len(splits) == 1 else None
    if place is not None:
        tables = Tables(place / inside, scratch)
        train, val, test = (
            mask_of(tables.read(part), f"{place.name}/{part}", content.num_nodes) for part in _PARTS
        )
        return (train, val, test), ()
    if release.last_years is not None and content.years is not None:
        return _split_by_years(content, release.last_years)
    if release.split:
        raise DataError(
            f"root: '{official}' is not there; it holds train.csv.gz, valid.csv.gz and test.csv.gz"
        )
    return None, (f"{shown(folder.name)}: it holds no folder split, or several; none is used",)


def _split_by_years(content: _Content, last: tuple[int, int]) -> tuple[Masks, tuple[str, ...]]:
    """OGB's split by time, of the nodes that have a label."""
    years, labels = content.years, np.asarray(content.labels)
    if years is None or years.shape != (content.num_nodes,) or len(labels) != content.num_nodes:
        raise DataError(f"node_year: one year for each of {content.num_nodes} nodes is needed")
    numbers = as_integers(years, YEARS)
    known = torch.from_numpy(~np.isnan(labels) if labels.ndim == 1 else ~np.isnan(labels).any(axis=1))
    train, val = numbers <= last[0], (numbers > last[0]) & (numbers <= last[1])
    masks: tuple[Tensor, Tensor, Tensor] = (train & known, val & known, (numbers > last[1]) & known)
    note = (
        f"split: its files are not there; it is made from node_year, as OGB did: training to {last[0]}, "
        f"validation to {last[1]}, testing later"
    )
    return masks, (note,)


def _years(years: np.ndarray | None) -> np.ndarray | None:
    return None if years is None else without_single_column(years)


def _rows(table: np.ndarray) -> np.ndarray:
    return table[:, None] if table.ndim == 1 else table


def _unused(names: set[str], where: str) -> tuple[str, ...]:
    """A note that names what is not read."""
    return (f"{where}: not used: {', '.join(sorted(map(shown, names)))}",) if names else ()
