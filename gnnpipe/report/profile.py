"""The output of ``gnnpipe profile``."""

from __future__ import annotations

from gnnpipe.planner.hardware import KindRates
from gnnpipe.planner.profile import Profile
from gnnpipe.system.words import readable_bytes


def describe(profile: Profile) -> list[str]:
    """Lines on a profile: speed of a device by kind of layer, links, slowdowns, and error of the fit."""
    hardware, rates = profile.hardware, profile.hardware.rates
    cores = f", {hardware.cores_per_host} cores" if hardware.cores_per_host else ""
    lines = [
        f"{hardware.name}: {hardware.devices_per_host} ranks{cores}, {readable_bytes(hardware.memory)}",
        f"aggregation {_rate(rates.gather)} numbers/s, products {_rate(rates.multiply)} multiplications/s on "
        "one device",
    ]
    for kind, figures in rates.kinds.items():
        if kind != "dense":
            lines.append(
                f"{kind}: a chunk's layer takes {1e6 * figures.start:.0f} us to start forward and "
                f"{1e6 * figures.start_back:.0f} backward, and {1e9 * figures.entry:.2f} and "
                f"{1e9 * figures.entry_back:.2f} ns an entry" + _along_edges(figures)
            )
    lines.append(
        f"between two processes {1e6 * hardware.local.latency:.0f} us, "
        f"{readable_bytes(round(hardware.local.bandwidth))}/s"
    )
    if hardware.is_cpu:
        lines.append(
            f"a core takes {hardware.contention:.2f} x as long when all are busy, and "
            f"{1e6 * hardware.message_start_seconds:.0f} us on either end of a message"
        )
        if hardware.crowded_message_seconds:
            lines.append(
                f"with two ranks a core {hardware.crowding:.2f} x that, and "
                f"{1e6 * hardware.crowded_message_seconds:.0f} us on either end of a message"
            )
    lines.append(
        f"times by these figures are off by {profile.off:.0%} on average from those that were measured"
    )
    return lines


def _along_edges(figures: KindRates) -> str:
    """The rates of a kind that does not aggregate by a pull; nothing for others."""
    if figures.gather is None or figures.gather_back is None:
        return ""
    return f"; {_rate(figures.gather)} numbers/s along edges forward, {_rate(figures.gather_back)} backward"


def _rate(seconds: float) -> str:
    """A rate per second, from seconds per unit; these may come out as 0 on a graph that is too small."""
    return f"{1e-9 / seconds:.3g} G" if seconds else "too many to measure on this graph"
