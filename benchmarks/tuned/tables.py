"""The tables of README.md, from the numbers in result.json."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.tuned import cells
from benchmarks.tuned.cells import Cell


def all_of(result: dict[str, Any]) -> str:
    """Every table that has a number."""
    found = {name: table(result[name]) for name, table in TABLES.items() if result.get(name)}
    return "\n\n".join(f"{name}\n\n{table}" for name, table in found.items())


def accuracy(runs: dict[str, dict[str, float]]) -> str:
    """Test metric of every cell, mean and deviation over its splits."""
    head = (
        "graph",
        "model",
        "layers",
        "hidden",
        "norm",
        "setting",
        "epochs",
        "best epochs",
        "test",
        "published",
    )
    return table(head, [row for cell in cells.CELLS if (row := _row(cell, runs))])


def _row(cell: Cell, runs: dict[str, dict[str, float]]) -> list[str]:
    held = [runs[name] for split in cells.SPLITS if (name := f"{cell.name} {split}") in runs]
    if not held:
        return []
    test, source = [run["test"] for run in held], cells.GRAPHS[cell.graph]
    score = f"{statistics.mean(test):.2f} +- {statistics.pstdev(test):.2f}"
    score = f"**{score}**" if statistics.mean(test) >= source.bar else score
    best = ", ".join(f"{run['epoch']:.0f}" for run in held)
    sizes = cell.flag("--layers"), cell.flag("--hidden"), cell.norm, cell.setting, cell.flag("--epochs")
    return [cell.graph, cell.model, *sizes, best, score, source.published]


def trials(runs: dict[str, dict[str, float]]) -> str:
    """Validation metric of the trials, a column for each setting."""
    settings = list(dict.fromkeys(cell.setting for cell in cells.TRIALS))
    models = list(dict.fromkeys((cell.model, cell.norm) for cell in cells.TRIALS))
    by_name = {(cell.model, cell.norm, cell.setting): runs.get(f"{cell.name} 0") for cell in cells.TRIALS}
    rows = [
        [
            *model,
            *(
                f"{run['val']:.1f}" if (run := by_name.get((*model, setting))) else "-"
                for setting in settings
            ),
        ]
        for model in models
    ]
    return table(("model", "norm", *settings), rows)


def alike(held: dict[str, list[float]]) -> str:
    """Share of the rows' energy that tells nodes apart, in per cent, behind some convolutions."""
    behind = (1, 2, 4, 8, 11)
    rows = []
    for name, found in held.items():
        # models with an input layer have one more in front
        first = len(found) - cells.TRIAL_LAYERS - 1 if len(found) > cells.TRIAL_LAYERS else 0
        rows.append([name, *(f"{100 * found[first + number - 1]:.2g}" for number in behind)])
    return table(("model and norm", *(f"layer {number}" for number in behind)), rows)


def stages(held: dict[str, dict[str, Any]]) -> str:
    """Whether two stages have the losses and metrics of one."""
    return table(
        ("cell", "epochs", "last loss", "two stages = one"),
        [
            [
                name,
                str(found["epochs"]),
                f"{found['last_loss']:.8f}",
                "bit for bit" if found["equal"] else "no",
            ]
            for name, found in held.items()
        ],
    )


def lookahead(found: dict[str, Any]) -> str:
    """What exact lookahead chose, and how far its losses are from those of one chunk."""
    return table(("", ""), [[name.replace("_", " "), str(value)] for name, value in found.items()])


def table(head: tuple[str, ...], rows: list[list[str]]) -> str:
    """A Markdown table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


TABLES = {"accuracy": accuracy, "trials": trials, "alike": alike, "stages": stages, "lookahead": lookahead}
