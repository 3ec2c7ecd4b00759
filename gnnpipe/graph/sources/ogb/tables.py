"""Tables in OGB's raw folders: one array under a name, as csv.gz, csv, npz or npy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gnnpipe.errors import DataError, shown
from gnnpipe.files.mapped import map_array, map_arrays, table_blocks
from gnnpipe.files.spool import Spool
from gnnpipe.graph.convert import as_integers, without_single_column
from gnnpipe.graph.sources.formats.named import edges_of

ENDINGS = (".csv.gz", ".csv", ".npz", ".npy")


@dataclass(frozen=True)
class Tables:
    """Tables of numbers in one folder."""

    folder: Path
    scratch: Path
    """Folder for tables that are larger than the memory should be."""

    def names(self) -> set[str]:
        """Names of the tables that are there."""
        return {path.name.split(".")[0] for path in self.folder.iterdir() if path.name.endswith(ENDINGS)}

    def find(self, name: str) -> Path | None:
        """File of a table, in the first of its forms that exists."""
        paths = (self.folder / f"{name}{ending}" for ending in ENDINGS)
        return next((path for path in paths if path.is_file()), None)

    def read(self, name: str, dtype: Any = np.float64) -> np.ndarray:
        """A table; a single column becomes a vector.

        Args:
            name: name without ending.
            dtype: format of the numbers of a CSV table.

        Raises:
            DataError: it is absent, or can't be read.
        """
        path = self._path(name)
        try:
            table = map_array(path) if path.suffix == ".npy" else self._packed(path)
            if table is None:
                table = self._collected(path, dtype)
        except (ValueError, OSError) as error:
            raise _unreadable(path, error) from None
        return without_single_column(table)

    def blocks(self, name: str) -> Iterator[np.ndarray]:
        """Rows of a table, block by block; raises DataError as `read` does."""
        path = self._path(name)
        if path.suffix in (".npz", ".npy"):
            table = self.read(name)
            step = 1 << 18
            yield from (table[start : start + step] for start in range(0, len(table), step))
            return
        try:
            yield from table_blocks(path)
        except (ValueError, OSError) as error:
            raise _unreadable(path, error) from None

    def edges(self, name: str = "edge") -> np.ndarray:
        """Edges ``[2, num_edges]``, whole numbers; raises DataError for another shape, and as `read` does."""
        path = self._path(name)
        if path.suffix in (".npz", ".npy"):
            return edges_of(self.read(name), name)
        spool = Spool(self.scratch / f"{name}-ends", np.int64, 2)
        for block in self.blocks(name):
            if block.shape[1] != 2:
                raise DataError(f"{name}: expected two columns, got shape {list(block.shape)}")
            spool.append(as_integers(block, name).numpy())
        return spool.mapped().T

    def size(self, name: str) -> int | None:
        """The only entry of a table of sizes; None where it is absent, DataError for several graphs."""
        return None if self.find(name) is None else size_of(self.read(name), name)

    def _path(self, name: str) -> Path:
        path = self.find(name)
        if path is None:
            forms = " or ".join(f"{name}{end}" for end in ENDINGS)
            raise DataError(f"root: '{self.folder}' holds no {name}; expected {forms} there")
        return path

    def _packed(self, path: Path) -> np.ndarray | None:
        """The only array of an npz file; None for another kind of file."""
        if path.suffix != ".npz":
            return None
        with map_arrays(path, self.scratch) as file:
            if len(file) != 1:
                raise ValueError(f"it holds {shown(', '.join(file) or 'nothing')}, and one array is needed")
            return next(iter(file.values()))

    def _collected(self, path: Path, dtype: Any) -> np.ndarray:
        spool: Spool | None = None
        for block in table_blocks(path):
            if spool is None:
                spool = Spool(self.scratch / f"{path.name}-rows", dtype, block.shape[1])
            spool.append(block)
        return np.empty((0, 1), dtype) if spool is None else spool.mapped()


def size_of(counts: np.ndarray, what: str) -> int:
    """The only entry of a list of sizes, one for each graph; raises DataError where there are several."""
    sizes = as_integers(counts, what).flatten()
    if sizes.numel() != 1:
        raise DataError(f"{what}: it lists {sizes.numel()} graphs, and one is needed")
    return int(sizes)


def check_size(said: int | None, size: int, what: str) -> None:
    """Raise DataError where a size that a file says is not that of the table it is about."""
    if said is not None and said != size:
        raise DataError(f"{what}: it says {said}, but there are {size}; the files don't belong together")


def _unreadable(path: Path, error: Exception) -> DataError:
    if isinstance(error, DataError):
        return error
    return DataError(f"root: '{path}' can't be read ({shown(str(error))}); download it anew")
