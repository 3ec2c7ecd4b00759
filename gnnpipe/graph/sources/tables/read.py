"""From tables to a RawGraph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.sparse as sp

from gnnpipe.config.importing import ImportConfig, TablesConfig
from gnnpipe.errors import DataError, UserError, shown
from gnnpipe.graph.sources.raw import RawGraph
from gnnpipe.graph.sources.tables.arrow import arrow, failures
from gnnpipe.graph.sources.tables.edges import EdgeArrays, collect_ids, goes_one_way, read_edges
from gnnpipe.graph.sources.tables.entries import read_entries
from gnnpipe.graph.sources.tables.features import Feature, encodings, plan_features, read_features
from gnnpipe.graph.sources.tables.find import find_tables
from gnnpipe.graph.sources.tables.ids import Ids, TextIds, TextIdsError, looks_like_text, make_ids
from gnnpipe.graph.sources.tables.labels import case_notes, read_labels, read_splits
from gnnpipe.graph.sources.tables.names import usual_ends
from gnnpipe.graph.sources.tables.nodes import Rows, read_nodes
from gnnpipe.graph.sources.tables.roles import EdgeTable, Layout
from gnnpipe.graph.sources.tables.sets import new_set
from gnnpipe.graph.sources.tables.table import Table
from gnnpipe.system.resources import cores
from gnnpipe.system.steps import Say


def read_tables(source: Path, config: TablesConfig, scratch: Path, say: Say) -> RawGraph:
    """Read a graph from CSV, TSV or Parquet files.

    Args:
        source: a list of edges, or a folder with tables of edges, nodes and features.
        config: which file and which column means what.
        scratch: folder for files of edges and features, which the arrays returned are mapped from. It must
            last as long as they do.
        say: shows a line, such as a guess of what a column means.

    Raises:
        ConfigError: a flag names a file or a column that is not there.
        DataError: a file can't be read, a cell is damaged, or a column can't be guessed; the message names
            file, line and column.
    """
    arrow().set_cpu_count(cores())
    try:
        return _read(source, config, scratch, say)
    except UserError:
        raise
    except failures() as error:
        raise DataError(f"{source.name}: it can't be read ({shown(str(error))})") from None


def _read(source: Path, config: TablesConfig, scratch: Path, say: Say) -> RawGraph:
    layout = find_tables(source, config, say)
    text = looks_like_text(_id_columns(layout))
    if not text:
        try:
            return _read_layout(layout, config, scratch, say, is_text=False)
        except TextIdsError as found:
            text = str(found)
    say(f"ids are text, such as {text}")
    return _read_layout(layout, config, scratch, say, is_text=True)


def _id_columns(layout: Layout) -> list[tuple[Table, str]]:
    """Each column that names nodes."""
    edges = layout.edges
    return [
        (edges.table, edges.source),
        (edges.table, edges.target),
        *((nodes.table, nodes.id) for nodes in layout.nodes),
        *((entries.table, entries.id) for entries in layout.entries),
    ]


def _read_layout(layout: Layout, config: TablesConfig, scratch: Path, say: Say, *, is_text: bool) -> RawGraph:
    """Read all tables; raises TextIdsError where ids are text though ``is_text`` is False."""
    notes = list(layout.notes)
    plans = plan_features(layout.nodes, config)
    for nodes, plan in zip(layout.nodes, plans, strict=True):
        if line := encodings(nodes.table, plan):
            say(line)
    listed, rows = read_nodes(layout.nodes, is_text=is_text)
    ids = _all_ids(layout, listed, config, is_text=is_text)
    name = "text" if is_text else "whole"
    _check_header(layout.edges, ids, config)
    edges = read_edges(layout.edges, ids, config.unknown, scratch, name)
    notes += _edge_notes(layout.edges.table.name, edges, len(ids), config, say)
    num_listed = len(listed) if listed is not None else 0
    if listed is not None and len(ids) > num_listed:
        notes.append(f"nodes: {len(ids) - num_listed:,} are in no node table, and added without a label")
    labels = read_labels(layout.nodes, rows, ids, config.task)
    notes += [] if labels is None else case_notes(labels.class_names)
    return RawGraph(
        edges.index,
        _features(layout, rows, ids, num_listed, plans, config, scratch / f"{name}-features", notes),
        labels.values if labels else None,
        read_splits(layout.nodes, rows, len(ids)),
        tuple(notes),
        weight=edges.weight,
        num_nodes=len(ids),
        ids=ids.node_ids(),
        class_names=labels.class_names if labels else (),
        task=labels.task if labels else None,
        edge_attr=edges.attr,
        edge_type=edges.type,
        edge_type_names=edges.type_names,
    )


def _edge_notes(table: str, edges: EdgeArrays, num_nodes: int, config: TablesConfig, say: Say) -> list[str]:
    """Say how many edges were read; a note of those left out. Raises DataError where there is no row."""
    if not edges.index.shape[1] and not edges.dropped:
        raise DataError(f"{table}: it names columns, but has no rows")
    say(f"{table}: {edges.index.shape[1]:,} edges between {num_nodes:,} nodes")
    asked = isinstance(config, ImportConfig) and config.undirected
    if not asked and goes_one_way(edges.index):
        say(f"{table}: no edge has its reverse; if edges have no direction, give --undirected")
    if not edges.dropped:
        return []
    return [f"{table}: {edges.dropped:,} edges have an end in no node table, and are left out"]


def _check_header(edges: EdgeTable, ids: Ids, config: TablesConfig) -> None:
    """Refuse a list of edges without a header whose first edge would be taken for one."""
    is_text_file = edges.table.parts[0].dialect is not None
    if not isinstance(ids, TextIds) or config.header != "auto" or not is_text_file:
        return
    if usual_ends((edges.source, edges.target)):
        return
    ends = arrow().array([edges.source, edges.target], arrow().large_string())
    is_node = ids.find(ends) >= 0
    if is_node.any():
        name = shown((edges.source, edges.target)[int(is_node.argmax())])
        raise DataError(
            f"{edges.table.name}: its first line seems to be an edge, as '{name}' is a node; give --header "
            "no, or --header yes if it names the columns"
        )


def _all_ids(layout: Layout, listed: Ids | None, config: TablesConfig, *, is_text: bool) -> Ids:
    """Those of the node tables, and where they do not have to list all, the others in ascending order."""
    if listed is not None and config.unknown != "add":
        return listed
    edges = layout.edges
    found = new_set(is_text=is_text)
    collect_ids(edges.table, (edges.source, edges.target), found, listed)
    for entries in layout.entries:
        collect_ids(entries.table, (entries.id,), found, listed)
    more = found.result()
    return make_ids(more, is_text=is_text) if listed is None else listed.with_more(more)


def _features(
    layout: Layout, rows: list[Rows], ids: Ids, num_listed: int, plans: list[list[Feature]],
    config: TablesConfig, path: Path, notes: list[str],
) -> np.ndarray | sp.csr_matrix | None:  # fmt: skip
    """Features in columns, in long form, or both beside each other."""
    wide = read_features(layout.nodes, rows, plans, ids, num_listed, path, notes)
    if not layout.entries or config.feature_columns == "none":
        return wide
    long = [read_entries(entries, ids, config.unknown, notes) for entries in layout.entries]
    if len(long) == 1 and wide is None:
        return long[0]
    return sp.hstack([*long, *([] if wide is None else [sp.csr_matrix(wide)])], format="csr")
