"""The cache of prepared graphs: what one start has cut, later ones read from a file.

A prepared graph is found by the hash of all that it depends on: the graph's content (`fingerprint`), the cut,
the normalisation, and the versions of the code that cuts. Small answers that take as long to compute, such as
the plan of exact training, are kept beside it.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeVar

import xxhash

import gnnpipe
from gnnpipe.errors import ConfigError
from gnnpipe.files.reading import read_json
from gnnpipe.files.store import Label, Store
from gnnpipe.files.typed_json import from_object, json_text
from gnnpipe.files.writing import write_file
from gnnpipe.graph.cut.chunks import CutSpec
from gnnpipe.graph.prepare.normalize import Normalization
from gnnpipe.graph.prepare.stored import check_prepared
from gnnpipe.system.failures import advice, reason
from gnnpipe.system.steps import Say
from gnnpipe.system.words import readable_bytes

PREPARED = "prepared graph"
# Raise it when prepared graphs, or what is kept beside them, come out differently for the same ingredients.
FORMAT = 2
# Packages that decide how a graph is made, cut and ordered.
CUTTERS = ("pymetis", "kaminpar", "scipy", "numpy", "torch")

T = TypeVar("T")


@dataclass(frozen=True)
class Recipe:
    """Ingredients of a prepared graph, other than the graph itself."""

    cut: CutSpec
    normalization: Normalization
    num_rivals: int
    """Number of ranks for which the halo of graph parallelism is counted."""
    reads_edges: bool = False
    """Whether features and types of edges are kept."""

    @property
    def key(self) -> str:
        """Name of a file of what is made by it, beside those by other recipes."""
        return xxhash.xxh3_64(json.dumps(asdict(self)).encode()).hexdigest()

    def words(self) -> str:
        """The cut for people, as in ``2 parts x 16 chunks, gcn``."""
        cut = self.cut
        line = " along a line" if cut.local else ""
        edges = " with edges' features" if self.reads_edges else ""
        return f"{cut.num_parts} parts x {cut.num_chunks} chunks{line}, {self.normalization}{edges}"


class Cache:
    """A folder of prepared graphs. What this process has found there stays until the cache is closed.

    Args:
        store: the folder.
        say: told what is read and written.
    """

    def __init__(self, store: Store, say: Say) -> None:
        self._store, self._say = store, say

    def prepared(self, graph: str, name: str, recipe: Recipe, make: Callable[[Path], None]) -> Path | None:
        """The file of a prepared graph, which is made if it is not there yet.

        Args:
            graph: fingerprint of the graph.
            name: its name.
            recipe: what is to be made of it.
            make: writes the prepared graph as a file.

        Returns:
            A file that stays until this cache is closed; None if nothing can be kept in the folder.

        Raises:
            ConfigError: the file can't be written there.
        """
        key = key_of(PREPARED, graph, asdict(recipe))
        label = Label(PREPARED, name, recipe.words())
        with self._explained():
            found = self._store.use(key, label, make, check_prepared)
        if found is None:
            return None
        size, folder = readable_bytes(found.about.size), self._store.folder
        if found.is_new:
            self._say(f"cached in '{folder}': {size}")
        else:
            self._say(f"prepared graph from the cache '{folder}': {size}, made on {found.about.made}")
        return found.path

    def remember(
        self, graph: str, label: Label, ingredients: object, kind: type[T], make: Callable[[], T]
    ) -> T:
        """A small answer about a graph, computed if it is not there yet.

        Args:
            graph: fingerprint of the graph.
            label: the answer in words.
            ingredients: all that the answer depends on beside the graph; plain values.
            kind: a dataclass that `gnnpipe.files.typed_json` can write and read.
            make: computes the answer.
        """
        answers: list[T] = []

        def write(path: Path) -> None:
            answers.append(make())
            write_file(path, json_text(answers[0]))

        def check(path: Path) -> None:
            answers.append(_read(kind, path))

        key = key_of(label.what, graph, ingredients)
        with self._explained():
            self._store.use(key, label, write, check)
        return answers[-1] if answers else make()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn an OSError into a ConfigError that names the folder."""
        try:
            yield
        except OSError as error:
            folder = self._store.folder
            raise ConfigError(
                f"cache: can't use '{folder}' ({reason(error, str(folder))}); {advice(error)}, or leave out "
                "--cache"
            ) from None


@contextmanager
def opened(
    folder: str | None, step: Callable[[str], AbstractContextManager[None]], say: Say
) -> Iterator[Cache | None]:
    """The cache in a folder; None where no folder is given.

    Args:
        folder: as the user has named it.
        step: shows what is waited for.
        say: shows a line.
    """
    if folder is None:
        yield None
        return
    path = Path(folder).expanduser()
    waiting = "waiting for another process, which prepares the same graph"
    with Store(path, lambda: step(waiting), say) as store:
        yield Cache(store, say)


def key_of(what: str, graph: str, ingredients: object) -> str:
    """Name of an entry: 32 hexadecimal digits, which change with every ingredient.

    Args:
        what: kind of the entry.
        graph: fingerprint of the graph.
        ingredients: all that the entry depends on beside the graph; plain values.
    """
    everything = [FORMAT, what, graph, ingredients, software()]
    return xxhash.xxh3_128(json.dumps(everything, sort_keys=True).encode()).hexdigest()


def software() -> dict[str, str]:
    """Versions that decide how a graph is prepared, and the processor's kind, whose sums may differ."""
    found = {"gnnpipe": gnnpipe.__version__, "machine": platform.machine()}
    for name in CUTTERS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


def _read(kind: type[T], path: Path) -> T:
    """An answer from its file; raises ValueError."""
    try:
        return from_object(kind, read_json(path))
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from None
