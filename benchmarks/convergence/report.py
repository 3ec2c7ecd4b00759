"""Print the tables of result.json, write them into README.md, and draw the pictures.

Runs that result.json does not hold yet are left out.

python -m benchmarks.convergence.report
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from pathlib import Path
from typing import Any

from benchmarks.convergence.plans import (
    ABLATION_GRAPHS,
    ABLATIONS,
    EXACTS,
    FAST,
    GRAPHS,
    MODELS,
    SETTINGS,
    WIRE_GRAPHS,
    WIRES,
)

HERE = Path(__file__).parent
SHARE = 0.98
COLORS = {"exact": "#000000", "exact, beta1 0": "#999999", "paper": "#d55e00", "default": "#0072b2"}


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    runs = {
        name: Found(name, run) for name, run in json.loads((HERE / "result.json").read_text())["runs"].items()
    }
    tables = [main_table(runs), other_table(runs), wire_table(runs), ablation_table(runs)]
    text = "\n\n".join("\n".join(table) for table in tables)
    print(text)
    readme = HERE / "README.md"
    before, begin, rest = readme.read_text().partition("<!-- tables:begin -->\n")
    _, end, after = rest.partition("<!-- tables:end -->")
    readme.write_text(f"{before}{begin}{text}\n{end}{after}")
    draw_curves(runs)
    draw_ablations(runs)


class Found:
    """One run of result.json."""

    def __init__(self, name: str, run: dict[str, Any]) -> None:
        self.group, self.graph, self.model, self.setting, self.seed = name.split("/")
        self.run = run

    @property
    def diverged(self) -> bool:
        """Whether numbers became infinite, or the loss ended above where it began."""
        losses = self.run["loss"]
        return not self.run["finite"] or statistics.median(losses[-5:]) > losses[0]

    def epochs_to(self, target: float) -> int | None:
        """First evaluated epoch at which validation reached ``target``."""
        reached = zip(self.run["epochs"], self.run["val"], strict=True)
        return next((epoch for epoch, value in reached if value >= target), None)


class Cell:
    """All seeds of one setting on one graph and model; tests in percent."""

    def __init__(self, runs: dict[str, Found], group: str, graph: str, model: str, setting: str) -> None:
        key = (group, graph, model, setting)
        self.found = [run for run in runs.values() if (run.group, run.graph, run.model, run.setting) == key]
        self.seeds = {run.seed for run in self.found}
        self.tests = [100 * run.run["test"] for run in self.found]
        self.mean = statistics.mean(self.tests) if self.tests else math.nan
        self.std = statistics.stdev(self.tests) if len(self.tests) > 1 else math.nan
        self.val = statistics.mean(run.run["best_val"] for run in self.found) if self.found else math.nan
        self.diverged = sum(run.diverged for run in self.found)

    def __str__(self) -> str:
        if not self.found:
            return "-"
        spread = "" if math.isnan(self.std) else f" ± {self.std:.1f}"
        return f"{self.mean:.1f}{spread}" + (f" ({self.diverged} diverged)" if self.diverged else "")

    def epochs_to(self, target: float, most: int = 100) -> float:
        """Mean epochs over seeds; a run that never reaches ``target`` counts as ``most``."""
        return statistics.mean(run.epochs_to(target) or most for run in self.found)


def best_exact(cells: dict[str, Cell]) -> Cell:
    """The better of the two exact settings: the one with more seeds, else with the better validation."""
    return max(
        (cells[name] for name in EXACTS if cells[name].found), key=lambda cell: (len(cell.found), cell.val)
    )


def difference(one: Cell, other: Cell) -> tuple[float, float]:
    """Difference of two settings' tests, in points, and its standard error over seeds (nan with one seed)."""
    if math.isnan(one.std) or math.isnan(other.std):
        return one.mean - other.mean, math.nan
    variance = (one.std**2 + other.std**2) / 2
    error = math.sqrt(variance * (1 / len(one.tests) + 1 / len(other.tests)))
    return one.mean - other.mean, error


def written(found: tuple[float, float], stands_out: bool) -> str:
    """A difference and its standard error as text; bold where it stands out."""
    points, error = found
    text = f"{points:+.1f}" + ("" if math.isnan(error) else f" ± {error:.1f}")
    return f"**{text}**" if stands_out else text


def below_exact(found: tuple[float, float], exact: Cell) -> bool:
    """Whether a difference is more than half a point and one standard deviation of exact training below 0."""
    return found[0] < -max(0.5, 0.0 if math.isnan(exact.std) else exact.std)


def below_paper(found: tuple[float, float]) -> bool:
    """Whether a difference is more than two standard errors below 0."""
    points, error = found
    return points < -2 * error


def main_table(runs: dict[str, Found]) -> list[str]:
    lines = [
        "| graph | model | seeds | exact, beta1 0.9 | exact, beta1 0 | paper | default "
        "| default - better exact | default - paper | epochs to 98 %: exact, paper, default |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    ratios: dict[str, list[float]] = {"paper": [], "default": []}
    differences = []
    worse_than_exact, worse_than_paper, diverged = [], [], 0
    for graph in GRAPHS:
        for model in MODELS:
            cells = {name: Cell(runs, "main", graph, model, name) for name in SETTINGS}
            if not all(cell.found for cell in cells.values()):
                continue
            exact = best_exact(cells)
            target = SHARE * exact.val
            epochs = {
                "exact": exact.epochs_to(target),
                **{name: cells[name].epochs_to(target) for name in ratios},
            }
            for name, values in ratios.items():
                values.append(epochs[name] / epochs["exact"])
            to_exact = difference(cells["default"], exact)
            to_paper = difference(cells["default"], cells["paper"])
            differences.append(to_exact[0])
            worse_than_exact += [f"{graph} {model}"] if below_exact(to_exact, exact) else []
            worse_than_paper += [f"{graph} {model}"] if below_paper(to_paper) else []
            diverged += cells["default"].diverged
            texts = [str(cells[name]) for name in SETTINGS]
            late = {name: sum(run.epochs_to(target) is None for run in cells[name].found) for name in ratios}
            counted = ", ".join(
                f"{value:.0f}" + (f" ({late[name]} never)" if late.get(name) else "")
                for name, value in epochs.items()
            )
            lines.append(
                f"| {graph} | {model} | {len(exact.seeds)} | {' | '.join(texts)} | "
                f"{written(to_exact, below_exact(to_exact, exact))} | "
                f"{written(to_paper, below_paper(to_paper))} | {counted} |"
            )
    if differences:
        means = ", ".join(
            f"{name} {statistics.geometric_mean(values):.2f}" for name, values in ratios.items()
        )
        lines += [
            "",
            f"Mean difference to the better exact setting: {statistics.mean(differences):+.2f} points, worst "
            f"{min(differences):+.1f}. Epochs to 98 % over exact's, geometric mean: {means}; a run that "
            "never got there counts as 100.",
            "",
            f"Default more than half a point and one standard deviation below the better exact setting: "
            f"{', '.join(worse_than_exact) or 'nowhere'} (of {len(differences)} cells). More than two "
            f"standard errors below paper: {', '.join(worse_than_paper) or 'nowhere'}. Diverged: {diverged} "
            "of the default's runs.",
        ]
    return lines


def other_table(runs: dict[str, Found]) -> list[str]:
    names = (*SETTINGS, *FAST)
    lines = [
        "| what changes | graph | model | " + " | ".join(names) + " |",
        "|---|---|---|" + "---|" * len(names),
    ]
    others = {(run.group, run.graph, run.model) for run in runs.values()}
    for group, graph, model in sorted(others):
        if group not in ("main", "ablation", "wire"):
            cells = [str(Cell(runs, group, graph, model, name)) for name in names]
            lines.append(f"| {group} | {graph} | {model} | {' | '.join(cells)} |")
    return lines


def wire_table(runs: dict[str, Found]) -> list[str]:
    """Test metric with fewer bytes a row, and the default's over the same seeds."""
    lines = ["| four stages, GCNII | fp32 | " + " | ".join(WIRES) + " |", "|---|---|" + "---|" * len(WIRES)]
    for graph in WIRE_GRAPHS:
        cells = [Cell(runs, "wire", graph, "gcnii", wire) for wire in WIRES]
        seeds = set().union(*(cell.seeds for cell in cells))
        if seeds:
            beside = {name: run for name, run in runs.items() if run.seed in seeds}
            whole = Cell(beside, "main", graph, "gcnii", "default")
            lines.append(f"| {graph} | {whole} | {' | '.join(map(str, cells))} |")
    return lines


def ablation_table(runs: dict[str, Found]) -> list[str]:
    lines = ["| instead of the default | " + " | ".join(ABLATION_GRAPHS) + " |", "|---|---|---|"]
    defaults = [str(Cell(runs, "main", graph, "gcnii", "default")) for graph in ABLATION_GRAPHS]
    lines.append(f"| (the default itself) | {' | '.join(defaults)} |")
    for setting in ABLATIONS:
        cells = [str(Cell(runs, "ablation", graph, "gcnii", setting)) for graph in ABLATION_GRAPHS]
        if any(cell != "-" for cell in cells):
            lines.append(f"| {setting} | {' | '.join(cells)} |")
    return lines


def draw_curves(runs: dict[str, Found]) -> None:
    """Test accuracy by epoch of every cell, one line a setting: mean of the seeds."""
    from matplotlib.figure import Figure

    graphs = [
        graph for graph in GRAPHS if any(run.graph == graph and run.group == "main" for run in runs.values())
    ]
    shown = [("main", graph, model) for model in MODELS for graph in graphs]
    if any(run.group == "arxiv" for run in runs.values()):
        shown.append(("arxiv", "ogbn-arxiv structure", "gcnii"))
    columns = 4
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(4 * columns, 3 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes in panels[len(shown) :]:
        axes.set_visible(False)
    for axes, (group, graph, model) in zip(panels, shown, strict=False):
        for setting, color in COLORS.items():
            cell = Cell(runs, group, graph, model, setting)
            if not cell.found:
                continue
            length = min(len(run.run["epochs"]) for run in cell.found)
            means = [
                100 * statistics.mean(run.run["tests"][place] for run in cell.found)
                for place in range(length)
            ]
            axes.plot(cell.found[0].run["epochs"][:length], means, color=color, label=setting, linewidth=1.2)
        axes.set(title=f"{graph}, {model}", xlabel="epoch", ylabel="test (%)")
    panels[0].legend(fontsize="small")
    figure.savefig(HERE / "curves.png", dpi=70)


def draw_ablations(runs: dict[str, Found]) -> None:
    """Test accuracy of each ablation beside the default's."""
    from matplotlib.figure import Figure

    settings = [name for name in ABLATIONS if any(run.setting == name for run in runs.values())]
    if not settings:
        return
    figure = Figure(figsize=(12, 1.5 + 0.28 * len(settings)), layout="constrained")
    for axes, graph in zip(
        figure.subplots(1, len(ABLATION_GRAPHS), sharey=True), ABLATION_GRAPHS, strict=True
    ):
        default = Cell(runs, "main", graph, "gcnii", "default").mean
        cells = [Cell(runs, "ablation", graph, "gcnii", name) for name in settings]
        colors = ["#d55e00" if cell.diverged else "#0072b2" for cell in cells]
        axes.barh(settings, [cell.mean - default for cell in cells], color=colors)
        axes.axvline(0, color="black", linewidth=0.8)
        axes.invert_yaxis()
        axes.set(
            title=f"{graph} (default {default:.1f} %)", xlabel="points of test accuracy against the default"
        )
    figure.savefig(HERE / "ablations.png", dpi=90)


if __name__ == "__main__":
    main()
