"""Write the table of the scale study into README.md and draw its picture, from result.json alone.

python -m benchmarks.scale.draw
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).parent
KINDS = ("graph", "hybrid", "pipeline")
COLOURS = {"graph": "#4c72b0", "hybrid": "#dd8452", "pipeline": "#55a868", None: "#dddddd"}


def main() -> None:
    cells = json.loads((HERE / "result.json").read_text())["cells"]
    graphs = list(dict.fromkeys(cell["data"] for cell in cells))
    figure, axes = plt.subplots(1, len(graphs), figsize=(6 * len(graphs), 4.2), layout="constrained")
    for axis, graph in zip(axes, graphs, strict=True):
        _panel(axis, graph, [cell for cell in cells if cell["data"] == graph])
    figure.suptitle("Fastest plan by simulation, and its speed over graph parallelism's", fontsize=11)
    figure.savefig(HERE / "winners.png", dpi=120)
    readme = HERE / "README.md"
    text = readme.read_text()
    begin, end = "<!-- table:begin -->", "<!-- table:end -->"
    before, _, rest = text.partition(begin)
    after = rest.partition(end)[2]
    readme.write_text(f"{before}{begin}\n{_table(cells)}\n{end}{after}")


def winner(cell: dict[str, Any]) -> str | None:
    """The kind of the fastest plan that fits."""
    fitting = [kind for kind in KINDS if cell[kind]]
    return min(fitting, key=lambda kind: cell[kind]["seconds"], default=None)


def _panel(axis: Any, graph: str, cells: list[dict[str, Any]]) -> None:
    depths = sorted({cell["layers"] for cell in cells})
    devices = sorted({cell["devices"] for cell in cells})
    for cell in cells:
        kind = winner(cell)
        x, y = devices.index(cell["devices"]), depths.index(cell["layers"])
        axis.add_patch(plt.Rectangle((x - 0.5, y - 0.5), 1, 1, color=COLOURS[kind], ec="white", lw=2))
        axis.text(x, y, _words(cell, kind), ha="center", va="center", fontsize=8)
    axis.set_xlim(-0.5, len(devices) - 0.5)
    axis.set_ylim(-0.5, len(depths) - 0.5)
    axis.set_xticks(range(len(devices)), [f"{number:,}" for number in devices])
    axis.set_yticks(range(len(depths)), depths)
    axis.set_xlabel("GPUs")
    axis.set_ylabel("layers")
    axis.set_title(graph)
    for kind in KINDS:
        axis.scatter([], [], color=COLOURS[kind], marker="s", s=60, label=kind)
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncol=3, frameon=False)


def _words(cell: dict[str, Any], kind: str | None) -> str:
    if kind is None:
        return "none fits"
    seconds = cell[kind]["seconds"]
    text = f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"
    rival = f"{cell['graph']['seconds'] / seconds:.1f} x" if cell["graph"] else "no other"
    return text if kind == "graph" else f"{text}\n{rival}"


def _table(cells: list[dict[str, Any]]) -> str:
    lines = [
        "| graph | layers | GPUs | graph | hybrid | pipeline | fastest |",
        "|---|---|---|---|---|---|---|",
    ]
    for cell in cells:
        figures = [_cell(cell[kind]) for kind in KINDS]
        size = f"{cell['data']} | {cell['layers']} | {cell['devices']:,}"
        lines.append(f"| {size} | {' | '.join(figures)} | {winner(cell) or '-'} |")
    return "\n".join(lines)


def _cell(found: dict[str, Any] | None) -> str:
    return "-" if found is None else f"{found['seconds']:.4g} s ({found['plan']})"


if __name__ == "__main__":
    main()
