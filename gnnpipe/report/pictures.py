"""Pictures of a run, drawn from its records alone."""

from __future__ import annotations

import importlib.util
from typing import Any

from gnnpipe.report.console import METRIC_NAMES
from gnnpipe.train.records import PICTURE, PLAN, RunFolder

# The original's names and order, so that pictures compare; colours that colour-blind readers can tell apart.
PARTS = {
    "compute": "#0072b2",
    "bubble": "#cccccc",
    "imbalance": "#999999",
    "communication_layer": "#d55e00",
    "communication_graph": "#cc79a7",
    "other": "#f0e442",
}


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


def median_breakdown(records: list[dict[str, Any]]) -> list[dict[str, float]]:
    """Median seconds of each part of an epoch, rank by rank; 0 where an older version did not tell."""
    ranks = range(len(records[0]["ranks"]))
    return [
        {part: _median([record["ranks"][rank].get(part, 0.0) for record in records]) for part in PARTS}
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
        axes.plot(epochs, [record[split] for record in evaluated], label=split, color=color)
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
    left = [0.0] * len(ranks)
    for part, color in PARTS.items():
        values = [rank[part] for rank in ranks]
        axes.barh(labels, values, left=left, label=part.replace("_", "-"), color=color)
        left = [start + value for start, value in zip(left, values, strict=True)]
    axes.invert_yaxis()
    axes.set(title="median epoch", xlabel="seconds")
    axes.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=len(PARTS))
