"""Notes of a graph folder: lines that say what was left out or changed."""

from __future__ import annotations

from collections.abc import Iterator

from gnnpipe.errors import shown
from gnnpipe.graph.folder.report import EdgeFacts

MOST_NOTES, MOST_NOTE = 100, 500
"""Notes that graph.yaml keeps, and characters of each."""


def edge_notes(
    facts: EdgeFacts, num_rounded: int, num_rounded_features: int, *, weighted: bool
) -> Iterator[str]:
    """Notes about changes to the edges.

    Args:
        facts: what was counted.
        num_rounded: weights that float32 does not hold exactly.
        num_rounded_features: features of edges that it does not hold exactly.
        weighted: whether the source has weights.
    """
    if num_rounded:
        yield f"weight: {num_rounded:,} weights are rounded to float32"
    if num_rounded_features:
        yield f"edge_attr: {num_rounded_features:,} entries are rounded to float32"
    if facts.num_loops and facts.loops == "drop":
        yield f"edges: {facts.num_loops:,} self loops are left out"
    if facts.reversed:
        has = {"weight": weighted, "features": facts.edge_dim, "type": facts.num_types}
        takes = " and ".join(name for name, there in has.items() if there)
        takes = f", with its {takes}" if takes else ""
        yield f"edges: the reverse of each is added{takes}, unless there is an edge the other way already"
    if facts.num_repeated:
        yield f"edges: {facts.num_repeated:,} of {facts.num_given:,} repeat others; {_fate(facts, weighted)}"


def _fate(facts: EdgeFacts, weighted: bool) -> str:
    """Clause about the edges that repeat others."""
    if facts.duplicates == "sum":
        return "the weight of one edge is the sum of theirs" if weighted else "their number is a weight now"
    if facts.duplicates == "drop":
        return "the first of each is kept"
    if weighted or facts.edge_dim or facts.num_types:
        return "each stays an edge of its own"
    return "each counts once" if facts.reversed else "each counts as often as it occurs"


def shortened(notes: list[str]) -> tuple[str, ...]:
    """Notes that graph.yaml can hold."""
    kept = [shown(note, MOST_NOTE) for note in notes[:MOST_NOTES]]
    if len(notes) > MOST_NOTES:
        kept.append(f"{len(notes) - MOST_NOTES:,} more notes were printed by the import")
    return tuple(kept)
