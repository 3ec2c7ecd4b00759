"""Draw the predicted against the measured epochs of here.json.

python -m benchmarks.planner.draw
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).parent
COLOURS = {"gcnii": "tab:blue", "resgcn": "tab:orange"}
BAR = 0.2


def main() -> None:
    rows: list[dict[str, Any]] = json.loads((HERE / "here.json").read_text())["rows"]
    ends = [0.8 * min(row["measured"] for row in rows), 1.25 * max(row["measured"] for row in rows)]
    figure, axis = plt.subplots(figsize=(6, 5.4), layout="constrained")
    axis.fill_between(
        ends, [(1 - BAR) * end for end in ends], [(1 + BAR) * end for end in ends], color="0.92", lw=0
    )
    axis.plot(ends, ends, color="0.6", lw=1, zorder=0)
    for model, rate in sorted({(row["model"], row["megabits_per_second"] or 0) for row in rows}):
        mine = [row for row in rows if (row["model"], row["megabits_per_second"] or 0) == (model, rate)]
        axis.errorbar(
            [row["measured"] for row in mine],
            [row["predicted"] for row in mine],
            xerr=spread(mine, "measured"),
            yerr=spread(mine, "predicted"),
            fmt="s" if rate else "o",
            ms=5,
            lw=0.7,
            color=COLOURS[model],
            mfc="white" if rate else None,
            label=f"{model}, {f'{rate:g} Mbit/s' if rate else 'loopback'}",
        )
    worst = max(rows, key=lambda row: abs(row["error"]))
    axis.annotate(
        f"{worst['plan']}, {worst['error']:+.0%}",
        (worst["measured"], worst["predicted"]),
        textcoords="offset points",
        xytext=(-70, 40) if worst["error"] > 0 else (40, -30),
        arrowprops={"arrowstyle": "-", "lw": 0.7},
        fontsize=8,
    )
    axis.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
    for ticks in (axis.xaxis, axis.yaxis):
        ticks.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
        ticks.set_major_formatter("{x:g}")
        ticks.set_minor_formatter("")
    axis.set_xlabel("measured epoch, s (median; bars: all epochs)")
    axis.set_ylabel("predicted epoch, s (median; bars: all profiles)")
    axis.set_title(f"{len(rows)} plans on two cores; shaded: {BAR:.0%} off", fontsize=10)
    axis.legend(frameon=False, fontsize=8)
    figure.savefig(HERE / "here.png", dpi=120)


def spread(rows: list[dict[str, Any]], name: str) -> list[list[float]]:
    """Distances of the least and the largest value from the median."""
    key = "spread" if name == "measured" else "predicted_spread"
    return [[row[name] - row[key][0] for row in rows], [row[key][1] - row[name] for row in rows]]


if __name__ == "__main__":
    main()
