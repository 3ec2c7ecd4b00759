"""The machine that a run is on, as the planner sees it."""

from __future__ import annotations

from dataclasses import replace

import torch

from gnnpipe.config.run import Device
from gnnpipe.planner.hardware import REFERENCE, SHIPPED, TURN, Hardware, Link, load_hardware
from gnnpipe.system.resources import cores, total_memory


def outdated(hardware: Hardware) -> str | None:
    """What to say of a profile that was measured elsewhere; None of one that was made here, or is shipped."""
    if not hardware.torch:
        return None
    if hardware.torch != torch.__version__:
        return (
            f"hardware: '{hardware.name}' was measured with PyTorch {hardware.torch}, and this is "
            f"{torch.__version__}; gnnpipe profile measures anew"
        )
    here = torch.cuda.device_count() if torch.cuda.is_available() else cores()
    if hardware.devices_per_host != here:
        return (
            f"hardware: '{hardware.name}' was measured on a host with {hardware.devices_per_host} devices, "
            f"and this one has {here}; gnnpipe profile measures anew"
        )
    return None


def hardware_here(name: str | None, device: Device = "auto") -> Hardware:
    """What is named, or a description of this host.

    Args:
        name: of what is shipped, or of a profile's file; None for this host.
        device: that a run is to use.

    Raises:
        PlanError: the hardware is unknown, or the file no profile.
    """
    if name is not None:
        return load_hardware(name)
    if device != "cpu" and torch.cuda.is_available():
        model = torch.cuda.get_device_name(0).lower()
        known = next((key for key in ("a100", "h100", "h200") if key in model), "a5000x8")
        return replace(SHIPPED[known], devices_per_host=torch.cuda.device_count())
    allotted = cores()
    link = Link(1e-4, 2e9)
    return Hardware(
        "this host",
        "usual figures",
        allotted,
        total_memory(),
        REFERENCE,
        link,
        link,
        cores_per_host=allotted,
        contention=1.1,
        crowding=1.05,
        message_seconds=1 / link.bandwidth,
        message_start_seconds=1.5e-4,
        crowded_message_seconds=6e-4,
        turn_seconds=TURN,
    )
