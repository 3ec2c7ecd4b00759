"""Which files hold edges, nodes and features."""

from __future__ import annotations

from pathlib import Path

from gnnpipe.config.importing import TablesConfig
from gnnpipe.errors import ConfigError, DataError, shown
from gnnpipe.graph.sources.tables.columns import edge_table, entry_table, has_ends, id_of, node_tables, unused
from gnnpipe.graph.sources.tables.names import listed
from gnnpipe.graph.sources.tables.roles import Layout
from gnnpipe.graph.sources.tables.table import Part, Table, is_parquet, open_part
from gnnpipe.graph.sources.tables.text import ENDINGS, has_ending, unpacked
from gnnpipe.system.steps import Say

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
        edges, others = _sort(_tables_in(source, config, taken, notes), config, source, notes)
    else:
        edges, others = _table(source, config), []
    rest = [*named, *others]
    entries = tuple(each for table in rest if (each := entry_table(table, config)))
    wide = [table for table in rest if not entry_table(table, config)]
    found = edge_table(edges, config, say)
    notes += unused(found)
    for each in entries:
        value = f", {each.value} -> value" if each.value else ", every value 1"
        say(f"{each.table.name}: {each.id} -> node, {each.feature} -> feature{value} (guessed)")
    nodes = node_tables(wide, config, say, has_entries=bool(entries), notes=notes)
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
        elif has_ending(path):
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
) -> tuple[Table, list[Table]]:
    """The table of edges, and those of nodes and features; the others are named in ``notes``."""
    edges = _edge_lists(tables, config)
    if not edges:
        raise _no_edges(folder, tables, notes)
    others = [table for table in tables if table not in edges]
    used = [table for table in others if entry_table(table, config) or id_of(table, config)]
    if not used and len(others) > 1:
        used = others  # their only common column may be the id
    notes += [
        f"{table.name}: not used: its columns ({listed(table.columns)}) name no node; --id says which does"
        for table in others
        if table not in used
    ]
    return _joined([part for table in edges for part in table.parts]), used


def _edge_lists(tables: list[Table], config: TablesConfig) -> list[Table]:
    """Tables with known columns for the ends; without any, lists without a header, which have no names."""
    found = [table for table in tables if has_ends(table, config)]
    return found or [table for table in tables if table.columns[:2] == ("0", "1") and not config.id]


def _no_edges(folder: Path, tables: list[Table], notes: list[str]) -> DataError:
    found = "; ".join(f"{table.name} ({listed(table.columns)})" for table in tables) or "no table"
    if notes:  # such as a list of edges that is damaged
        found += f"; {'; '.join(notes[:3])}"
    return DataError(
        f"{folder.name}: no file has columns that are known for the ends of edges; found {found}; say "
        "which they are with --source and --target"
    )
