"""Names that columns usually have, and the choice of columns by name or pattern."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from gnnpipe.errors import ConfigError, did_you_mean, shown

NONE = "none"
"""Turns a guess off, as in ``--label none``."""
ENDS = (
    ("source", "target"), ("src", "dst"), ("from", "to"), ("id_1", "id_2"), ("id1", "id2"), ("u", "v"),
    ("node_1", "node_2"), ("node1", "node2"), ("source_id", "target_id"), ("src_id", "dst_id"),
    ("from_id", "to_id"), ("from_node", "to_node"), ("from_node_id", "to_node_id"), ("source", "destination"),
    ("source", "dest"), ("src", "dest"), ("head", "tail"), ("citing", "cited"), ("start_id", "end_id"),
    ("node_id_1", "node_id_2"), ("user_1", "user_2"), ("follower", "followee"), ("src", "tgt"),
)  # fmt: skip
WEIGHTS = ("weight", "edge_weight", "w", "weights")
IDS = (
    "id", "node", "node_id", "user_id", "paper_id", "nid", "node_idx", "vertex", "vertex_id",
    "osmid",
)  # fmt: skip
LABELS = ("label", "target", "y", "class", "labels")
SPLITS = ("split", "fold", "role", "set")
FEATURES = (
    "feature_id", "feature", "feat_id", "feat", "attribute_id", "attribute", "word_id", "word", "term_id",
    "term", "column",
)  # fmt: skip
VALUES = ("value", "val", "count", "weight", "tfidf")


def plain(name: str) -> str:
    """A name without case and marks: ``Node ID`` and ``node_id`` are the same."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def usual(columns: Iterable[str], names: Sequence[str]) -> list[str]:
    """Columns that have one of the usual names, in the order of the names."""
    wanted = [plain(name) for name in names]
    found = [(wanted.index(plain(column)), column) for column in columns if plain(column) in wanted]
    return [column for _, column in sorted(found, key=lambda pair: pair[0])]


def usual_ends(columns: Sequence[str]) -> tuple[str, str] | None:
    """Columns of sources and targets; None where no usual pair is there."""
    by_plain = {plain(column): column for column in reversed(columns)}
    for source, target in ENDS:
        if plain(source) in by_plain and plain(target) in by_plain:
            return by_plain[plain(source)], by_plain[plain(target)]
    return None


def split_names(given: str) -> list[str]:
    """Names separated by commas."""
    return [name.strip() for name in given.split(",") if name.strip()]


def chosen(flag: str, given: str, columns: Sequence[str]) -> list[str]:
    """Columns that names and patterns choose, each once, as in ``f_*,age`` or ``*,!name``.

    Raises:
        ConfigError: a name or pattern fits no column, or none is left.
    """
    patterns = split_names(given)
    # where all take columns out, they take them out of all
    found = dict.fromkeys(columns if patterns and all(map(_takes_out, patterns)) else ())
    for name in patterns:
        matches = _matching(flag, name.removeprefix("!") if _takes_out(name) else name, columns)
        if _takes_out(name):
            found = {column: None for column in found if column not in matches}
        else:
            found.update(dict.fromkeys(matches))
    if not found:
        raise ConfigError(f"{flag}: it names no column; there are {listed(columns)}")
    return list(found)


def _takes_out(name: str) -> bool:
    return name.startswith("!")


def _matching(flag: str, name: str, columns: Sequence[str]) -> list[str]:
    if name in columns:
        return [name]
    pattern = re.compile(".*".join(map(re.escape, name.split("*"))), re.DOTALL)
    matches = [column for column in columns if "*" in name and pattern.fullmatch(column)]
    if not matches:
        raise _no_column(flag, name, columns)
    return matches


def check_column(flag: str, name: str | None, columns: Sequence[str]) -> None:
    """Raise ConfigError where a flag names a column that is not there."""
    if name and name not in columns:
        raise _no_column(flag, name, columns)


def _no_column(flag: str, name: str, columns: Sequence[str]) -> ConfigError:
    hint = did_you_mean(name, columns[:1000])
    return ConfigError(f"{flag}: there is no column '{shown(name)}'{hint}; there are {listed(columns)}")


def listed(columns: Sequence[str]) -> str:
    """Names of columns for a message, the first ones of many."""
    first = ", ".join(shown(column, 40) for column in columns[:12])
    return f"{first} and {len(columns) - 12:,} more" if len(columns) > 12 else first or "none"
