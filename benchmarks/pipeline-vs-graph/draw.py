"""Write the table of result.json into README.md and draw the pictures, from result.json alone.

python -m benchmarks.pipeline-vs-graph.draw
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from gnnpipe.report.pictures import PIECES

HERE = Path(__file__).parent
BEGIN, END = "<!-- table:begin (draw.py writes it) -->", "<!-- table:end -->"
COLORS = {"pipeline": "#0072b2", "hybrid": "#009e73", "graph-stale": "#e69f00", "graph": "#d55e00"}
DEEP = 32
STYLES = (":", "--", "-")


def main() -> None:
    result = json.loads((HERE / "result.json").read_text())
    cells = {tuple(name.split("-")): cell for name, cell in result["cells"].items()}
    draw_speed_ups(cells)
    draw_breakdowns(cells)
    readme = HERE / "README.md"
    text = readme.read_text()
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    readme.write_text(f"{before}{BEGIN}\n{means(cells)}\n\n{table(cells)}\n{END}{after}")


def means(cells: dict[tuple[str, ...], Any]) -> str:
    """A row of the table, over the 16 models and depths.

    Median wait of graph parallelism, speed-ups of the other plans, the pipeline's mean over the deep models.
    """
    names = ("pipeline", "graph-stale", "hybrid")
    lines = [
        f"| ranks | link | waits | {' | '.join(f'{name}: mean, least, most' for name in names)} | deep |",
        "|---|---|---|---|---|---|---|",
    ]
    for ranks in sorted({key[0] for key in cells}, key=int):
        for share in next(iter(cells.values())):
            found = [cell[share] for key, cell in cells.items() if key[0] == ranks]
            waits = statistics.median(waiting(cell["graph"]) for cell in found)
            columns = []
            for name in names:
                ratios = [cell["graph"]["seconds"] / cell[name]["seconds"] for cell in found if name in cell]
                mean = statistics.geometric_mean(ratios) if ratios else None
                columns.append(f"{mean:.2f} x, {min(ratios):.2f}, {max(ratios):.2f}" if mean else "-")
            deep = statistics.geometric_mean(
                cell[share]["graph"]["seconds"] / cell[share]["pipeline"]["seconds"]
                for key, cell in cells.items()
                if key[0] == ranks and int(key[2]) >= DEEP
            )
            columns.append(f"{deep:.2f} x")
            lines.append(f"| {ranks} | {float(share):.0%} | {waits:.0%} | {' | '.join(columns)} |")
    return "\n".join(lines)


def waiting(item: dict[str, Any]) -> float:
    """Share of an epoch in which a rank waits for the other parts."""
    breakdown = item["breakdown"]
    return float((breakdown["communication_graph"] + breakdown["imbalance"]) / item["seconds"])


def table(cells: dict[tuple[str, ...], Any]) -> str:
    """Epoch seconds of graph parallelism, and how many times faster the others are."""
    lines = [
        "| ranks | model | layers | "
        + " | ".join(
            f"{float(share):.0%}: graph, pipeline, stale, hybrid" for share in next(iter(cells.values()))
        )
        + " |",
        "|---|---|---|" + "---|" * len(next(iter(cells.values()))),
    ]
    for ranks, model, layers in sorted(cells, key=_order):
        found = cells[ranks, model, layers]
        columns = []
        for by_name in found.values():
            graph = by_name["graph"]["seconds"]
            others = [
                f"{graph / by_name[name]['seconds']:.2f} x" if name in by_name else "-"
                for name in ("pipeline", "graph-stale", "hybrid")
            ]
            columns.append(f"{graph:.2f} s, {', '.join(others)}")
        lines.append(f"| {ranks} | {model} | {layers} | {' | '.join(columns)} |")
    return "\n".join(lines)


def draw_speed_ups(cells: dict[tuple[str, ...], Any]) -> None:
    """Epoch time of graph parallelism over that of the others, by depth."""
    ranks = sorted({key[0] for key in cells}, key=int)
    models = list(dict.fromkeys(key[1] for key in sorted(cells, key=_order)))
    figure = Figure(figsize=(3.1 * len(models), 2.9 * len(ranks) + 0.6), layout="constrained")
    grid = figure.subplots(len(ranks), len(models), sharex=True, sharey=True, squeeze=False)
    for row, number in enumerate(ranks):
        for column, model in enumerate(models):
            axes = grid[row][column]
            _draw_model(axes, cells, number, model)
            axes.set_title(f"{model}, {number} ranks", fontsize="medium")
            if column == 0:
                axes.set_ylabel("times faster than\ngraph parallelism")
            if row == len(ranks) - 1:
                axes.set_xlabel("layers")
    handles, labels = grid[-1][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize="small")
    figure.savefig(HERE / "speed-up.png", dpi=100)


def _draw_model(axes: Any, cells: dict[tuple[str, ...], Any], ranks: str, model: str) -> None:
    depths = sorted(int(key[2]) for key in cells if key[:2] == (ranks, model))
    shares = list(next(iter(cells.values())))
    axes.axhline(1.0, color="#888888", linewidth=0.8)
    for name in ("pipeline", "graph-stale", "hybrid"):
        for share, style in zip(shares, STYLES, strict=True):
            found = [cells[ranks, model, str(depth)][share] for depth in depths]
            if name not in found[0]:
                continue
            ratios = [cell["graph"]["seconds"] / cell[name]["seconds"] for cell in found]
            label = f"{name}, link at which graph communicates {float(share):.0%}"
            axes.plot(depths, ratios, style, color=COLORS[name], label=label, marker=".", markersize=4)
    axes.set_xscale("log", base=2)
    axes.set_xticks(depths, [str(depth) for depth in depths])


def draw_breakdowns(cells: dict[tuple[str, ...], Any]) -> None:
    """Where an epoch goes, for GCNII with 32 layers."""
    chosen = [key for key in sorted(cells, key=_order) if key[1:] == ("gcnii", "32")]
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    panels = figure.subplots(1, len(chosen), squeeze=False)[0]
    for axes, key in zip(panels, chosen, strict=True):
        bars = [
            (f"{float(share):.0%} {name}", item["breakdown"])
            for share, by_name in cells[key].items()
            for name, item in by_name.items()
        ]
        left = [0.0] * len(bars)
        for part, color in PIECES.items():
            values = [breakdown[part] for _, breakdown in bars]
            axes.barh(range(len(bars)), values, left=left, color=color, label=part.replace("_", "-"))
            left = [start + value for start, value in zip(left, values, strict=True)]
        axes.set_yticks(range(len(bars)), [name for name, _ in bars], fontsize="small")
        axes.invert_yaxis()
        axes.set(title=f"GCNII, 32 layers, {key[0]} ranks", xlabel="seconds of a median epoch, mean of ranks")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(PIECES), fontsize="small")
    figure.savefig(HERE / "breakdown.png", dpi=100)


def _order(key: tuple[str, ...]) -> tuple[int, int, int]:
    return int(key[0]), ("gcn", "sage", "gcnii", "resgcn").index(key[1]), int(key[2])


if __name__ == "__main__":
    main()
