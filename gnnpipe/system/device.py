"""Waiting for a CUDA device, which does its work long after the host has asked for it."""

from __future__ import annotations

import torch


def finish(device: torch.device) -> None:
    """Wait until the device has done all work of the current stream. A CPU has done it already."""
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()


def mark(device: torch.device) -> torch.cuda.Event | None:
    """An event that happens when the device has done all work that the current stream has been given; None on
    a CPU."""
    if device.type != "cuda":
        return None
    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(device))
    return event
