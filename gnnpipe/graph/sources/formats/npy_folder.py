"""Folders of npy files, mapped from disk: one's own, and the layouts of MAG240M and IGB.

    own      edge_index.npy  node_feat.npy  node_label.npy  train_idx.npy ...  (names as in `named`)
    MAG240M  processed/paper/node_feat.npy (float16), node_label.npy (NaN: none)
             processed/paper___cites___paper/edge_index.npy [2, num_edges]
    IGB      processed/paper/node_feat.npy, node_label_19.npy
             processed/paper__cites__paper/edge_index.npy [num_edges, 2]

Of several kinds of nodes the papers and their citations are read; the others are named in a note.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from gnnpipe.errors import DataError, shown
from gnnpipe.files.mapped import map_array
from gnnpipe.graph.sources.formats.named import edges_of, graph_of_names, has_edges
from gnnpipe.graph.sources.raw import RawGraph
from gnnpipe.system.steps import Say

LOOKS_FOR = "a folder with edge_index.npy (or edges.npy, row.npy and col.npy), node_feat.npy, node_label.npy"
_CITES = ("paper__cites__paper", "paper___cites___paper")
# The labels of IGB come with 19 and with 2,983 classes; the set of papers100M's authors has paper_*.
_ALIASES = {
    "node_label_19": "node_label", "node_label_2K": "node_label", "paper_feat": "node_feat",
    "paper_label": "node_label",
}  # fmt: skip


class NpyFiles(Mapping[str, np.ndarray]):
    """npy files by name, each mapped when it is asked for."""

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self._paths = dict(paths)

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)

    def __contains__(self, name: object) -> bool:
        """Whether there is a file; it is not opened for that."""
        return name in self._paths

    def __getitem__(self, name: str) -> np.ndarray:
        """Raises KeyError, and DataError for a file that can't be read."""
        path = self._paths[name]
        try:
            return map_array(path)
        except (OSError, ValueError) as error:
            raise DataError(f"{shown(path.name)}: it can't be read ({shown(str(error))})") from None


def recognises(folder: Path) -> bool:
    """Whether a folder holds edges in npy files."""
    return _papers(folder) is not None or has_edges(_files(folder))


def read(folder: Path, scratch: Path, say: Say) -> RawGraph:
    """The graph of a folder of npy files.

    Raises:
        DataError, OSError: a file can't be read, or does not fit the others.
    """
    papers = _papers(folder)
    if papers is None:
        files = _files(folder)
        say(f"{shown(folder.name)}: npy files ({shown(', '.join(sorted(files)))})")
        return graph_of_names(NpyFiles(files), shown(folder.name), _others(folder))
    return _read_papers(papers, papers.parent, say)


def read_lone(path: Path, scratch: Path, say: Say) -> RawGraph:
    """A graph that is one npy file of edges; raises DataError for an array of another shape."""
    say(f"{shown(path.name)}: edges, one npy file")
    edge_index = edges_of(map_array(path), shown(path.name))
    return graph_of_names({"edge_index": edge_index}, shown(path.name))


def _read_papers(paper: Path, processed: Path, say: Say) -> RawGraph:
    cites = next(processed / name for name in _CITES if (processed / name).is_dir())
    files = {"edge_index": cites / "edge_index.npy", **_files(paper)}
    say(f"{shown(processed.name)}: papers and their citations ({cites.name})")
    left = sorted(path.name for path in processed.iterdir() if path not in (paper, cites))
    note = f"other kinds of nodes and edges are left out: {shown(', '.join(left), 400)}"
    return graph_of_names(NpyFiles(files), cites.name, (note,) if left else ())


def _papers(folder: Path) -> Path | None:
    """The folder of the papers, if there is one of their citations beside it."""
    for processed in (folder / "processed", folder):
        if any((processed / name / "edge_index.npy").is_file() for name in _CITES):
            return processed / "paper"
    return None


def _files(folder: Path) -> dict[str, Path]:
    """npy files of a folder by the name of `named` that they stand for."""
    files = {path.stem: path for path in sorted(folder.glob("*.npy"))}
    for alias, name in _ALIASES.items():
        if alias in files and name not in files:  # the other file of that name is left to the note
            files[name] = files.pop(alias)
    return files


def _others(folder: Path) -> tuple[str, ...]:
    names = sorted(shown(path.name, 60) for path in folder.iterdir() if path.suffix != ".npy")
    return (f"{shown(folder.name)}: not used: {shown(', '.join(names), 400)}",) if names else ()
