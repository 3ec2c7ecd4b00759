"""Which files hold edges, nodes and features, and what their columns mean."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gnnpipe.config.importing import TablesConfig
from gnnpipe.errors import ConfigError, DataError, shown
from gnnpipe.graph.sources.tables import names
from gnnpipe.graph.sources.tables.names import NONE, listed, no_column, usual, usual_ends
from gnnpipe.graph.sources.tables.roles import Edges, Entries, Layout, Nodes
from gnnpipe.graph.sources.tables.table import Part, Table, is_parquet, open_part
from gnnpipe.graph.sources.tables.text import unpacked

Say = Callable[[str], None]
ENDINGS = (".csv", ".tsv", ".tab", ".txt", ".edges", ".edgelist", ".el", ".parquet", ".pq")
MOST_FILES = 100_000


def find_tables(source: Path, config: TablesConfig, say: Say) -> Layout:
    """Open the files and say which column means what.

    Raises:
        ConfigError: a flag names a column or a file that is not there.
        DataError: a file can't be read, or its columns can't be guessed.
    """
    named = [_table(_named(name, source), config) for name in config.nodes]
    notes: list[str] = []
    if source.is_dir():
        taken = {part.path.resolve() for table in named for part in table.parts}
        edges, others, notes = _sort(_tables_in(source, config, taken, notes), config, source, notes)
    else:
        edges, others = _table(source, config), []
    rest = [*named, *others]
    entries = tuple(each for table in rest if (each := _entries(table, config)))
    wide = [table for table in rest if not _entries(table, config)]
    found = _edges(edges, config, say)
    notes += _unused(found)
    for each in entries:
        value = f", {each.value} -> value" if each.value else ", every value 1"
        say(f"{each.table.name}: {each.id} -> node, {each.feature} -> feature{value} (guessed)")
    nodes = _node_tables(wide, config, say, has_entries=bool(entries), notes=notes)
    return Layout(found, nodes, entries, tuple(notes))


def _named(name: str, source: Path) -> Path:
    """A file of ``--nodes``: as given, or beside the edges."""
    beside = (source if source.is_dir() else source.parent) / name
    path = Path(name) if Path(name).exists() or not beside.exists() else beside
    if not path.exists():
        raise ConfigError(f"nodes: '{shown(name)}' is not there")
    return path


def _table(path: Path, config: TablesConfig) -> Table:
    """A file, or a folder of Parquet files with the same columns."""
    if not path.is_dir():
        return Table((open_part(path, config.header),))
    files = [file for file in _visible(path) if is_parquet(file)]
    if not files:
        raise DataError(f"{path.name}: the folder holds no Parquet files")
    return _joined([open_part(file, config.header) for file in files])


def _joined(parts: list[Part]) -> Table:
    """Files as one table; raises DataError unless all have the same columns."""
    for part in parts[1:]:
        if part.columns != parts[0].columns:
            raise DataError(
                f"{part.path.name} and {parts[0].path.name} have different columns ({listed(part.columns)}; "
                f"{listed(parts[0].columns)}), so they are no parts of one table; give the one to be read"
            )
    return Table(tuple(parts))


def _visible(folder: Path) -> list[Path]:
    """Entries of a folder by name, without hidden ones and marks such as ``_SUCCESS``."""
    found = sorted(path for path in folder.iterdir() if not path.name.startswith((".", "_")))
    if len(found) > MOST_FILES:
        raise DataError(
            f"{folder.name}: it holds {len(found):,} files, and more than {MOST_FILES:,} are not read"
        )
    return found


def _tables_in(folder: Path, config: TablesConfig, taken: set[Path], notes: list[str]) -> list[Table]:
    """All tables of a folder; Parquet files with the same columns are one, and so is a folder of them."""
    tables, by_columns = [], dict[tuple[str, ...], list[Part]]()
    for path in _visible(folder):
        if path.resolve() in taken:
            continue
        if path.is_dir():
            if any(map(is_parquet, _visible(path))):
                tables.append(_table(path, config))
        elif unpacked(path).endswith(ENDINGS):
            try:
                part = open_part(path, config.header)
            except DataError as error:
                if unpacked(path).endswith(".txt"):  # such as a README
                    notes.append(f"not used: {error}")
                    continue
                raise
            key = part.columns if part.dialect is None else (path.name,)
            by_columns.setdefault(key, []).append(part)
        else:
            notes.append(
                f"{path.name}: not used: it is no table (known by {', '.join(ENDINGS)}, also with .gz)"
            )
    return [*tables, *(Table(tuple(parts)) for parts in by_columns.values())]


def _sort(
    tables: list[Table], config: TablesConfig, folder: Path, notes: list[str]
) -> tuple[Table, list[Table], list[str]]:
    """The table of edges, those of nodes and features, and notes that name the others."""
    edges = [table for table in tables if _has_ends(table, config)]
    others = [table for table in tables if table not in edges]
    if not edges:  # a list without a header has no names to go by
        edges = [table for table in others if table.columns[:2] == ("0", "1") and not config.id]
        others = [table for table in others if table not in edges]
    if not edges:
        found = "; ".join(f"{table.name} ({listed(table.columns)})" for table in tables) or "no table"
        if notes:  # such as a list of edges that is damaged
            found += f"; {'; '.join(notes[:3])}"
        raise DataError(
            f"{folder.name}: no file has columns that are known for the ends of edges; found {found}; say "
            "which they are with --source and --target"
        )
    used = [table for table in others if _entries(table, config) or _id_of(table, config)]
    if not used and len(others) > 1:
        used = others  # their only common column may be the id
    notes += [
        f"{table.name}: not used: its columns ({listed(table.columns)}) name no node; --id says which does"
        for table in others
        if table not in used
    ]
    return _joined([part for table in edges for part in table.parts]), used, notes


def _has_ends(table: Table, config: TablesConfig) -> bool:
    if config.source or config.target:
        return all(name in table.columns for name in (config.source, config.target) if name)
    return usual_ends(table.columns) is not None


def _edges(table: Table, config: TablesConfig, say: Say) -> Edges:
    columns = table.columns
    for flag, name in (("source", config.source), ("target", config.target)):
        if name and name not in columns:
            raise no_column(flag, name, columns)
    source, target = config.source, config.target
    if not (source and target):
        known = usual_ends(columns)
        if known is None and len(columns) >= 2 and (columns[0] == "0" or len(columns) == 2):
            known = columns[0], columns[1]
        guess = known or ("", "")
        source = source or next((name for name in guess[:1] if name != target), "")
        target = target or next((name for name in guess[1:] if name != source), "")
    if not source or not target or source == target:
        raise DataError(
            f"{table.name}: its columns ({listed(columns)}) are not known for the ends of edges; say which "
            "they are with --source and --target, and --header no if the first line is a row"
        )
    weight = _weight(table, config, (source, target))
    guessed = not (config.source and config.target) or (weight and not config.weight)
    words = f"{source} -> source, {target} -> target" + (f", {weight} -> weight" if weight else "")
    say(f"{table.name}: {words}{' (guessed)' if guessed else ''}")
    return Edges(table, source, target, weight)


def _weight(table: Table, config: TablesConfig, ends: tuple[str, str]) -> str | None:
    if config.weight == NONE:
        return None
    if config.weight:
        if config.weight not in table.columns:
            raise no_column("weight", config.weight, table.columns)
        return config.weight
    return next(iter(usual([name for name in table.columns if name not in ends], names.WEIGHTS)), None)


def _unused(edges: Edges) -> list[str]:
    used = {edges.source, edges.target, edges.weight}
    unused = [name for name in edges.table.columns if name not in used]
    cure = "" if edges.weight else "; --weight takes one as the edges' weight"
    return [f"{edges.table.name}: not used: column {listed(unused)}{cure}"] if unused else []


def _entries(table: Table, config: TablesConfig) -> Entries | None:
    """The table as features in long form; None if it is something else."""
    columns = table.columns
    node = config.id if config.id in columns else next(iter(usual(columns, names.IDS)), None)
    rest = [name for name in columns if name != node]
    feature = next(iter(usual(rest, names.FEATURES)), None)
    if node is None or feature is None or len(columns) > 3:
        return None
    if len(columns) == 2:
        return Entries(table, node, feature, None) if names.plain(feature).endswith("id") else None
    value = next(iter(usual([name for name in rest if name != feature], names.VALUES)), None)
    return Entries(table, node, feature, value) if value else None


def _id_of(table: Table, config: TablesConfig) -> str | None:
    if config.id:
        return config.id if config.id in table.columns else None
    return next(iter(usual(table.columns, names.IDS)), None)


def _node_tables(
    tables: list[Table], config: TablesConfig, say: Say, *, has_entries: bool, notes: list[str]
) -> tuple[Nodes, ...]:
    ids = [_node_id(table, tables, config) for table in tables]
    free = [[name for name in table.columns if name != id_] for table, id_ in zip(tables, ids, strict=True)]
    everything = list(dict.fromkeys(name for columns in free for name in columns))
    labels = _labels(everything, config)
    split = _split(everything, labels, config)
    for name in (*labels, split):
        holders = [table.name for table, columns in zip(tables, free, strict=True) if name in columns]
        if name and len(holders) > 1:
            raise DataError(
                f"column {shown(name)} is in {' and in '.join(holders)}; take it out of one of them"
            )
    features = _features(everything, labels, split, config, notes, has_entries=has_entries)
    found = []
    for table, id_, columns in zip(tables, ids, free, strict=True):
        mine = Nodes(
            table, id_, tuple(name for name in columns if name in features),
            tuple(name for name in labels if name in columns), split if split in columns else None,
        )  # fmt: skip
        found.append(mine)
        guessed = not config.id or (mine.labels and not config.label) or (mine.split and not config.split)
        say(f"{table.name}: {_meaning(mine)}{' (guessed)' if guessed else ''}")
    twice = [name for name in features if sum(name in each.features for each in found) > 1]
    if twice:
        raise DataError(f"column {shown(twice[0])} is in several node tables; rename it in one of them")
    return tuple(found)


def _meaning(nodes: Nodes) -> str:
    words = [f"{nodes.id} -> id"]
    if nodes.labels:
        words.append(f"{listed(nodes.labels)} -> label")
    if nodes.split:
        words.append(f"{nodes.split} -> split")
    if nodes.features:
        words.append(f"{listed(nodes.features)} -> features")
    return ", ".join(words)


def _node_id(table: Table, tables: list[Table], config: TablesConfig) -> str:
    if config.id and config.id not in table.columns:
        raise no_column("id", config.id, table.columns)
    known = _id_of(table, config)
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
    if len(known) > 1:
        raise DataError(f"columns {listed(known)} may all be the label; say which is with --label")
    return tuple(known)


def _split(columns: list[str], labels: tuple[str, ...], config: TablesConfig) -> str | None:
    if config.split == NONE:
        return None
    if config.split:
        if config.split not in columns:
            raise no_column("split", config.split, columns)
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
    if has_entries and free:
        notes.append(
            f"not used: columns {listed(free)}, as features are in long form; --feature-columns adds columns"
        )
    return set() if has_entries else set(free)
