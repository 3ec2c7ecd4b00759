"""Free memory of a card, asked of a stand-in for the driver's library."""

from __future__ import annotations

import ctypes
import subprocess
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from gnnpipe.system import nvml
from gnnpipe.system.memory import free_memory_bytes


class Driver(SimpleNamespace):
    """Knows two cards, by number and by name, under the names of NVML's functions."""

    def __init__(self) -> None:
        free = {"0": 11, "1": 22, "GPU-abc": 33}
        calls: list[str] = []

        def find(named: str) -> int:
            self.named = named
            return 0 if named in free else 2

        def tell(_: ctypes.c_void_p, memory: Any) -> int:
            memory._obj.free = free[self.named]
            return 0

        super().__init__(
            calls=calls,
            nvmlInit_v2=lambda: calls.append("begin"),
            nvmlShutdown=lambda: calls.append("end"),
            nvmlDeviceGetHandleByIndex_v2=lambda index, _: find(str(index.value)),
            nvmlDeviceGetHandleByUUID=lambda name, _: find(name.value.decode()),
            nvmlDeviceGetMemoryInfo=tell,
        )


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    driver = Driver()
    monkeypatch.setattr(nvml.ctypes, "CDLL", lambda name: driver)
    monkeypatch.setattr(nvml.subprocess, "run", lambda *_, **__: pytest.fail("a process is started"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return driver


@pytest.mark.parametrize(
    ("visible", "index", "free"),
    [(None, 0, 11), (None, 1, 22), ("1", 0, 22), ("1,0", 1, 11), ("GPU-abc", 0, 33), ("", 1, 22)],
)
def test_the_driver_tells(
    visible: str | None, index: int, free: int, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert nvml.free_cuda_bytes(index) == free
    assert driver.calls == ["begin", "end"]


def test_no_context_is_made_in_this_process(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: pytest.fail("PyTorch is asked"))
    assert free_memory_bytes(torch.device("cuda", 1)) == 22


def test_without_the_library_another_process_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise OSError

    asked: list[Any] = []

    def run(command: list[str], **_: Any) -> SimpleNamespace:
        asked.append(command)
        return SimpleNamespace(stdout="44\n")

    monkeypatch.setattr(nvml.ctypes, "CDLL", absent)
    monkeypatch.setattr(nvml.subprocess, "run", run)
    assert nvml.free_cuda_bytes(3) == 44
    assert "mem_get_info(3)" in asked[0][-1]


def test_where_nobody_can_tell_nothing_is_known(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise subprocess.CalledProcessError(1, "python")

    monkeypatch.setattr(nvml.subprocess, "run", fail)
    assert nvml.free_cuda_bytes(7) is None
    assert free_memory_bytes(torch.device("cuda", 7)) is None
