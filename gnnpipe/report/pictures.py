"""Pictures of a run, drawn from its records alone."""

from __future__ import annotations

import importlib.util
import io
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from itertools import product
from math import nan
from pathlib import Path
from typing import Any

from gnnpipe.errors import shown
from gnnpipe.files.writing import write_file
from gnnpipe.nn.metrics import Classes
from gnnpipe.records.class_tables import class_name
from gnnpipe.records.folder import RunFolder
from gnnpipe.records.record import BytesSent, EpochRecord, GradientQuality
from gnnpipe.records.seeds import SEEDS_PICTURE
from gnnpipe.records.taking import COMPARISON, CONFUSION_PICTURE, PICTURE
from gnnpipe.report.classes import SPLITS_IN_WORDS
from gnnpipe.report.console import METRIC_NAMES
from gnnpipe.schedule.timeline import Breakdown
from gnnpipe.system.failures import advice, reason

# Pieces of an epoch, by the published system's names and in its order, so that pictures can be compared; in
# colours that colour-blind readers can tell apart.
PIECES = {
    "compute": "#0072b2",
    "bubble": "#cccccc",
    "imbalance": "#999999",
    "communication_layer": "#d55e00",
    "communication_graph": "#cc79a7",
    "other": "#f0e442",
}

# Kinds of messages.
KINDS = {
    "communication-layer": "#d55e00",
    "communication-graph": "#cc79a7",
    "weights": "#56b4e9",
    "refresh": "#009e73",
}


# Confusion matrices of more classes have no numbers in their cells, and no names at their sides.
MOST_NUMBERED, MOST_TICKS = 15, 50
# Axes by their labels that have whole numbers only.
COUNTED = ("epoch", "convolution")


def draw_report(folder: RunFolder) -> str:
    """Draw learning curves and the breakdown of an epoch to RUN/report.png; return a line that says so,
    or why there is no picture."""
    if importlib.util.find_spec("matplotlib") is None:
        return "no picture: matplotlib is not installed; pip install 'gnnpipe[plot]'"
    records = folder.records()
    if not records:
        return "no picture: no epoch is done yet"
    from matplotlib.figure import Figure

    plan = folder.stored_plan()
    draws = [
        lambda axes: _draw_loss(axes, records),
        lambda axes: _draw_metric(axes, records, METRIC_NAMES[plan.metric]),
        lambda axes: _draw_breakdown(axes, records, plan.plan.num_parts),
    ]
    if max(records[-1].age, default=0) > 0:
        draws.append(lambda axes: _draw_age(axes, records))
    checked = _checked(records)
    if checked:
        draws += [lambda axes: _draw_estimate(axes, checked), lambda axes: _draw_layers(axes, *checked[-1])]
    # 3, 4, 5 or 6 panels: one row of three, two rows of two, or two rows of three
    columns = 2 if len(draws) == 4 else 3
    rows = -(-len(draws) // columns)
    figure = Figure(figsize=(12, 4 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes, draw in zip(panels, draws, strict=False):
        draw(axes)
    for axes in panels[len(draws) :]:
        axes.set_visible(False)
    figure.suptitle(folder.path.name)
    return _save(figure, folder.path / PICTURE)


def draw_confusion(folder: RunFolder) -> str | None:
    """Draw the confusion matrix of a finished run to RUN/confusion.png, if it has one; return a line as
    `draw_report` does."""
    classes = folder.summary().best.classes
    if classes is None or not classes.confusion or importlib.util.find_spec("matplotlib") is None:
        return None
    from matplotlib.figure import Figure

    names = folder.stored_plan().graph.class_names or ()
    size = min(4 + 0.3 * len(classes.confusion), 16)
    figure = Figure(figsize=(size + 1, size), layout="constrained")
    _draw_confusion(figure.subplots(), classes, names)
    figure.suptitle(folder.path.name)
    return _save(figure, folder.path / CONFUSION_PICTURE)


def _draw_confusion(axes: Any, classes: Classes, names: Sequence[str]) -> None:
    """Draw a row for each class: the shares of its nodes that were taken for each class."""
    counts = classes.confusion
    shares = [[count / max(sum(row), 1) for count in row] for row in counts]
    image = axes.imshow(shares, cmap="cividis", vmin=0, vmax=1)
    axes.figure.colorbar(image, ax=axes, label="share of the class")
    if len(counts) <= MOST_NUMBERED:
        for row, column in product(range(len(counts)), repeat=2):
            color = "black" if shares[row][column] > 0.5 else "white"
            axes.text(column, row, f"{counts[row][column]:,}", ha="center", va="center", color=color)
    if len(counts) <= MOST_TICKS:
        # a name may hold what matplotlib takes for a formula
        ticks = [_shortened(class_name(i, names)).replace("$", r"\$") for i in range(len(counts))]
        axes.set_xticks(range(len(counts)), ticks, rotation=90 if names else 0)
        axes.set_yticks(range(len(counts)), ticks)
    split = SPLITS_IN_WORDS[classes.reported]
    axes.set(title=f"{split} nodes, best epoch", xlabel="predicted class", ylabel="class")


def _shortened(name: str) -> str:
    """A class's name in 20 characters: long ones often differ at their end alone."""
    text = shown(name)
    return text if len(text) <= 20 else f"{text[:10]}…{text[-9:]}"


def draw_comparison(
    labels: Sequence[str], breakdowns: Sequence[Breakdown], sent: Sequence[BytesSent], folder: Path
) -> str:
    """Draw the seconds and bytes of the runs' epochs to comparison.png; return a line that says so.

    Args:
        labels: names of the runs.
        breakdowns: seconds of an epoch of each run.
        sent: bytes of an epoch of each run.
        folder: the picture's folder.
    """
    if importlib.util.find_spec("matplotlib") is None:
        return "no picture: matplotlib is not installed; pip install 'gnnpipe[plot]'"
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 2.2 + 0.45 * len(labels)), layout="constrained")
    seconds_axes, sent_axes = figure.subplots(1, 2)
    _stack(seconds_axes, labels, [vars(item) for item in breakdowns], PIECES)
    seconds_axes.set(title="seconds of a median epoch, mean of ranks")
    mebibytes = [{kind: count / 2**20 for kind, count in item.items()} for item in sent]
    _stack(sent_axes, labels, mebibytes, KINDS, legend_columns=2)
    sent_axes.set(title="MiB sent per epoch, all ranks")
    return _save(figure, folder / COMPARISON)


def draw_seeds(
    records: Mapping[int, Sequence[EpochRecord]], tests: Sequence[float | None], name: str, folder: Path
) -> str:
    """Draw the validation curves of runs and their test scores to seeds.png; return a line that says so.

    Args:
        records: of each run, by seed.
        tests: test score of each run at its best validation; None where test labels are hidden.
        name: of the metric.
        folder: the picture's folder.
    """
    if importlib.util.find_spec("matplotlib") is None:
        return "no picture: matplotlib is not installed; pip install 'gnnpipe[plot]'"
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4), layout="constrained")
    curves, dots = figure.subplots(1, 2, width_ratios=(2, 1))
    for seed, of_run in records.items():
        points = [(record.epoch + 1, record.scores.val) for record in of_run if record.scores is not None]
        curves.plot(*zip(*points, strict=True), linewidth=0.8, label=f"seed {seed}")
    curves.set(title=f"validation {name} (exact, whole graph)", xlabel="epoch", ylabel=name)
    if len(records) <= 12:  # more would hide the curves
        curves.legend(fontsize="small")
    known = [score for score in tests if score is not None]
    if known:
        dots.plot([0.0] * len(known), known, "o", color="#009e73", alpha=0.6)
        deviation = statistics.stdev(known) if len(known) > 1 else 0.0
        dots.errorbar([0.2], [statistics.mean(known)], yerr=[deviation], fmt="_", color="#0072b2", capsize=6)
    dots.set(title=f"test {name}:\nmean and standard deviation", xlim=(-0.4, 0.6), xticks=[])
    return _save(figure, folder / SEEDS_PICTURE)


def _save(figure: Any, path: Path) -> str:
    """Write a picture; return a line that says so, or why there is none."""
    for axes in figure.axes:
        if axes.get_xlabel() in COUNTED:
            axes.xaxis.get_major_locator().set_params(integer=True)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    try:
        write_file(path, content.getvalue())
    except OSError as error:
        return f"no picture: can't write {path} ({reason(error, str(path))}); {advice(error)}"
    return f"picture: {path}"


def _stack(
    axes: Any,
    labels: Sequence[str],
    bars: Sequence[Mapping[str, float]],
    colors: dict[str, str],
    legend_columns: int = 3,
) -> None:
    """Draw horizontal bars, each made of named pieces."""
    rows = range(len(labels))
    left = [0.0] * len(labels)
    for name, color in colors.items():
        values = [bar.get(name, 0.0) for bar in bars]
        axes.barh(rows, values, left=left, label=name.replace("_", "-"), color=color)
        left = [start + value for start, value in zip(left, values, strict=True)]
    axes.set_yticks(rows, labels)
    axes.invert_yaxis()
    axes.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=legend_columns)


def median_breakdown(records: Sequence[EpochRecord]) -> list[Breakdown]:
    """Median seconds of each piece of an epoch, rank by rank.

    Only epochs with as many ranks as the last one count, as a run may have gone on with fewer or more.
    """
    num_ranks = len(records[-1].ranks)
    ranks_of = [record.ranks for record in records if len(record.ranks) == num_ranks]
    return [combined(_median, epochs) for epochs in zip(*ranks_of, strict=True)]


def combined(how: Callable[[list[float]], float], breakdowns: Sequence[Breakdown]) -> Breakdown:
    """Combine each piece of several epochs or ranks by a function such as the mean."""
    names = [item.name for item in fields(Breakdown)]
    return Breakdown(*(how([getattr(item, name) for item in breakdowns]) for name in names))


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def _checked(records: Sequence[EpochRecord]) -> list[tuple[int, GradientQuality]]:
    """Epochs, counted from 1, whose gradient was compared with the exact one."""
    return [(record.epoch + 1, record.gradient) for record in records if record.gradient is not None]


def _draw_loss(axes: Any, records: Sequence[EpochRecord]) -> None:
    axes.plot(
        [record.epoch + 1 for record in records],
        [nan if record.loss is None else record.loss for record in records],
        color="#0072b2",
    )
    checked = _checked(records)
    if checked:
        epochs, gradients = zip(*checked, strict=True)
        losses = [gradient.exact_loss for gradient in gradients]
        axes.plot(epochs, losses, "x", color="#d55e00", label="exact, same weights and masks")
        axes.legend()
    axes.set(title="training loss", xlabel="epoch", ylabel="loss", yscale="log")


def _draw_age(axes: Any, records: Sequence[EpochRecord]) -> None:
    """Draw the mean age of messages over the last ten epochs, as the order of each is random."""
    recent = records[-10:]
    ages = [sum(layer) / len(recent) for layer in zip(*(record.age for record in recent), strict=True)]
    fresh = sum(record.fresh[0] for record in recent) / len(recent)
    axes.plot(range(len(ages)), ages, color="#0072b2", marker=".")
    axes.set(
        title=f"mean age of messages ({fresh:.0%} are fresh)",
        xlabel="convolution",
        ylabel="epochs",
        ylim=(0, None),
    )


def _draw_estimate(axes: Any, checked: Sequence[tuple[int, GradientQuality]]) -> None:
    epochs = [epoch for epoch, _ in checked]
    for key, label, color in (
        ("cosine", "cosine", "#009e73"),
        ("norm_ratio", "norm ratio", "#0072b2"),
        ("relative_error", "relative error", "#d55e00"),
        ("table_error", "error of rows", "#999999"),
    ):
        axes.plot(
            epochs,
            [getattr(gradient.estimate["all"], key) or 0 for _, gradient in checked],
            label=label,
            color=color,
            marker=".",
        )
    axes.set(title="gradient against the exact one", xlabel="epoch", ylim=(min(0, axes.get_ylim()[0]), None))
    axes.legend()


def _draw_layers(axes: Any, epoch: int, gradient: GradientQuality) -> None:
    layers = {name: error for name, error in gradient.estimate.items() if name != "all"}
    for key, label, color in (
        ("relative_error", "gradient of weights", "#d55e00"),
        ("table_error", "rows", "#999999"),
    ):
        values = enumerate(getattr(error, key) for error in layers.values())
        points = [(layer, value) for layer, value in values if value is not None]
        axes.plot(*zip(*points, strict=True), label=label, color=color, marker=".")
    names = list(layers)
    # about eight names have room below the axis
    shown = range(0, len(names), max(1, len(names) // 8))
    axes.set_xticks(list(shown), [names[layer] for layer in shown], rotation=45, ha="right")
    axes.set(title=f"relative error by layer, epoch {epoch}", ylim=(0, None))
    axes.legend()


def _draw_metric(axes: Any, records: Sequence[EpochRecord], name: str) -> None:
    evaluated = [(record.epoch + 1, record.scores) for record in records if record.scores is not None]
    for split, color in (("train", "#999999"), ("val", "#e69f00"), ("test", "#009e73")):
        points = [(epoch, getattr(scores, split)) for epoch, scores in evaluated]
        known = [(epoch, score) for epoch, score in points if score is not None]  # hidden test labels: none
        if known or split != "test":
            axes.plot(*zip(*known, strict=True), label=split, color=color, marker=".")
    axes.set(title=f"{name} (exact, whole graph)", xlabel="epoch", ylabel=name)
    axes.legend()


def _draw_breakdown(axes: Any, records: Sequence[EpochRecord], num_parts: int) -> None:
    ranks = median_breakdown(records)
    num_stages = len(ranks) // num_parts
    labels = [
        f"stage {stage}" if num_parts == 1 else f"stage {stage}, part {part}"
        for stage in range(num_stages)
        for part in range(num_parts)
    ]
    _stack(axes, labels, [vars(rank) for rank in ranks], PIECES)
    axes.set(title="seconds of a median epoch")
