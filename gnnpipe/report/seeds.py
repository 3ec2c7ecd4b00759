"""Runs that differ in their seed: a table with mean and standard deviation, JSON, and a picture."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from rich.console import Console
from rich.table import Table

from gnnpipe.config.run import Metric
from gnnpipe.errors import ConfigError
from gnnpipe.files.typed_json import SPREAD, json_text
from gnnpipe.records.folder import RunFolder
from gnnpipe.records.record import EpochRecord
from gnnpipe.records.seeds import SEEDS_PICTURE
from gnnpipe.records.taking import SUMMARY
from gnnpipe.report.compare import differences
from gnnpipe.report.console import METRIC_NAMES, score_text, wide_console
from gnnpipe.report.damage import as_written
from gnnpipe.report.notebook import as_html, present
from gnnpipe.report.pictures import draw_seeds

SAMPLE = "standard deviation of a sample: of the squared distances from the mean, divided by runs - 1"


@dataclass(frozen=True)
class Figures:
    """Figures of a run, or their mean or standard deviation over the runs."""

    best_val: float
    test_at_best_val: float | None
    """None where test labels are hidden."""
    seconds: float
    """From the begin of training to its end, evaluations included."""


@dataclass(frozen=True)
class SeedRun:
    """One run."""

    seed: int
    run: str
    """Its folder."""
    figures: Annotated[Figures, SPREAD]
    best_epoch: int
    """Counted from 0."""
    epochs: int


@dataclass(frozen=True)
class Seeds:
    """Runs that differ in their seed alone, side by side."""

    metric: Metric
    runs: tuple[SeedRun, ...]
    """Those that are finished, by seed."""
    mean: Figures
    standard_deviation: Figures | None = None
    """Of a sample (divided by runs - 1); None for a single run."""
    unfinished: tuple[int, ...] = ()
    """Seeds whose runs are begun and not finished; they are not counted."""
    unequal: tuple[str, ...] = ()
    """Other settings, versions and machines that are not the same in all runs: a line each."""

    @classmethod
    def of(cls, paths: Mapping[int, Path]) -> Seeds:
        """Read the folders of runs by seed.

        Raises:
            ConfigError: no run is finished, or the runs have different metrics.
            DataError: a file of a run is damaged.
        """
        with as_written([*paths.values()]):
            done = {seed: RunFolder(path) for seed, path in paths.items() if (path / SUMMARY).exists()}
            if not done:
                where = next(iter(paths.values())).parent
                raise ConfigError(
                    f"run: no run in '{where}' is finished yet; the same command goes on with them"
                )
            runs = tuple(_read(seed, folder) for seed, folder in done.items())
            metrics = {folder.summary().metric for folder in done.values()}
            if len(metrics) > 1:
                raise ConfigError(
                    f"run: the runs have different metrics ({', '.join(sorted(metrics))}), of which there is "
                    "no mean; show them one by one"
                )
            figures = [run.figures for run in runs]
            unequal = differences([*done.values()], ignored={"seed"})
        several = len(runs) > 1
        return cls(
            metrics.pop(),
            runs,
            _over(statistics.mean, figures),
            _over(statistics.stdev, figures) if several else None,
            tuple(seed for seed in paths if seed not in done),
            tuple(unequal),
        )

    def show(self) -> None:
        """Print the table and draw the picture; in a notebook, show both."""
        folder, name = Path(self.runs[0].run).parent, METRIC_NAMES[self.metric]

        def write(console: Console) -> None:
            self.write_to(console)
            curves = {run.seed: RunFolder(Path(run.run)).records() for run in self.runs}
            tests = [run.figures.test_at_best_val for run in self.runs]
            console.print(draw_seeds(curves, tests, name, folder), markup=False)

        present(write, wide_console(), [folder / SEEDS_PICTURE])

    def _repr_html_(self) -> str:
        return as_html(self.write_to)

    def write_to(self, console: Console) -> None:
        """Print the table, and lines on what it leaves out."""
        console.print(self._table())
        if self.unfinished:
            seeds = ", ".join(map(str, self.unfinished))
            console.print(f"not finished, and not counted: seed {seeds}", markup=False)
        for line in self.unequal:
            console.print(f"not equal: {line}", markup=False)

    def _table(self) -> Table:
        name = METRIC_NAMES[self.metric]
        table = Table(caption=SAMPLE if self.standard_deviation else None, caption_justify="left")
        for title in ("seed", f"validation {name}", f"test {name}", "best epoch", "epochs", "seconds"):
            table.add_column(title, justify="right")
        for run in self.runs:
            val, test, seconds = _cells(run.figures)
            table.add_row(str(run.seed), val, test, str(run.best_epoch + 1), str(run.epochs), seconds)
        table.add_section()
        for title, figures in (("mean", self.mean), ("standard deviation", self.standard_deviation)):
            if figures:
                val, test, seconds = _cells(figures)
                table.add_row(title, val, test, "", "", seconds)
        return table


def show_seeds(paths: Mapping[int, Path], *, as_json: bool = False) -> int:
    """Print the runs of several seeds; return the exit code; raises as `Seeds.of`."""
    seeds = Seeds.of(paths)
    if as_json:
        sys.stdout.write(json_text(seeds, indent=2) + "\n")
    else:
        seeds.show()
    return 0


def _read(seed: int, folder: RunFolder) -> SeedRun:
    summary, records = folder.summary(), folder.records()
    figures = Figures(summary.best.val, summary.best.test, _seconds(records))
    return SeedRun(seed, str(folder.path), figures, summary.best.epoch, summary.epochs)


def _seconds(records: Sequence[EpochRecord]) -> float:
    """Seconds of all epochs; records of older versions don't say how long evaluations took."""
    return records[-1].elapsed or sum(record.seconds for record in records)


def _over(how: Callable[[list[float]], float], figures: Sequence[Figures]) -> Figures:
    """One figure made of those of all runs, such as their mean."""
    tests = [item.test_at_best_val for item in figures if item.test_at_best_val is not None]
    return Figures(
        how([item.best_val for item in figures]),
        how(tests) if len(tests) == len(figures) else None,
        how([item.seconds for item in figures]),
    )


def _cells(figures: Figures) -> tuple[str, str, str]:
    return score_text(figures.best_val), score_text(figures.test_at_best_val), f"{figures.seconds:.2f}"
