"""Draw the floors of the package and their imports: ``python docs/floors.py`` writes docs/floors.png.

A row's floor imports the floors of the columns with a dot. Every dot is right of the diagonal: no floor
imports one above it.
"""

from __future__ import annotations

import ast
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "gnnpipe"
PICTURE = Path(__file__).with_suffix(".png")
FLOORS = (
    "cli", "api", "report", "run", "export", "records", "planner", "checkpoint", "engine", "comm", "nn",
    "ops", "schedule", "graph", "config", "files", "system", "errors",
)  # fmt: skip
INK, PALE, BLUE = "#1f2933", "#e4e7eb", "#2563a8"
DESCRIBED, CLUES = 14, 82
"""Columns that names and descriptions take, and characters of a description that fit."""


def main() -> None:
    """Write the picture, with what it shows as text in its metadata."""
    figure, axes = plt.subplots(figsize=(13.5, 6.6), layout="constrained")
    draw(axes)
    figure.savefig(PICTURE, dpi=110, metadata={"Description": json.dumps(floors())})


def floors() -> dict[str, list[str]]:
    """The floors from the top to the bottom, and which others each imports."""
    there = [floor for floor in FLOORS if (PACKAGE / floor).is_dir() or (PACKAGE / f"{floor}.py").exists()]
    return {floor: sorted(imported_by(floor), key=FLOORS.index) for floor in there}


def draw(axes: Axes) -> None:
    """A row a floor: its name, what it is about, and a dot for each floor that it imports."""
    edges = floors()
    names = list(edges)
    for row, (floor, others) in enumerate(edges.items()):
        axes.add_patch(Rectangle((-DESCRIBED, row - 0.42), DESCRIBED - 0.2, 0.84, color=PALE, lw=0))
        axes.text(-DESCRIBED + 0.1, row, floor, va="center", weight="bold", color=INK)
        axes.text(-DESCRIBED + 2.4, row, description(floor), va="center", size=8.5, color=INK)
        axes.add_patch(Rectangle((row + 0.08, row - 0.42), 0.84, 0.84, color=PALE, lw=0))
        axes.text(row + 0.5, -0.6, floor, rotation=55, size=8.5, ha="left", va="bottom", color=INK)
        axes.scatter([names.index(other) + 0.5 for other in others], [row] * len(others), 42, color=BLUE)
    axes.set_xlim(-DESCRIBED - 0.2, len(names) + 1.2)
    axes.set_ylim(len(names) - 0.4, -2.2)
    axes.set_axis_off()
    axes.set_title("A floor imports those that have a dot in its row, none above it", loc="left", color=INK)


def description(floor: str) -> str:
    """The first line of its docstring."""
    tree = ast.parse(_files(floor)[0].read_text())
    words = (ast.get_docstring(tree) or "").splitlines()[0]
    return words if len(words) <= CLUES else words[: CLUES - 3].rsplit(" ", 1)[0] + " ..."


def imported_by(floor: str) -> set[str]:
    """Other floors that its modules import, wherever in them."""
    found: set[str] = set()
    for path in _files(floor):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("gnnpipe"):
                rest = node.module.split(".")[1:]
                found |= {rest[0]} if rest else {name.name for name in node.names}
    return (found & set(FLOORS)) - {floor}


def _files(floor: str) -> list[Path]:
    """Its modules, ``__init__`` first."""
    alone = PACKAGE / f"{floor}.py"
    return [alone] if alone.exists() else sorted((PACKAGE / floor).rglob("*.py"))


if __name__ == "__main__":
    main()
