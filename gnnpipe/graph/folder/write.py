"""Writing a graph folder: whole or not at all, with bounded memory."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
import scipy.sparse as sp

from gnnpipe import __version__
from gnnpipe.config.catalog import GRAPH_FILE
from gnnpipe.config.importing import ImportConfig
from gnnpipe.errors import ConfigError, shown
from gnnpipe.files.plain_yaml import dump_yaml
from gnnpipe.files.scratch import place_for, scratch_folder
from gnnpipe.files.typed_json import to_plain
from gnnpipe.files.writing import make_folder, replace_folder, write_file
from gnnpipe.graph.csr import Csr
from gnnpipe.graph.folder.adjacency import AdjacencyWriter, Counted, Counts
from gnnpipe.graph.folder.buckets import CAPACITY, sorted_keys
from gnnpipe.graph.folder.count import count_nodes
from gnnpipe.graph.folder.edges import KeyStream, num_entries, num_given
from gnnpipe.graph.folder.form import FORMAT, GraphFile
from gnnpipe.graph.folder.labels import write_labels
from gnnpipe.graph.folder.merge import merged, parallel, without_known_reverses
from gnnpipe.graph.folder.nodes import Stored, write_features, write_ids, write_masks
from gnnpipe.graph.folder.notes import edge_notes, shortened
from gnnpipe.graph.folder.place import check_may_write, check_space
from gnnpipe.graph.folder.read import map_adjacency
from gnnpipe.graph.folder.records import record_type
from gnnpipe.graph.folder.report import EdgeFacts, FeatureFacts, GraphReport, LabelFacts, SplitFacts
from gnnpipe.graph.ids import NodeIds
from gnnpipe.graph.labels import LabelKind
from gnnpipe.graph.made_features import made_features
from gnnpipe.graph.sources.raw import KnownTask, RawGraph
from gnnpipe.system.steps import Step, silently

if TYPE_CHECKING:  # a Graph may import this module to save itself
    from gnnpipe.graph.data import Graph

Facts = TypeVar("Facts")


def write_graph(
    raw: RawGraph,
    out: Path,
    config: ImportConfig,
    scratch: Path,
    step: Step = silently,
    *,
    source: str = "",
    capacity: int = CAPACITY,
) -> GraphReport:
    """Write a graph folder.

    Args:
        raw: content of the source.
        out: the folder; it appears when it is complete.
        config: what becomes of duplicates, self loops, labels and absent features.
        scratch: folder on the disk of ``out`` for what is unfinished; the caller removes it.
        step: shows what is being done.
        source: name of the source, for graph.yaml.
        capacity: edges that are sorted in memory at once.

    Raises:
        DataError: the source's content does not make a graph.
        ConfigError: something stands at ``out`` that may not be replaced, or the disk has no room.
        OSError: a file can't be written.
    """
    check_may_write(out, overwrite=config.overwrite)
    began = time.monotonic()
    with step("counting nodes"):
        num_nodes, node_notes = count_nodes(raw)
    make_folder(scratch / "graph")
    work = _Work(raw, config, scratch, step, capacity, num_nodes)
    check_space(scratch, work.bytes_needed())
    parts = work.write_parts()
    report = parts.report(raw, num_nodes, time.monotonic() - began)
    content = GraphFile(
        format=FORMAT,
        written_by=f"gnnpipe {__version__}",
        name=config.name or raw.name or out.name,
        source=source or raw.name,
        num_nodes=num_nodes,
        num_classes=None if report.labels is None else report.labels.num_classes,
        task=None if report.labels is None else _task(report.labels.kind),
        arrays=parts.stored,
        report=report,
        notes=shortened([*raw.notes, *node_notes, *parts.notes]),
    )
    write_file(work.folder / GRAPH_FILE, dump_yaml(to_plain(content)))
    make_folder(out.absolute().parent, link=True)
    check_may_write(out, overwrite=config.overwrite)  # another import may have been faster
    replace_folder(work.folder, out, scratch / "replaced")
    return report


def save_graph(graph: Graph, path: Path, *, overwrite: bool = False, step: Step = silently) -> GraphReport:
    """Write a graph in memory as a graph folder.

    Args:
        graph: the graph.
        path: the folder.
        overwrite: whether to replace a graph folder that stands there.
        step: shows what is being done.

    Raises:
        ConfigError, OSError: as `write_graph`.
    """
    check_may_write(path, overwrite=overwrite)
    is_regression = str(graph.task) == "regression"
    raw = RawGraph(
        graph.adjacency,
        graph.features.to_scipy() if isinstance(graph.features, Csr) else graph.features,
        graph.labels,
        (graph.train_mask, graph.val_mask, graph.nodes_of("test")),
        graph.notes,
        weight=graph.adjacency.value if graph.weighted else None,
        num_nodes=graph.num_nodes,
        ids=graph.ids,
        class_names=graph.class_names,
        name=graph.name,
        task="regression" if is_regression else "classes",
        num_classes=None if is_regression else graph.num_classes,
        edge_attr=graph.edge_attr,
        edge_type=graph.edge_type,
        edge_type_names=graph.edge_type_names,
    )
    with place_for(path) as parent, scratch_folder(parent) as scratch:
        return write_graph(raw, path, ImportConfig(overwrite=overwrite), scratch, step, source="a program")


@dataclass(frozen=True)
class _Written(Generic[Facts]):
    """A part of a graph folder."""

    stored: Stored
    """Its files."""
    facts: Facts
    """Its statistics."""
    notes: tuple[str, ...] = ()
    """Lines for the user: each names something that was left out or changed."""
    classes: np.ndarray | None = None
    """Of labels that are classes: int32 ``[num_nodes]``, -1 for none."""


@dataclass(frozen=True)
class _Parts:
    """All parts of a graph folder."""

    labels: _Written[LabelFacts | None]
    edges: _Written[EdgeFacts]
    features: _Written[FeatureFacts | None]
    others: _Written[SplitFacts | None]
    """Masks and ids."""

    @property
    def stored(self) -> Stored:
        """All files."""
        return {**self.labels.stored, **self.edges.stored, **self.features.stored, **self.others.stored}

    @property
    def notes(self) -> tuple[str, ...]:
        """All notes."""
        return (*self.labels.notes, *self.edges.notes, *self.features.notes, *self.others.notes)

    def report(self, raw: RawGraph, num_nodes: int, seconds: float) -> GraphReport:
        """The statistics of all parts."""
        return GraphReport(
            num_nodes=num_nodes,
            edges=self.edges.facts,
            labels=self.labels.facts,
            features=self.features.facts,
            splits=self.others.facts,
            ids=None if raw.ids is None else "numbers" if raw.ids.start is None else "text",
            bytes_on_disk=sum(array.bytes for array in self.stored.values()),
            seconds=round(seconds, 3),
        )


@dataclass(frozen=True)
class _Work:
    """A graph folder that is being written: the arguments of `write_graph`."""

    raw: RawGraph
    config: ImportConfig
    scratch: Path
    step: Step
    capacity: int
    num_nodes: int

    @property
    def folder(self) -> Path:
        """The folder, until it is complete."""
        return self.scratch / "graph"

    @property
    def num_keys(self) -> int:
        """Edges to be sorted."""
        return num_given(self.raw) * (2 if self.config.undirected else 1)

    def bytes_needed(self) -> int:
        """Disk space for the folder and the buckets of edges, about."""
        weight = 0 if self.raw.weight is None else 4
        features = self.raw.features
        dense = 0 if features is None or sp.issparse(features) else 4 * features.shape[0] * features.shape[1]
        record = record_type(self.raw, num_entries(self.raw))
        of_edges = 2 * record.itemsize if record else 0  # in the folder, and in buckets
        return self.num_keys * (8 + 2 * weight + 4 + weight + of_edges) + dense + 32 * self.num_nodes

    def write_parts(self) -> _Parts:
        """Write all files but graph.yaml. Edges are compared with the labels, and features made from them."""
        with self.step("copying labels"):
            labels = self.write_labels()
        edges = self.write_edges(labels.classes)
        return _Parts(labels, edges, self.write_features(edges), self.write_others())

    def write_labels(self) -> _Written[LabelFacts | None]:
        """Write the labels and the names of their classes, if there are any."""
        raw, task = self.raw, self.config.task
        if raw.labels is None:
            return _Written({}, None, ("labels: the source has none; training needs some",))
        written = write_labels(
            self.folder / "labels.npy",
            raw.labels,
            raw.task if task == "auto" else task,
            raw.class_names,
            raw.num_classes or 0,
        )
        stored = {"labels": written.stored}
        if raw.class_names:
            stored |= write_ids(self.folder, "class_names", NodeIds.of_text(raw.class_names))
        return _Written(stored, written.facts, (), written.classes)

    def write_edges(self, classes: np.ndarray | None) -> _Written[EdgeFacts]:
        """Sort the edges and write them as compressed rows."""
        config, weighted = self.config, self.raw.weight is not None
        stream = KeyStream(
            self.raw, self.num_nodes, undirected=config.undirected, loops=config.self_loops == "keep"
        )
        _check_duplicates(config, stream)
        writer = AdjacencyWriter(self.folder, self.num_nodes, stream.bits, self.num_keys, classes)
        with self.step(f"sorting {self.num_keys:,} edges"):
            keys = sorted_keys(stream, stream.end, self.scratch, self._capacity(stream))
            if config.undirected:
                keys = without_known_reverses(keys)
            if (weighted or stream.record) and config.duplicates == "keep":
                entries = parallel(keys)
            else:
                entries = merged(keys, first=config.duplicates == "drop")
            stored, counted = writer.write(entries, _file_of_counts(config))
        facts = self._edge_facts(stream, counted)
        rounded = (stream.num_rounded, stream.num_rounded_features)
        notes = list(edge_notes(facts, *rounded, weighted=weighted))
        if weighted and "weight" not in stored and facts.num_edges:
            notes.append("weight: all are 1, so edges are taken as having no weights")
        if self.raw.edge_type_names:
            stored |= write_ids(self.folder, "edge_type_names", NodeIds.of_text(self.raw.edge_type_names))
        return _Written(stored, facts, tuple(notes))

    def _capacity(self, stream: KeyStream) -> int:
        """Edges that are sorted in memory at once: fewer where more than a weight goes with each."""
        return max(1, self.capacity * 16 // (16 + stream.record_bytes))

    def _edge_facts(self, stream: KeyStream, counted: Counted) -> EdgeFacts:
        return EdgeFacts(
            num_given=num_given(self.raw),
            num_edges=counted.num_entries,
            num_loops=stream.num_loops,
            loops=self.config.self_loops,
            num_repeated=counted.num_written - counted.num_edges,
            duplicates=self.config.duplicates,
            reversed=self.config.undirected,
            directed=counted.directed,
            num_isolated=counted.num_isolated,
            in_degree=counted.in_degree,
            histogram=counted.histogram,
            homophily=counted.homophily,
            weights=counted.weights,
            edge_dim=stream.edge_dim,
            num_types=counted.num_types,
        )

    def write_features(self, edges: _Written[EdgeFacts]) -> _Written[FeatureFacts | None]:
        """Copy the features, or make those that ``--features`` asks for."""
        features, spec = self.raw.features, self.config.features
        notes: list[str] = []
        if spec is not None:
            instead = "the source has none" if features is None else "those of the source are left out"
            notes.append(f"features: {instead}; they are made from the edges ({shown(spec)})")
            with self.step(f"computing features ({spec})"):
                features = made_features(map_adjacency(self.folder, edges.stored), spec)
        if features is None:
            words = "features: the source has none; train with --features degree or --features laplacian:16"
            return _Written({}, None, (words,))
        with self.step("copying features"):
            written = write_features(self.folder, features, self.num_nodes)
        return _Written(written.stored, written.facts, (*notes, *written.notes))

    def write_others(self) -> _Written[SplitFacts | None]:
        """Copy masks and ids."""
        raw = self.raw
        stored: Stored = {}
        splits, notes = None, list[str]()
        if raw.masks is not None:
            stored, splits, notes = write_masks(self.folder, raw.masks, self.num_nodes)
        if raw.ids is not None:
            stored |= write_ids(self.folder, "ids", raw.ids)
        return _Written(stored, splits, tuple(notes))


def _check_duplicates(config: ImportConfig, stream: KeyStream) -> None:
    if stream.record is not None and config.duplicates == "sum":
        raise ConfigError(
            "duplicates: 'sum' adds up weights, and features and types of edges can't be added up; use keep "
            "or drop, or leave them out"
        )


def _file_of_counts(config: ImportConfig) -> Counts:
    """File of the numbers of parallel edges, where edges have no weights; None to drop the numbers."""
    if config.duplicates == "sum":
        return "weight"
    return None if config.duplicates == "drop" or config.undirected else "count"


def _task(kind: LabelKind) -> KnownTask:
    return "regression" if kind == "regression" else "classes"
