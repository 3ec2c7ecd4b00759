"""The meaning of columns: named by flags, or guessed from the names that columns usually have."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace

from gnnpipe.config.importing import TablesConfig
from gnnpipe.errors import DataError, shown
from gnnpipe.graph.sources.tables import names
from gnnpipe.graph.sources.tables.names import NONE, check_column, listed, usual, usual_ends
from gnnpipe.graph.sources.tables.roles import EdgeTable, EntryTable, NodeTable
from gnnpipe.graph.sources.tables.table import Table
from gnnpipe.system.steps import Say


def has_ends(table: Table, config: TablesConfig) -> bool:
    """Whether a table has the columns of an edge's two ends."""
    if config.source or config.target:
        return all(name in table.columns for name in (config.source, config.target) if name)
    return usual_ends(table.columns) is not None


def edge_table(table: Table, config: TablesConfig, say: Say) -> EdgeTable:
    """The table as edges; says which columns are guessed.

    Raises:
        ConfigError: a flag names a column that is not there.
        DataError: the columns of the ends can't be guessed.
    """
    source, target = _ends(table, config)
    weight = _weight(table, config, (source, target))
    guessed = not (config.source and config.target) or (weight and not config.weight)
    edges = _with_data(EdgeTable(table, source, target, weight), config)
    words = f"{source} -> source, {target} -> target" + (f", {weight} -> weight" if weight else "")
    words += f", {listed(edges.features)} -> features of edges" if edges.features else ""
    words += f", {edges.type} -> type of edges" if edges.type else ""
    say(f"{table.name}: {words}{' (guessed)' if guessed else ''}")
    return edges


def _with_data(edges: EdgeTable, config: TablesConfig) -> EdgeTable:
    """The table with the columns of features and types that flags name."""
    free = [name for name in edges.table.columns if name not in (edges.source, edges.target, edges.weight)]
    kind = None if config.edge_type in (None, NONE) else config.edge_type
    check_column("edge-type", kind, free)
    given = config.edge_features
    features = () if given in (None, NONE) else names.chosen("edge-features", given or "", free)
    return replace(edges, features=tuple(name for name in features if name != kind), type=kind)


def _ends(table: Table, config: TablesConfig) -> tuple[str, str]:
    """The columns of sources and targets."""
    columns, source, target = table.columns, config.source, config.target
    check_column("source", source, columns)
    check_column("target", target, columns)
    if not (source and target):
        first, second = _guessed_ends(columns)
        source = source or (first if first != target else "")
        target = target or (second if second != source else "")
    if not source or not target or source == target:
        raise DataError(
            f"{table.name}: its columns ({listed(columns)}) are not known for the ends of edges; say which "
            "they are with --source and --target, and --header no if the first line is a row"
        )
    return source, target


def _guessed_ends(columns: tuple[str, ...]) -> tuple[str, str]:
    """A usual pair of names, or the first two columns of a list of edges; empty if there is neither."""
    known = usual_ends(columns)
    if known is None and len(columns) >= 2 and (columns[0] == "0" or len(columns) == 2):
        known = columns[0], columns[1]
    return known or ("", "")


def _weight(table: Table, config: TablesConfig, ends: tuple[str, str]) -> str | None:
    if config.weight == NONE:
        return None
    check_column("weight", config.weight, table.columns)
    rest = [name for name in table.columns if name not in ends]
    return config.weight or next(iter(usual(rest, names.WEIGHTS)), None)


def unused(edges: EdgeTable) -> list[str]:
    """A note that names the columns of a table of edges that are not used."""
    used = {edges.source, edges.target, edges.weight, *edges.features, edges.type}
    others = [name for name in edges.table.columns if name not in used]
    cure = "" if edges.weight else "; --weight takes one as the edges' weight"
    cure += "" if edges.features else "; --edge-features takes some as their features"
    return [f"{edges.table.name}: not used: column {listed(others)}{cure}"] if others else []


def entry_table(table: Table, config: TablesConfig) -> EntryTable | None:
    """The table as features in long form; None if it is something else."""
    columns = table.columns
    node = config.id if config.id in columns else next(iter(usual(columns, names.IDS)), None)
    rest = [name for name in columns if name != node]
    feature = next(iter(usual(rest, names.FEATURES)), None)
    if node is None or feature is None or len(columns) > 3:
        return None
    if len(columns) == 2:
        return EntryTable(table, node, feature, None) if names.plain(feature).endswith("id") else None
    value = next(iter(usual([name for name in rest if name != feature], names.VALUES)), None)
    return EntryTable(table, node, feature, value) if value else None


def id_of(table: Table, config: TablesConfig) -> str | None:
    """The column that names nodes, by its flag or by its name; None if there is none."""
    if config.id:
        return config.id if config.id in table.columns else None
    return next(iter(usual(table.columns, names.IDS)), None)


def node_tables(
    tables: list[Table], config: TablesConfig, say: Say, *, has_entries: bool, notes: list[str]
) -> tuple[NodeTable, ...]:
    """The tables as node tables; says which columns are guessed.

    Args:
        tables: tables that hold neither edges nor features in long form.
        config: flags that name columns.
        say: shows a line.
        has_entries: whether there are features in long form.
        notes: gets a line for columns that are not used.

    Raises:
        ConfigError: a flag names a column that is not there.
        DataError: a column can't be guessed, or is in several tables.
    """
    ids = [_node_id(table, tables, config) for table in tables]
    free = [_others(table, id_) for table, id_ in zip(tables, ids, strict=True)]
    everything = list(dict.fromkeys(itertools.chain.from_iterable(free)))
    labels = _labels(everything, config)
    split = _split(everything, labels, config)
    _check_once([*labels, split], tables, free)
    features = _features(everything, labels, split, config, notes, has_entries=has_entries)
    found = tuple(
        _node_table(table, id_, labels, split, features) for table, id_ in zip(tables, ids, strict=True)
    )
    for nodes in found:
        say(f"{nodes.table.name}: {_meaning(nodes)}{' (guessed)' if _is_guessed(nodes, config) else ''}")
    twice = [name for name in features if sum(name in nodes.features for nodes in found) > 1]
    if twice:
        raise DataError(f"column {shown(twice[0])} is in several node tables; rename it in one of them")
    return found


def _others(table: Table, id_: str) -> list[str]:
    return [name for name in table.columns if name != id_]


def _check_once(wanted: list[str | None], tables: list[Table], free: list[list[str]]) -> None:
    """Raise DataError where several tables have a column of labels or of the split."""
    for name in filter(None, wanted):
        holders = [table.name for table, columns in zip(tables, free, strict=True) if name in columns]
        if len(holders) > 1:
            raise DataError(
                f"column {shown(name)} is in {' and in '.join(holders)}; take it out of one of them"
            )


def _node_table(
    table: Table, id_: str, labels: tuple[str, ...], split: str | None, features: set[str]
) -> NodeTable:
    columns = _others(table, id_)
    return NodeTable(
        table,
        id_,
        tuple(name for name in columns if name in features),
        tuple(name for name in labels if name in columns),
        split if split in columns else None,
    )


def _is_guessed(nodes: NodeTable, config: TablesConfig) -> bool:
    guesses = (nodes.labels and not config.label, nodes.split and not config.split)
    return not config.id or any(guesses)


def _meaning(nodes: NodeTable) -> str:
    words = [f"{nodes.id} -> id"]
    if nodes.labels:
        words.append(f"{listed(nodes.labels)} -> label")
    if nodes.split:
        words.append(f"{nodes.split} -> split")
    if nodes.features:
        words.append(f"{listed(nodes.features)} -> features")
    return ", ".join(words)


def _node_id(table: Table, tables: list[Table], config: TablesConfig) -> str:
    check_column("id", config.id, table.columns)
    known = id_of(table, config)
    if known:
        return known
    shared = [name for name in table.columns if all(name in other.columns for other in tables)]
    if len(tables) > 1 and len(shared) == 1:
        return shared[0]
    raise DataError(
        f"{table.name}: none of its columns ({listed(table.columns)}) is known to name the node; say which "
        "does with --id"
    )


def _labels(columns: list[str], config: TablesConfig) -> tuple[str, ...]:
    if config.label == NONE:
        return ()
    if config.label:
        return tuple(names.chosen("label", config.label, columns))
    known = usual(columns, names.LABELS)
    if any(names.plain(name) == "x" for name in columns):  # x and y are where a node is
        known = [name for name in known if names.plain(name) != "y"]
    if len(known) > 1:
        raise DataError(f"columns {listed(known)} may all be the label; say which is with --label")
    return tuple(known)


def _split(columns: list[str], labels: tuple[str, ...], config: TablesConfig) -> str | None:
    if config.split == NONE:
        return None
    check_column("split", config.split, columns)
    if config.split:
        return config.split
    known = [name for name in usual(columns, names.SPLITS) if name not in labels]
    if len(known) > 1:
        raise DataError(f"columns {listed(known)} may all be the split; say which is with --split")
    return known[0] if known else None


def _features(
    columns: list[str], labels: tuple[str, ...], split: str | None, config: TablesConfig, notes: list[str],
    *, has_entries: bool,
) -> set[str]:  # fmt: skip
    """Columns of features; those beside features in long form count only where they are asked for."""
    free = [name for name in columns if name not in labels and name != split]
    if config.feature_columns == NONE:
        return set()
    if config.feature_columns:
        return set(names.chosen("feature-columns", config.feature_columns, free))
    rows = [name for name in free if re.fullmatch(r"Unnamed: \d+", name)]
    if rows:
        notes.append(
            f"not used: columns {listed(rows)}, pandas' numbers of rows; --feature-columns adds columns"
        )
        free = [name for name in free if name not in rows]
    if has_entries and free:
        notes.append(
            f"not used: columns {listed(free)}, as features are in long form; --feature-columns adds columns"
        )
    return set() if has_entries else set(free)
