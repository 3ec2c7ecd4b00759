"""Data sets by name: raw files with readers of our own, or torch_geometric's classes.

reader      files come from           and are read by
pyg         torch_geometric's class   the class, too
npz         the class                 `npz.read_as_torch_geometric`: sparse features stay sparse
saint       the class                 `saint.read`
attributed  the class                 `attributed.read`: without pandas, features stay sparse
ogb         OGB, or the user          `ogb.read.read_ogb`
"""

from __future__ import annotations

import functools
import hashlib
import io
import os
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from gnnpipe.config.catalog import IN_MEMORY, Source, find_source
from gnnpipe.config.run import GraphConfig
from gnnpipe.errors import ConfigError, DataError, shown
from gnnpipe.files.foreign import check_written_inside, safely
from gnnpipe.files.reading import open_file
from gnnpipe.files.scratch import scratch_folder
from gnnpipe.files.writing import open_lock
from gnnpipe.graph.adjacency import Adjacency
from gnnpipe.graph.choices import Choices
from gnnpipe.graph.data import Graph
from gnnpipe.graph.folder.read import open_graph
from gnnpipe.graph.scaled_features import FeatureScaling
from gnnpipe.graph.sources.formats import attributed, npz, saint
from gnnpipe.graph.sources.objects import of_pyg
from gnnpipe.graph.sources.ogb.read import read_ogb
from gnnpipe.graph.sources.raw import RawGraph
from gnnpipe.graph.sources.roads import road_network
from gnnpipe.graph.sources.synthetic import planted_partition
from gnnpipe.system.steps import Step, say_nothing, silently


def load_dataset(config: GraphConfig, assumed_width: int | None = None, step: Step = silently) -> Graph:
    """Load the data set, or the graph folder, that a config names, and check it.

    Args:
        config: names it, and says what is wanted of it.
        assumed_width: as for `Graph.from_raw`.
        step: shows what is being done.

    Raises:
        DataError: unknown name, files that are absent and can't be downloaded, a split that does not
            exist, or contents that `Graph` refuses.
    """
    if config.is_synthetic:
        return _changed(_built_in(config, step), config, step)
    raw, name = _content(config, step)
    graph = Graph.from_raw(raw, name, Choices.of(config), None, assumed_width, step)
    return _scaled(graph, config)


def load_unlabelled(config: GraphConfig, known: FeatureScaling, step: Step = silently) -> Graph:
    """The edges and the features of the graph that a config names, as a run wants them that is to predict it.

    Args:
        config: names it, and says how the run treats features and edges.
        known: the numbers by which the run's own features are scaled.
        step: shows what is being done.

    Raises:
        DataError: as `load_dataset`.
    """
    if config.is_synthetic:
        return _changed(_built_in(config, step), config, step, known)
    raw, name = _content(config, step)
    return _scaled(Graph.unlabelled(raw, name, Choices.of(config), known, step), config, known)


def _built_in(config: GraphConfig, step: Step) -> Graph:
    with step("making the built-in graph"):
        make = road_network if config.synthetic.kind == "roads" else planted_partition
        return make(config.synthetic, split=config.split)


def _content(config: GraphConfig, step: Step) -> tuple[RawGraph, str]:
    """The files of the data set or the graph folder that a config names, and its name."""
    with step(f"loading {config.data_name}"):
        raw = open_graph(Path(config.graph)) if config.graph else _read(config)
    return raw, raw.name or config.data_name if config.graph else find_source(config.dataset).name


def as_graph(data: Any, config: GraphConfig, step: Step = silently) -> Graph:
    """The graph that a program holds in memory, checked like a loaded one.

    Args:
        data: a ``torch_geometric.data.Data``; or a Graph, which keeps its edges, labels and masks.
        config: split, task, features, and whether to add reversed edges.
        step: shows what is being done.

    Raises:
        DataError: ``data`` is another kind of object, or has contents that `Graph` refuses.
        ConfigError: something is wanted of a Graph that it is made with.
    """
    import torch_geometric.data

    if isinstance(data, torch_geometric.data.Data):
        raw = of_pyg(data, IN_MEMORY)
        graph = Graph.from_raw(raw, IN_MEMORY, Choices.of(config), step=step)
        return _scaled(graph, config)
    graph = _given(data)
    if not graph.num_classes:
        raise DataError(
            "labels: the graph has none; to train, give those of some nodes, and NaN for the others"
        )
    for key, default, what in (("undirected", False, "edges"), ("task", "auto", "labels")):
        if getattr(config, key) != default:
            raise ConfigError(
                f"{key}: the {what} of a Graph are taken as they are; leave it out, or give {key} to "
                "Graph.from_edge_index"
            )
    return _changed(graph, config, step)


def as_unlabelled(data: Any, config: GraphConfig, known: FeatureScaling, step: Step = silently) -> Graph:
    """The graph that a program holds in memory, as a run wants it that is to predict it.

    Args:
        data: as for `as_graph`; labels and masks may be absent, and only those of a Graph are kept.
        config: says how the run treats features and edges. The reverse of an edge is added to a Graph too,
            unless it is there.
        known: as for `load_unlabelled`.
        step: shows what is being done.

    Raises:
        DataError: as `as_graph`.
    """
    import torch_geometric.data

    if isinstance(data, torch_geometric.data.Data):
        graph = Graph.unlabelled(of_pyg(data, IN_MEMORY), IN_MEMORY, Choices.of(config), known, step)
        return _scaled(graph, config, known)
    graph = _given(data)
    if config.undirected:
        adjacency = Adjacency(graph.adjacency, graph.weighted).with_reverse()
        graph = replace(graph, adjacency=adjacency.matrix)
    return _changed(graph, config, step, known)


def _given(data: Any) -> Graph:
    """A Graph that a program gives; raises DataError for other objects."""
    if not isinstance(data, Graph):
        maker = {"networkx": "from_networkx", "scipy": "from_scipy"}.get(type(data).__module__.split(".")[0])
        raise DataError(
            f"data: an object of type {type(data).__name__} can't be used; give a data set's name, a "
            "torch_geometric Data such as the first of a Dataset, dataset[0], a graph folder, or a Graph"
            + (f", which gnnpipe.Graph.{maker} makes of it" if maker else "")
        )
    return data


def _changed(graph: Graph, config: GraphConfig, step: Step, known: FeatureScaling | None = None) -> Graph:
    """A graph that is made already, with other features if that is asked for."""
    if config.features is not None:
        graph = graph.with_made_features(config.features, step, known)
    return _scaled(graph, config, known)


def _scaled(graph: Graph, config: GraphConfig, known: FeatureScaling | None = None) -> Graph:
    """A graph with its features scaled as the config says, by its own numbers unless others are given."""
    if config.standardize_features:
        return graph.with_standardized_features(known)
    return graph.with_normalized_features(known) if config.normalize_features else graph


def _read(config: GraphConfig) -> RawGraph:
    """The content of a data set's files; labels are classes unless its reader says otherwise."""
    source = find_source(config.dataset)
    read = _READERS[source.reader]
    root = config.root or str(Path("data") / source.class_name)
    try:
        with _alone(root), safely():
            raw = read(source, root)
            return replace(raw, task=raw.task or "classes")
    except DataError:
        raise
    except Exception as error:  # a class that meets unexpected files may fail in any way
        raise DataError(
            f"root: can't read {source.name} from '{shown(root)}' ({type(error).__name__}: "
            f"{shown(str(error))}); give the folder that the torch_geometric class is given, "
            "or delete its files and load them anew"
        ) from error


def _alone(root: str) -> FileLock:
    """A lock that keeps other runs of this host from reading files while this one still makes them.

    It stands in the temporary folder, as the data's folder may be read-only.
    """
    user = os.getuid() if hasattr(os, "getuid") else "everyone"
    name = hashlib.sha256(str(Path(root).resolve()).encode()).hexdigest()[:16]
    path = Path(tempfile.gettempdir()) / f"gnnpipe-{user}-{name}.lock"
    os.close(open_lock(path, own=True))  # refuses a link that another user has put there
    return FileLock(path)


def _open(source: Source, root: str, *, process: bool) -> Any:
    """Make an instance of the torch_geometric class, which downloads and processes its files if need be.

    Args:
        source: class and arguments.
        root: folder of the files.
        process: whether to process and load the files; otherwise only the raw ones are downloaded.
    """
    import torch_geometric.datasets

    cls = getattr(torch_geometric.datasets, source.class_name)
    # a subclass, as the class itself does all this in its constructor
    changes: dict[str, object] = {
        # the class prints that it processes files; the constructor would set this
        "log": property(lambda self: False, lambda self, value: None),
        "download": functools.partialmethod(_download_or_explain, cls.download),
        "_download": functools.partialmethod(_inside, cls._download, "raw"),
        "_process": functools.partialmethod(_inside, cls._process, "processed"),
    }
    if not process:
        changes |= {"_process": lambda self: None, "load": lambda self, path: None}
    return type(cls.__name__, (cls,), changes)(root, *source.arguments)


def _download_or_explain(dataset: Any, download: Callable[[Any], None]) -> None:
    """Download, or raise a DataError that says which files belong where."""
    try:
        with redirect_stderr(io.StringIO()):  # the names of the files, which nobody has asked for
            download(dataset)
    except Exception as error:  # each class downloads in its own way and fails in its own way
        names = dataset.raw_file_names
        files = ", ".join([names] if isinstance(names, str) else names)
        raise DataError(
            f"root: {dataset.__class__.__name__} finds no files in '{dataset.raw_dir}' and can't download "
            f"them ({type(error).__name__}); put there: {files}; or point --root at a folder that has them"
        ) from None


def _inside(dataset: Any, make: Callable[[Any], None], kind: str) -> None:
    """Let a class make its raw or processed files, if need be, but only below the root.

    Args:
        dataset: instance of the class.
        make: method of the class that makes the files.
        kind: ``raw`` or ``processed``.
    """
    paths = [Path(path) for path in getattr(dataset, f"{kind}_paths")]
    for path in paths:
        if path.exists():
            open_file(path, link=True).close()  # refuses pipes, which block, and files that are all holes
    if not all(path.exists() for path in paths):
        check_written_inside(Path(getattr(dataset, f"{kind}_dir")), Path(dataset.root))
    make(dataset)


def _read_pyg(source: Source, root: str) -> RawGraph:
    return of_pyg(_open(source, root, process=True)[0], source.name)


def _read_npz(source: Source, root: str) -> RawGraph:
    path = Path(_open(source, root, process=False).raw_paths[0])
    with scratch_folder() as scratch:
        return npz.read_as_torch_geometric(path, scratch)


def _read_saint(source: Source, root: str) -> RawGraph:
    folder = Path(_open(source, root, process=False).raw_dir)
    with scratch_folder() as scratch:
        return saint.read(folder, scratch, say_nothing)  # the user named the data set, and so its format


def _read_attributed(source: Source, root: str) -> RawGraph:
    folder = Path(_open(source, root, process=False).raw_dir)
    with scratch_folder() as scratch:
        return attributed.read(folder, scratch)


def _read_ogb(source: Source, root: str) -> RawGraph:
    with scratch_folder() as scratch:  # arrays that are mapped from there outlive the folder
        return read_ogb(source.name, Path(root), scratch)


_READERS = {
    "pyg": _read_pyg,
    "npz": _read_npz,
    "saint": _read_saint,
    "attributed": _read_attributed,
    "ogb": _read_ogb,
}
