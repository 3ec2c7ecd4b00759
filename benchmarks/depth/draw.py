"""Draw depth.png, accuracy by depth, and write the tables into README.md, from result.json alone.

python -m benchmarks.depth.draw
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt

from benchmarks.depth import tables
from benchmarks.depth.plans import DEPTHS, LINES, Line
from benchmarks.depth.results import Results
from benchmarks.depth.tables import cells

HERE = Path(__file__).parent
COLOURS = ("#4c72b0", "#dd8452", "#55a868", "#c44e52", "#8172b3", "#937860", "#64b5cd", "#8c8c8c")


def main() -> None:
    """Draw a panel for each graph, and write the tables."""
    results = Results.read()
    tables.write(HERE / "README.md", tables.text(results))
    graphs = list(dict.fromkeys(line.graph for line in LINES if cells(results, line)))
    figure, axes = plt.subplots(
        1, len(graphs), figsize=(10, 4.6), sharey=True, layout="constrained", squeeze=False
    )
    for axis, graph in zip(axes[0], graphs, strict=True):
        _panel(axis, graph, [line for line in LINES if line.graph == graph], results)
    axes[0][0].set_ylabel("test accuracy, %")
    handles = {
        text: line for axis in axes[0] for line, text in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=4, fontsize=10, frameon=False
    )
    figure.savefig(HERE / "depth.png", dpi=110)


def _panel(axis: Any, graph: str, lines: list[Line], results: Results) -> None:
    """Lines of one graph; an error bar is a standard error over seeds."""
    titles = list(dict.fromkeys(line.title for line in LINES))
    for line in lines:
        found = cells(results, line)
        if len(found) < 2:  # a line needs two depths; the tables have the others
            continue
        axis.errorbar(
            [DEPTHS.index(depth) for depth in found],
            [cell.mean for cell in found.values()],
            [cell.error or float("nan") for cell in found.values()],  # one seed has no bar
            label=line.title,
            color=COLOURS[titles.index(line.title.removesuffix(", sampled")) % len(COLOURS)],
            linestyle="--" if line.sampled else "-",
            marker="o",
            markersize=4,
            capsize=3,
        )
    axis.set_title(f"{graph.capitalize()}, {NODES[graph]:,} nodes", fontsize=11)
    axis.set_xticks(range(len(DEPTHS)), [str(depth) for depth in DEPTHS])
    axis.set_xlabel("layers")
    axis.axvline(DEPTHS.index(16), color="#bbbbbb", linestyle=":")  # hops that decide a node's class
    axis.grid(alpha=0.3)


NODES = {"huangpu": 5268, "pasadena": 12409}


if __name__ == "__main__":
    main()
