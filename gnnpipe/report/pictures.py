"""Pictures of a run, drawn from its records alone."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from gnnpipe.report.console import METRIC_NAMES
from gnnpipe.train.records import COMPARISON, PICTURE, PLAN, RunFolder

# The original's names and order, so that pictures compare; colours that colour-blind readers can tell apart.
PIECES = {
    "compute": "#0072b2",
    "bubble": "#cccccc",
    "imbalance": "#999999",
    "communication_layer": "#d55e00",
    "communication_graph": "#cc79a7",
    "other": "#f0e442",
}

KINDS = {"communication-layer": "#d55e00", "communication-graph": "#cc79a7", "weights": "#56b4e9"}


def draw_report(folder: RunFolder) -> str:
    """Draw learning curves and the breakdown of an epoch to RUN/report.png; return a line that says so."""
    if importlib.util.find_spec("matplotlib") is None:
        return "no picture: matplotlib is not installed; pip install 'gnnpipe[plot]'"
    records = folder.records()
    if not records:
        return "no picture: no epoch is done yet"
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4), layout="constrained")
    loss, metric, seconds = figure.subplots(1, 3)
    _draw_loss(loss, records)
    _draw_metric(metric, records, METRIC_NAMES[folder.read(PLAN)["metric"]])
    _draw_breakdown(seconds, records, folder.read(PLAN)["plan"]["num_parts"])
    figure.suptitle(folder.path.name)
    path = folder.path / PICTURE
    figure.savefig(path, dpi=110)
    return f"picture: {path}"


def draw_comparison(columns: list[dict[str, Any]], folder: Path) -> str:
    """Draw where the runs' epochs go, and what they send, to comparison.png; return a line that says so.

    Args:
        columns: of each run its folder ``run``, ``plan``, ``breakdown`` and ``bytes_by_kind``.
        folder: where to put the picture.
    """
    if importlib.util.find_spec("matplotlib") is None:
        return "no picture: matplotlib is not installed; pip install 'gnnpipe[plot]'"
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 2.2 + 0.45 * len(columns)), layout="constrained")
    seconds, sent = figure.subplots(1, 2)
    plans = [column["plan"] for column in columns]
    names = [Path(column["run"]).name for column in columns]
    labels = plans if len(set(plans)) == len(plans) else names
    _stack(seconds, labels, [column["breakdown"] for column in columns], PIECES)
    seconds.set(title="seconds of a median epoch, mean of ranks")
    mebibytes = [
        {kind: count / 2**20 for kind, count in column["bytes_by_kind"].items()} for column in columns
    ]
    _stack(sent, labels, mebibytes, KINDS, legend_columns=2)
    sent.set(title="MiB sent per epoch, all ranks")
    path = folder / COMPARISON
    try:
        figure.savefig(path, dpi=110)
    except OSError as error:
        return f"no picture: can't write {path} ({error.strerror})"
    return f"picture: {path}"


def _stack(
    axes: Any,
    labels: list[str],
    bars: list[dict[str, float]],
    colors: dict[str, str],
    legend_columns: int = 3,
) -> None:
    """Horizontal bars, each made of named pieces."""
    places = range(len(labels))
    left = [0.0] * len(labels)
    for name, color in colors.items():
        values = [bar.get(name, 0.0) for bar in bars]
        axes.barh(places, values, left=left, label=name.replace("_", "-"), color=color)
        left = [start + value for start, value in zip(left, values, strict=True)]
    axes.set_yticks(places, labels)
    axes.invert_yaxis()
    axes.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=legend_columns)


def median_breakdown(records: list[dict[str, Any]]) -> list[dict[str, float]]:
    """Median seconds of each part of an epoch, rank by rank; 0 where an older version did not tell."""
    ranks = range(len(records[0]["ranks"]))
    return [
        {part: _median([record["ranks"][rank].get(part, 0.0) for record in records]) for part in PIECES}
        for rank in ranks
    ]


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def _draw_loss(axes: Any, records: list[dict[str, Any]]) -> None:
    axes.plot(
        [record["epoch"] + 1 for record in records], [record["loss"] for record in records], color="#0072b2"
    )
    axes.set(title="training loss", xlabel="epoch", ylabel="loss", yscale="log")


def _draw_metric(axes: Any, records: list[dict[str, Any]], name: str) -> None:
    evaluated = [record for record in records if "val" in record]
    for split, color in (("train", "#999999"), ("val", "#e69f00"), ("test", "#009e73")):
        epochs = [record["epoch"] + 1 for record in evaluated]
        axes.plot(epochs, [record[split] for record in evaluated], label=split, color=color, marker=".")
    axes.set(title=f"{name} (exact, whole graph)", xlabel="epoch", ylabel=name)
    axes.legend()


def _draw_breakdown(axes: Any, records: list[dict[str, Any]], num_parts: int) -> None:
    ranks = median_breakdown(records)
    num_stages = len(ranks) // num_parts
    labels = [
        f"stage {stage}" if num_parts == 1 else f"stage {stage}, part {part}"
        for stage in range(num_stages)
        for part in range(num_parts)
    ]
    _stack(axes, labels, ranks, PIECES)
    axes.set(title="seconds of a median epoch")
