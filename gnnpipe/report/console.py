"""Output of a run: a progress bar on a terminal, plain lines elsewhere, a table at the end."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from gnnpipe.config.resolved import Resolved
from gnnpipe.config.run import HaloMode, LossConfig, Metric
from gnnpipe.records.folder import RunFolder
from gnnpipe.records.plan_file import PlanFile, StoredPlan
from gnnpipe.records.record import EpochRecord, GradientQuality, Summary
from gnnpipe.records.taking import CLASSES
from gnnpipe.report.busy import busy
from gnnpipe.report.classes import MOST_LISTED, class_table, class_warnings, shown_name
from gnnpipe.system.words import readable_bytes

INITIAL_IN_WORDS = {
    "relay": "initial rows, if the model has them, travel along",
    "recompute": "initial rows, if the model has them, are computed on every stage",
}
HALO_IN_WORDS: dict[HaloMode, str] = {"exact": "this", "stale": "last"}
METRIC_NAMES: dict[Metric, str] = {
    "accuracy": "accuracy",
    "f1": "micro-F1",
    "roc_auc": "ROC AUC",
    "average_precision": "average precision",
    "macro_f1": "macro-F1",
    "balanced_accuracy": "balanced accuracy",
    "r2": "R2",
    "mae": "MAE",
    "rmse": "RMSE",
}
HIDDEN = "hidden"
"""Stands for a test score where test labels are hidden."""


class PatientConsole(Console):
    """A console whose reader may go away: ``gnnpipe train | head`` trains on and says nothing more."""

    def on_broken_pipe(self) -> None:
        """Print nothing from now on; Rich would end the process."""
        # what is still buffered has to go somewhere when the process ends
        self.quiet = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)


class ConsoleReporter:
    """Shows a run on stdout, epochs as they come; remarks go to stderr.

    Args:
        epochs: number of epochs of the run; `start` sets it too.
        metric: the metric of evaluations; likewise.
        plain: whether to print plain lines whatever the output is. A notebook passes for a terminal.
    """

    def __init__(self, epochs: int = 0, metric: Metric = "accuracy", plain: bool = False) -> None:
        self._epochs: int = epochs
        self._metric: Metric = metric
        self._plain = plain
        forced = False if plain else None
        self._console = PatientConsole(
            highlight=False, soft_wrap=True, force_terminal=forced, force_jupyter=forced
        )
        self._progress: Progress | None = None
        self._last_metrics = ""
        self._seconds, self._count = 0.0, 0

    def __reduce__(self) -> tuple[Any, ...]:
        return ConsoleReporter, (
            self._epochs,
            self._metric,
            self._plain,
        )  # a screen can't be sent to another process

    def step(self, what: str) -> AbstractContextManager[None]:
        """Say what is being done if it takes long."""
        return busy(what, plain=self._plain)

    def say(self, line: str) -> None:
        """Print one line."""
        self._console.print(line, markup=False)

    def warn(self, line: str) -> None:
        """Print a warning."""
        self.say(f"warning: {line}")

    def remark(self, line: str, *, warning: bool = False) -> None:
        """Print one line to stderr."""
        sys.stderr.write(f"{'warning: ' if warning else ''}{line}\n")
        sys.stderr.flush()

    def start(self, config: Resolved, plan: PlanFile) -> None:
        """Describe the graph, the cut and the plan."""
        self._epochs, self._metric = config.epochs, plan.metric
        for line in (*describe_start(plan, config.halo), *describe_loss(config, plan.graph.class_names)):
            self.say(line)

    def epoch(self, record: EpochRecord) -> None:
        """Advance the bar, or print a line for an evaluated epoch."""
        self._seconds += record.seconds
        self._count += 1
        if record.scores is not None:
            values = " ".join(f"{split} {score_text(score)}" for split, score in vars(record.scores).items())
            self._last_metrics = f"{METRIC_NAMES[self._metric]} {values}"
        rate = self._count / self._seconds
        text = f"loss {_number(record.loss)}  {self._last_metrics}  {rate:.2f} epochs/s"
        if self._console.is_terminal:
            bar = self._bar()
            bar.update(bar.task_ids[0], completed=record.epoch + 1, text=text)
        elif record.scores is not None:
            self.say(f"epoch {record.epoch + 1}/{self._epochs}  {text}")
        if record.gradient is not None:
            line = describe_estimate(record.gradient, record.loss)
            self.say(f"epoch {record.epoch + 1}/{self._epochs}  {line}")

    def close(self) -> None:
        """Stop the bar and leave it on the screen."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def end(self, folder: RunFolder) -> None:
        """Print the table of the finished run."""
        print_summary(folder, self._console)

    def _bar(self) -> Progress:
        if self._progress is None:
            self._progress = Progress(
                TextColumn("epoch"),
                MofNCompleteColumn(),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[text]}"),
                TimeRemainingColumn(),
                console=self._console,
            )
            self._progress.add_task("epoch", total=self._epochs, text="")
            self._progress.start()
        return self._progress


def score_text(score: float | None) -> str:
    """A score as text; None stands for hidden test labels."""
    return HIDDEN if score is None else f"{score:.4f}"


def _number(loss: float | None) -> str:
    """A loss as text; None stands for an epoch that was skipped as its numbers were not finite."""
    return "not a number" if loss is None else f"{loss:.4f}"


def describe_start(plan: PlanFile, halo: HaloMode) -> list[str]:
    """Lines that a run begins with: the graph, its cut into parts and chunks, the plan.

    Args:
        plan: the run's plan, with facts of the graph and predictions.
        halo: whether rows of other parts are this epoch's (exact) or last epoch's (stale).
    """
    facts, shape, foreseen = plan.graph, plan.plan, plan.predictions
    lines = [
        f"{facts.name}: {facts.num_nodes:,} nodes, {facts.num_edges:,} edges, "
        f"{facts.num_features:,} features, {_outputs(plan)}",
        *(f"note: {line}" for line in facts.notes),
    ]
    if shape.num_parts > 1:
        rows = sum(facts.halo_forward)
        lines.append(
            f"{shape.num_parts} parts ({_strips(facts.part_method)}): {rows:,} boundary rows, "
            f"{rows / facts.num_nodes:.2f} other parts need a row (alpha), imbalance of work "
            f"{facts.part_imbalance:.2f}; other parts' rows are {HALO_IN_WORDS[halo]} epoch's"
        )
    if shape.note:
        lines.append(f"exact training with {shape.note}")
    if shape.num_chunks > 1:
        ahead = f", looking {_counted(shape.lookahead, 'chunk')} ahead" if shape.lookahead else ""
        lines.append(
            f"{shape.num_chunks} chunks ({_method(facts.chunk_method)}): "
            f"{facts.cut_fraction:.1%} of the edges between chunks, {foreseen.fresh:.1%} of the messages "
            f"fresh{ahead}, imbalance of work {facts.chunk_imbalance:.2f}"
        )
    layers = ", ".join(f"{first}-{last - 1}" for first, last in shape.layer_ranges)
    lines.append(
        f"{_counted(shape.num_stages, 'stage')} with layers {layers}; "
        f"{_counted(shape.num_chunks, 'chunk')}; bubble {foreseen.bubble:.1%} when balanced"
    )
    if shape.num_stages > 1 and (shape.wire, shape.initial) != ("fp32", "relay"):
        lines.append(f"rows travel between stages as {shape.wire}; {INITIAL_IN_WORDS[shape.initial]}")
    if shape.recompute:
        lines.append("rows that are cheap to make again are not kept")
    if shape.tables != "fp32":
        lines.append(f"aggregated rows are held as {shape.tables}")
    if shape.compute != "fp32":
        lines.append(f"rows are multiplied with weights in {shape.compute}, and summed in fp32")
    return lines


def describe_loss(loss: LossConfig, class_names: Sequence[str]) -> list[str]:
    """A line on what is minimised, unless it is the usual loss; weights stand beside their classes.

    Args:
        loss: the settings.
        class_names: names of the classes; empty where they are numbers.
    """
    parts = [f"{loss.loss} of the values"] if loss.loss != "auto" else []
    if isinstance(loss.class_weights, tuple):
        named = [f"{shown_name(i, class_names)} {weight:g}" for i, weight in enumerate(loss.class_weights)]
        more = [f"and {len(named) - MOST_LISTED} more"] if len(named) > MOST_LISTED else []
        parts.append(f"classes weighed {', '.join([*named[:MOST_LISTED], *more])}")
    elif loss.class_weights is not None:
        parts.append("classes weighed inversely to their numbers of training nodes")
    if loss.label_smoothing:
        parts.append(f"labels smoothed by {loss.label_smoothing:g}")
    return [f"loss: {'; '.join(parts)}"] if parts else []


def describe_estimate(gradient: GradientQuality, loss: float | None) -> str:
    """A line on the error of an epoch's gradient: the exact one is at the same weights and dropout masks."""
    overall = gradient.estimate["all"]
    off = overall.table_error or 0.0
    return (
        f"gradient against the exact one: cosine {overall.cosine:.3f}, relative error "
        f"{overall.relative_error:.2f}, norm {overall.norm_ratio:.2f} x; rows {off:.1%} off; "
        f"loss {_number(loss)}, exact {gradient.exact_loss:.4f}"
    )


def _outputs(plan: PlanFile) -> str:
    facts = plan.graph
    if facts.task == "regression":
        return f"{_counted(facts.num_classes, 'value')} to predict"
    return f"{facts.num_classes} classes"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _strips(method: str) -> str:
    """Method of a cut into parts in words."""
    return f"strips of one line, {_method(method)}" if method.startswith("line-") else _method(method)


def _method(method: str) -> str:
    """Method of a cut in words."""
    return {
        "rcm": "METIS could not; reverse Cuthill-McKee instead",
        "line-given": "in the order of the nodes",
        "line-rcm": "reverse Cuthill-McKee",
        "line-metis": "METIS, in reverse Cuthill-McKee order",
    }.get(method, method)


def print_summary(folder: RunFolder, console: Console) -> None:
    """Print the tables of a finished run, and warnings of classes that its metric hides."""
    summary, plan = folder.summary(), folder.stored_plan()
    classes, names = summary.best.classes, plan.graph.class_names or ()
    table = Table(title=str(folder.path), title_justify="left", show_header=False)
    for name, value in summary_rows(summary, plan):
        table.add_row(name, value)
    console.print(table, soft_wrap=False)
    whole = folder.path / CLASSES
    by_class = class_table(classes, names, whole if whole.exists() else None)
    if by_class is not None:
        console.print(by_class, soft_wrap=False)
    for line in class_warnings(classes, summary.metric, names):
        console.print(line, markup=False, soft_wrap=True)


def summary_rows(summary: Summary, plan: StoredPlan) -> list[tuple[str, str]]:
    """Rows of the final table, a pure function of summary.json and plan.json."""
    metric = METRIC_NAMES[summary.metric]
    by_kind = {kind: count for kind, count in summary.bytes_per_epoch.items() if count}
    sent = sum(by_kind.values())
    rows = [
        (
            f"test {metric} at best validation",
            f"{score_text(summary.best.test)} (validation {summary.best.val:.4f}, "
            f"epoch {summary.best.epoch + 1} of {summary.epochs})",
        ),
        ("median epoch", f"{summary.median_epoch_seconds:.3f} s"),
        ("sent per epoch", readable_bytes(sent)),
    ]
    if len(by_kind) > 1:
        rows += [(f"  {kind}", readable_bytes(count)) for kind, count in by_kind.items()]
    if stopped := summary.stopped_early:
        rows.append(("stopped early", f"after epoch {stopped.epoch + 1}: {stopped.reason}"))
    for item in plan.resumed:
        rows.append(("resumed", f"after epoch {item.epoch}, until then {'x'.join(map(str, item.shape))}"))
    rival = plan.rival_bytes
    if rival is not None and sent and plan.plan.num_stages > 1:
        rows.append(
            (
                f"graph parallelism on {plan.plan.num_ranks} devices would send",
                f"{readable_bytes(rival)} ({rival / sent:.1f} x as much; by formula, not measured)",
            )
        )
    peaks = summary.peak_memory_bytes
    rows.append(
        ("peak memory of a rank", f"{readable_bytes(max(peaks))}, least {readable_bytes(min(peaks))}")
    )
    return rows


WIDE = 140
"""Columns of a wide table, in characters, where output is no terminal."""


def wide_console() -> Console:
    """A console for tables of many columns."""
    console = PatientConsole(highlight=False, soft_wrap=True)
    return console if console.is_terminal else PatientConsole(highlight=False, soft_wrap=True, width=WIDE)
