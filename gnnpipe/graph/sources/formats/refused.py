"""Formats that are not read: unpickling runs what a file says, and some need a library of their own.

Each refusal names two lines of Python that the user, who trusts the file, runs himself.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

from gnnpipe.errors import DataError, shown
from gnnpipe.files.arrays import open_unpacked
from gnnpipe.files.reading import open_file

_SAVE = "numpy.savez('graph.npz', edge_index=..., x=..., y=...)"
_NETWORKX = (
    "edges = numpy.array(list(networkx.convert_node_labels_to_integers(G).edges)).T; "
    "numpy.savez('graph.npz', edge_index=edges)"
)
_WAYS = {
    "pickle": (
        "a pickle, which would run whatever it says",
        f"g = pickle.load(open(FILE, 'rb')), if you trust it; {_SAVE}, or for networkx: {_NETWORKX}",
    ),
    "dgl": (
        "a file of dgl.save_graphs",
        "g = dgl.load_graphs(FILE)[0][0]; numpy.savez('graph.npz', edge_index=torch.stack(g.edges()), "
        "x=g.ndata['feat'], y=g.ndata['label'])",
    ),
    "hdf5": ("HDF5", f"f = h5py.File(FILE); {_SAVE} with f[NAME][:] for each"),
    "lmdb": ("LMDB", f"read its records with lmdb.open(FOLDER); {_SAVE}"),
    "matlab": ("MATLAB's", "m = scipy.io.loadmat(FILE); scipy.sparse.save_npz('adj.npz', m['A'].tocsr())"),
    "xml": ("XML (GraphML, GEXF)", f"G = networkx.read_graphml(FILE); {_NETWORKX}"),
    "json": ("JSON", f"G = networkx.node_link_graph(json.load(open(FILE))); {_NETWORKX}"),
    "sqlite": (
        "SQLite",
        "c = sqlite3.connect(FILE); pandas.read_sql('SELECT ...', c).to_csv('edges.csv', index=False)",
    ),
    "archive": ("an archive", "unpack it, and give the folder"),
}  # fmt: skip
_MAGIC = (
    (b"\x28\xa1\xb4\xf6\xf0\x60\x2e\xdd", "dgl"),
    (b"\x89HDF", "hdf5"),
    (b"MATLAB 5.0", "matlab"),
    (b"<?xml", "xml"),
    (b"<graphml", "xml"),
    (b"<gexf", "xml"),
    (b"SQLite format 3", "sqlite"),
    (b"7z\xbc\xaf", "archive"),
    (b"BZh", "archive"),
    (b"\xfd7zXZ", "archive"),
    (b"\x28\xb5\x2f\xfd", "archive"),
)
_SUFFIXES = {
    ".pkl": "pickle", ".pickle": "pickle", ".gpickle": "pickle", ".dgl": "dgl", ".bin": "dgl", ".h5": "hdf5",
    ".hdf5": "hdf5", ".mdb": "lmdb", ".mat": "matlab", ".graphml": "xml", ".gexf": "xml", ".json": "json",
    ".tar": "archive", ".tgz": "archive",
}  # fmt: skip


def start_of(path: Path, most: int = 512) -> bytes:
    """The first bytes of a file, unpacked if it is gzipped; raises OSError or ValueError."""
    with open_unpacked(path) as file:
        return file.read(most)


def refuse(path: Path) -> None:
    """Raise DataError for a file or folder in a format that is known, but not read."""
    kind = _folder_kind(path) if path.is_dir() else _kind(path)
    if kind is not None:
        name, way = _WAYS[kind]
        raise DataError(f"{shown(path.name)}: it is {name}, which is not read; convert it yourself: {way}")


def zip_members(path: Path) -> list[str]:
    """Names of the members of a zip archive; none where it is damaged."""
    try:
        with open_file(path, link=True) as file, zipfile.ZipFile(file) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError):
        return []


def _kind(path: Path) -> str | None:
    head = start_of(path)
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    if head[257:262] == b"ustar":
        return "archive"
    if head[:1] == b"\x80" and head[1:2] <= b"\x05" and len(head) > 1:
        return "pickle"
    if head.lstrip()[:1] in (b"{", b"["):
        return "json"
    return _SUFFIXES.get(path.suffix.lower())


def _folder_kind(path: Path) -> str | None:
    return "lmdb" if (path / "data.mdb").is_file() else None
