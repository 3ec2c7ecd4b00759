"""Statistics of a graph folder as lines of text."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from gnnpipe.errors import shown
from gnnpipe.files.typed_json import json_text
from gnnpipe.graph.folder.form import GraphFile
from gnnpipe.graph.folder.read import read_graph_file
from gnnpipe.graph.folder.report import (
    EdgeFacts,
    FeatureFacts,
    GraphReport,
    LabelFacts,
    SplitFacts,
)
from gnnpipe.system.words import readable_bytes

BAR = 40
"""Characters of the longest bar."""
DUPLICATES = {"keep": "kept", "sum": "summed", "drop": "dropped"}


def print_graph(path: Path, *, as_json: bool) -> int:
    """Print the statistics of a graph folder, as lines or JSON; return the exit code; raises DataError."""
    if as_json:
        sys.stdout.write(json_text(read_graph_file(path).report, indent=2) + "\n")
    else:
        sys.stdout.write("\n".join(graph_lines(path)) + "\n")
    return 0


def graph_lines(path: Path) -> list[str]:
    """Statistics of a graph folder, for people; raises DataError where it holds no graph."""
    content = read_graph_file(path)
    source = f", from {shown(content.source)}" if content.source else ""
    lines = [f"{shown(str(path))}: {shown(content.name)}{source}"]
    for title, text in _rows(content):
        lines.append(f"  {title:<11}{text}")
    lines += [f"note: {shown(note, 500)}" for note in content.notes]
    return lines


def _rows(content: GraphFile) -> Iterator[tuple[str, str]]:
    report = content.report
    ids = {None: "", "numbers": "; ids are numbers", "text": "; ids are text"}[report.ids]
    yield "nodes", f"{report.num_nodes:,}; {report.edges.num_isolated:,} without edges{ids}"
    yield from _edge_rows(report.edges)
    yield from _histogram(report.edges.histogram)
    yield from _label_rows(report.labels, report)
    yield from _feature_rows(report.features)
    yield "split", _split(report.splits)
    took = f"written in {report.seconds:,.1f} s"
    yield "on disk", f"{readable_bytes(report.bytes_on_disk)}; {took}; {shown(content.written_by)}"


def _edge_rows(edges: EdgeFacts) -> Iterator[tuple[str, str]]:
    given = f" of {edges.num_given:,} given" if edges.num_given != edges.num_edges else ""
    added = ", with the reverse of each" if edges.reversed else ""
    kind = "directed" if edges.directed else "each has its reverse (undirected)"
    yield "edges", f"{edges.num_edges:,}{given}{added}; {kind}"
    if edges.num_loops:
        yield "self loops", f"{edges.num_loops:,}, {'kept' if edges.loops == 'keep' else 'dropped'}"
    else:
        yield "self loops", "none"
    repeated = f"{edges.num_repeated:,}, {DUPLICATES[edges.duplicates]}" if edges.num_repeated else "none"
    yield "duplicates", repeated
    if edges.weights is None:
        yield "weights", "none"
    else:
        yield "weights", f"{edges.weights[0]:g} to {edges.weights[1]:g}"
    if edges.edge_dim or edges.num_types:
        yield "edge data", f"{edges.edge_dim:,} columns of features; {edges.num_types:,} types"
    least, low, middle, high, top, most = (f"{number:,}" for number in _six(edges.in_degree))
    quartiles = f"quartiles {low}, {middle}, {high}"
    yield "degree", f"{least} to {most}; {quartiles}; 99 % have at most {top} (edges that come in)"


def _six(numbers: Sequence[int]) -> list[int]:
    """Six numbers, whatever a file holds."""
    return [*numbers, 0, 0, 0, 0, 0, 0][:6]


def _histogram(counts: Sequence[int]) -> Iterator[tuple[str, str]]:
    longest = max([1, *counts])
    for step, count in enumerate(counts[:64]):
        low, high = (1 << step) >> 1, (1 << step) - 1
        name = f"{low:,}" if low >= high else f"{low:,} to {high:,}"
        bar = "#" * max(round(BAR * count / longest), 1 if count else 0)
        yield "", f"{name:>24} {count:>13,} {bar}".rstrip()


def _label_rows(labels: LabelFacts | None, report: GraphReport) -> Iterator[tuple[str, str]]:
    if labels is None:
        yield "labels", "none"
        return
    without = f"; {labels.num_unlabelled:,} nodes have none"
    if labels.kind == "regression":
        low, high = labels.values or (float("nan"), float("nan"))
        columns = f"{labels.num_classes:,} columns of values" if labels.num_classes > 1 else "values"
        yield "labels", f"{columns}, {low:g} to {high:g}{without}"
    else:
        what = "classes" if labels.kind == "classes" else "labels that a node may have"
        yield "labels", f"{labels.num_classes:,} {what}{without}"
        for size in labels.classes:
            yield "", f"{shown(size.name, 40):>24} {size.num_nodes:>13,}"
        if labels.num_classes > len(labels.classes):
            yield "", f"{'others':>24} {labels.num_classes - len(labels.classes):>13,} classes, smaller"
    if report.edges.homophily is not None:
        yield "homophily", f"{report.edges.homophily:.3f} of the edges join nodes of one class"


def _feature_rows(features: FeatureFacts | None) -> Iterator[tuple[str, str]]:
    if features is None:
        yield "features", "none"
        return
    stored = "sparse " if features.sparse else ""
    yield (
        "features",
        (
            f"{features.num_features:,} columns, {stored}{shown(features.dtype)}; "
            f"{features.density:.1%} of the entries are not zero"
        ),
    )
    for number, columns, what in (
        (features.num_constant, features.constant, "constant"),
        (features.num_not_finite, features.not_finite, "with NaN or infinite entries"),
    ):
        if number:
            more = ", ..." if number > len(columns) else ""
            yield "", f"{number:,} {what}: column {', '.join(map(str, columns))}{more}"


def _split(splits: SplitFacts | None) -> str:
    if splits is None:
        return "none; training makes a seeded one"
    first = f"{splits.train:,} train, {splits.val:,} val, {splits.test:,} test"
    return first if splits.num_splits == 1 else f"{splits.num_splits:,} splits; the first: {first}"
