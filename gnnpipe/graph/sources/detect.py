"""Which reader is right for a file or folder: decided by content, and said.

folder    GraphBolt, GraphSAINT, OGB, npy files, LMDB (refused); one readable file alone; else tables
file      by its first bytes: npz, .pt, npy, Matrix Market, Parquet, text; known others are refused
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gnnpipe.config.catalog import GRAPH_FILE
from gnnpipe.config.importing import TablesConfig
from gnnpipe.errors import DataError, UserError, shown
from gnnpipe.graph.sources.formats import graphbolt, matrix_market, npy_folder, npz, saint, torch_file
from gnnpipe.graph.sources.formats.refused import refuse, start_of, zip_members
from gnnpipe.graph.sources.ogb import read as ogb
from gnnpipe.graph.sources.raw import RawGraph
from gnnpipe.graph.sources.tables import read_tables
from gnnpipe.graph.sources.tables.text import has_ending
from gnnpipe.system.steps import Say

_TABLES = "tables: CSV, TSV or Parquet files"
_PARQUET = b"PAR1"


@dataclass(frozen=True)
class Reader:
    """A reader of one format."""

    looks_for: str
    """The files that it reads, for the message where no reader is right."""
    recognises: Callable[[Path], bool]
    read: Callable[[Path, Path, Say], RawGraph]
    """Called with the source, a scratch folder, and a function that says what is read."""


_FOLDERS = (
    Reader(graphbolt.LOOKS_FOR, graphbolt.recognises, graphbolt.read),
    Reader(saint.LOOKS_FOR, saint.recognises, saint.read),
    Reader(ogb.LOOKS_FOR, ogb.recognises, ogb.read),
    Reader(npy_folder.LOOKS_FOR, npy_folder.recognises, npy_folder.read),
)
_FILES = (
    Reader(npz.LOOKS_FOR, lambda path: any(name.endswith(".npy") for name in zip_members(path)), npz.read),
    Reader(
        torch_file.LOOKS_FOR,
        lambda path: any(name.endswith("data.pkl") for name in zip_members(path)),
        torch_file.read,
    ),
    Reader("an npy file of edges", lambda path: start_of(path, 6) == b"\x93NUMPY", npy_folder.read_lone),
    Reader(
        matrix_market.LOOKS_FOR,
        lambda path: start_of(path).startswith(matrix_market.BANNER),
        matrix_market.read,
    ),
)


def read_source(path: Path, config: TablesConfig, scratch: Path, say: Say) -> RawGraph:
    """The graph of a file or folder, in any format that is read.

    Args:
        path: the file or folder.
        config: meaning of columns, where it holds tables.
        scratch: folder for arrays that are larger than the memory should be; they are mapped from there.
        say: called with a line that names the format, and with lines about what was guessed.

    Raises:
        DataError: no reader is right (the message lists what was looked for), or the content is damaged.
    """
    try:
        place = _place(path)
        reader = _reader(place)
        if reader is not None:
            return reader.read(place, scratch, say)
        refuse(place)
        if _is_table(place):
            return _read_tables(place, config, scratch, say)
    except UserError:
        raise
    except (OSError, ValueError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or shown(str(error)) or type(error).__name__
        raise DataError(f"'{shown(str(path))}': it can't be read ({reason})") from None
    raise _unknown(path)


def _place(path: Path) -> Path:
    """Where the graph is: the path itself, a folder raw in it, or the only file in it."""
    if not path.exists():
        raise DataError(f"'{shown(str(path))}': there is no such file or folder")
    if not path.is_dir():
        return path
    if (path / GRAPH_FILE).is_file():
        raise DataError(f"'{shown(str(path))}': it is a graph folder already; train on it with --graph")
    if _reader(path) is not None:
        return path
    inside = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    if (path / "raw").is_dir() and all(entry.name in ("raw", "processed") for entry in inside):
        return _place(path / "raw")
    return inside[0] if len(inside) == 1 and inside[0].is_file() else path


def _reader(path: Path) -> Reader | None:
    readers = _FOLDERS if path.is_dir() else _FILES
    return next((reader for reader in readers if reader.recognises(path)), None)


def _is_table(path: Path) -> bool:
    """Whether it is a table, or a folder with one; a folder of Parquet files is one."""
    if path.is_dir():
        files = (entry for entry in path.iterdir() if entry.is_file())
        return any(map(has_ending, files)) or any(path.glob("*/*.parquet")) or any(path.glob("*/*.pq"))
    head = start_of(path)
    is_text = bool(head) and not any(letter < 9 for letter in head)
    # the reader of tables says best what is wrong with one, such as UTF-16
    return head.startswith(_PARQUET) or has_ending(path) or (is_text and b"\n" in head)


def _read_tables(path: Path, config: TablesConfig, scratch: Path, say: Say) -> RawGraph:
    if path.is_dir():
        files = [entry for entry in path.iterdir() if entry.is_file() and has_ending(entry)]
        say(f"{shown(path.name)}: {len(files)} {'table' if len(files) == 1 else 'tables'}")
    else:
        say(f"{shown(path.name)}: a table")
    return read_tables(path, config, scratch, say)


def _unknown(path: Path) -> DataError:
    if path.is_dir():
        names = ", ".join(sorted(shown(entry.name, 40) for entry in path.iterdir())) or "nothing"
        readers, what = _FOLDERS, f"holds {shown(names)}"
    else:
        readers, what = _FILES, f"begins with {shown(repr(start_of(path, 16)))}"
    looked = "; ".join([*(reader.looks_for for reader in readers), _TABLES])
    return DataError(f"'{shown(str(path))}': it {what}; looked for: {looked}")
