"""The tables of README.md, from result.json alone.

python -m benchmarks.depth.tables
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.depth.plans import DEPTHS, LINES, Line
from benchmarks.depth.results import Results


@dataclass(frozen=True)
class Cell:
    """Test accuracies at best validation in per cent, by seed."""

    tests: dict[int, float]

    @property
    def mean(self) -> float:
        return statistics.mean(self.tests.values())

    @property
    def error(self) -> float:
        """Standard error of the mean; 0 for a single seed."""
        return _error(list(self.tests.values()))

    def minus(self, other: Cell) -> Cell:
        """Differences of the seeds that both have: a seed has its own split, which both share."""
        common = sorted(self.tests.keys() & other.tests.keys())
        return Cell({seed: self.tests[seed] - other.tests[seed] for seed in common})

    def __str__(self) -> str:
        if not self.tests:
            return "-"
        if len(self.tests) == 1:
            return f"{self.mean:.1f} (1)"
        few = "" if len(self.tests) > 2 else f" ({len(self.tests)})"
        return f"{self.mean:.1f} ± {self.error:.1f}{few}"


def _error(values: list[float]) -> float:
    return statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0


def cells(results: Results, line: Line) -> dict[int, Cell]:
    """A line's cells by depth; those without a run are left out."""
    found: dict[int, Cell] = {}
    runs = results.sampled if line.sampled else results.runs
    for depth in DEPTHS:
        start = f"{line.key}/{depth}/"
        tests = {
            int(name.removeprefix(start)): 100 * run["test"]
            for name, run in runs.items()
            if name.startswith(start) and "test" in run
        }
        if tests:
            found[depth] = Cell(tests)
    return found


def text(results: Results) -> str:
    """All tables."""
    parts = [*_by_depth(results), *_beyond(results), *_tuning(results), *_sampled(results), *_equal(results)]
    return "\n".join(parts)


def write(readme: Path, text: str) -> None:
    """Put the tables between their marks."""
    before, begin, rest = readme.read_text().partition("<!-- tables:begin -->\n")
    _, end, after = rest.partition("<!-- tables:end -->\n")
    readme.write_text(f"{before}{begin}{text}\n{end}{after}")


def _by_depth(results: Results) -> Iterator[str]:
    for graph in dict.fromkeys(line.graph for line in LINES):
        yield f"\n{graph}: test accuracy in per cent, mean ± standard error over seeds\n"
        yield f"| model | {' | '.join(f'{depth} layers' for depth in DEPTHS)} |"
        yield "|---" * (len(DEPTHS) + 1) + "|"
        for line in LINES:
            found = cells(results, line)
            if line.graph == graph and found:
                yield f"| {line.title} | {' | '.join(str(found.get(d, '-')) for d in DEPTHS)} |"


def _beyond(results: Results) -> Iterator[str]:
    """The best of the deeper nets against 16 layers."""
    yield "\nThe best net of more than 16 layers minus that of 16, seed by seed, in points\n"
    yield "| graph | model | layers | difference | standard errors |\n|---|---|---|---|---|"
    for line in LINES:
        found = cells(results, line)
        deeper = [depth for depth in found if depth > 16]
        if 16 not in found or not deeper:
            continue
        depth = max(deeper, key=lambda depth: found[depth].mean)
        gain = found[depth].minus(found[16])
        if gain.tests:
            ratio = f"{gain.mean / gain.error:+.1f}" if gain.error else "-"
            yield f"| {line.graph} | {line.title} | {depth} | {gain.mean:+.1f} ± {gain.error:.1f} | {ratio} |"


def _tuning(results: Results) -> Iterator[str]:
    yield "\nTuning: the best validation accuracy, the epoch it is from, and the last training accuracy\n"
    yield "| graph | model | setting | layers | epochs | validation | at | training |\n|" + "---|" * 8
    for name, run in results.runs.items():
        group, graph, model, setting, layers, _ = name.split("/")
        if group == "tune":
            accuracies = f"{100 * run['best_val']:.1f} | {run['best_epoch']} | {100 * run['last_train']:.0f}"
            yield f"| {graph} | {model} | {setting} | {layers} | {run['epochs']} | {accuracies} |"


def _sampled(results: Results) -> Iterator[str]:
    yield "\nSampled: the largest fan-out that fits, and the share of all nodes in a batch\n"
    yield "| graph | layers | seed | fan-out | share | training | test |\n|" + "---|" * 7
    for name, run in results.sampled.items():
        accuracies = f"{100 * run['train']:.1f} | {100 * run['test']:.1f}" if "test" in run else "- | -"
        cells = " | ".join(name.split("/"))
        yield f"| {cells} | {run['fan_out'] or 'none'} | {100 * run['share_of_rows']:.0f} % | {accuracies} |"


def _equal(results: Results) -> Iterator[str]:
    yield "\nFour stages, exact, against one process with one chunk: relative difference of the loss\n"
    yield "| model | first epoch | epochs within 1e-5 | largest | one process, sums in another order |"
    yield "|---|---|---|---|---|"
    for name, run in results.equal.items():
        largest = "0, bit for bit" if run["equal"] else f"{run['largest']:.1e}"
        noise = run.get("another_order")
        order = f"{noise['largest']:.1e}, {noise['within']} epochs within" if noise else "-"
        yield f"| {name} | {run['first']:.1e} | {run['within']} | {largest} | {order} |"


if __name__ == "__main__":
    sys.stdout.write(text(Results.read()) + "\n")
