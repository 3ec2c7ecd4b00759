"""LazyGraph: a graph that is loaded when it is first needed, and what a cache knows of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from gnnpipe.files.store import Label
from gnnpipe.graph.cut.structure import Structure
from gnnpipe.graph.data import Graph
from gnnpipe.graph.prepare.cache import Cache, Recipe, opened
from gnnpipe.graph.prepare.fingerprint import fingerprint
from gnnpipe.system.steps import Say, Step, silently

T = TypeVar("T")


def to_stderr(line: str) -> None:
    """Show a line where it disturbs no output."""
    sys.stderr.write(f"{line}\n")


class LazyGraph:
    """A graph that is loaded when it is first needed.

    Args:
        load: loads it.
        name: stands for it in the cache's list.
        cache: keeps what is made of it; None for nothing.
        known: computes its fingerprint without loading it; None if that can't be.
    """

    def __init__(
        self,
        load: Callable[[], Graph],
        name: str = "graph",
        cache: Cache | None = None,
        known: Callable[[], str] | None = None,
    ) -> None:
        self._load, self._name, self._cache, self._known = load, name, cache, known

    @cached_property
    def graph(self) -> Graph:
        """The graph; raises DataError as loading it does."""
        return self._load()

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the content, by which a cache knows the graph."""
        if self._known:
            with suppress(OSError):  # loading the graph then says what is wrong with its files
                return self._known()
        return fingerprint(self.graph)

    @cached_property
    def structure(self) -> Structure:
        """Its edges without directions, which all cuts are made from."""
        return Structure.of(self.graph.adjacency)

    def remember(self, what: str, cut: str, ingredients: object, kind: type[T], make: Callable[[], T]) -> T:
        """A small answer about the graph, from the cache if it is there: see `Cache.remember`."""
        if self._cache is None:
            return make()
        label = Label(what, self._name, cut)
        return self._cache.remember(self.fingerprint, label, ingredients, kind, make)

    def prepared(self, recipe: Recipe, make: Callable[[Path], None]) -> Path | None:
        """The file of the prepared graph in the cache; None without one: see `Cache.prepared`."""
        if self._cache is None:
            return None
        return self._cache.prepared(self.fingerprint, self._name, recipe, make)


def as_lazy(graph: Graph | LazyGraph) -> LazyGraph:
    """A graph in memory as one that may be asked for."""
    return graph if isinstance(graph, LazyGraph) else LazyGraph(lambda: graph, graph.name)


@contextmanager
def at_hand(
    name: str,
    cache: str | None,
    load: Callable[[], Graph],
    step: Step = silently,
    say: Say = to_stderr,
    known: Callable[[], str] | None = None,
) -> Iterator[LazyGraph]:
    """A graph with its cache; what is found there stays until this context closes.

    Args:
        name: stands for the graph in the cache's list.
        cache: folder of the cache, as the user has named it; None for none.
        load: loads the graph.
        step: shows what is being done.
        say: shows a line.
        known: computes the graph's fingerprint without loading it; None if that can't be.
    """
    with opened(cache, step, say) as found:
        yield LazyGraph(load, name, found, known)
