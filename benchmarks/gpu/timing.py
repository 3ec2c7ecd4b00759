"""Timings on a device that runs asynchronously to the host."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch


def milliseconds(work: Callable[[], object], device: torch.device, budget: float = 0.2) -> float:
    """Median milliseconds of ``work`` between two events, after one warm-up run."""
    work()
    if device.type == "cpu":
        began = time.perf_counter()
        work()
        return 1e3 * (time.perf_counter() - began)
    torch.cuda.synchronize()
    found: list[float] = []
    while len(found) < 5 or (sum(found) < 1e3 * budget and len(found) < 30):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        work()
        end.record()
        end.synchronize()
        found.append(begin.elapsed_time(end))
    return statistics.median(found)


def epoch_seconds(
    step: Callable[[], object], device: torch.device, epochs: int, warm: int = 3
) -> dict[str, float]:
    """Median seconds of an epoch, after ``warm`` epochs of warm-up, and peak memory in GB."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    found = []
    for _ in range(warm + epochs):
        _settle(device)
        began = time.perf_counter()
        step()
        _settle(device)
        found.append(time.perf_counter() - began)
        if sum(found) > 25:
            break
    peak = torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else 0.0
    kept = found[warm:] or found[-1:]
    return {"seconds": statistics.median(kept), "least": min(kept), "most": max(kept), "peak_gb": peak}


def _settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
