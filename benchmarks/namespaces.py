"""Hosts made of network namespaces: each rank gets an interface of its own, whose rate can be limited.

    rank 0: [eth0 10.77.0.1]--+
    rank 1: [eth0 10.77.0.2]--+-- bridge, in a namespace of its own
    rank 2: [eth0 10.77.0.3]--+

The hosts are not reachable from outside, and nothing is left behind. They need iproute2 and the right to make
namespaces (root).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

INTERFACE = "eth0"


class NotPossibleError(Exception):
    """Namespaces can't be made here; the message has the reason."""


@contextmanager
def hosts(number: int) -> Iterator[list[str]]:
    """Make ``number`` hosts that reach each other; yield the names of their namespaces.

    Raises:
        NotPossibleError: iproute2 or the right to make namespaces is missing.
    """
    if shutil.which("ip") is None:
        raise NotPossibleError("iproute2 (ip) is not installed")
    prefix = f"gnnpipe{os.getpid()}"
    switch, names = f"{prefix}s", [f"{prefix}h{index}" for index in range(number)]
    try:
        _ip("netns", "add", switch)
        _ip("-n", switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", switch, "link", "set", "bridge", "up")
        for index, name in enumerate(names):
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
            _ip("-n", switch, "link", "add", f"port{index}", "type", "veth", "peer", "name", INTERFACE,
                "netns", name)  # fmt: skip
            _ip("-n", switch, "link", "set", f"port{index}", "master", "bridge", "up")
            _ip("-n", name, "addr", "add", f"10.77.0.{index + 1}/24", "dev", INTERFACE)
            _ip("-n", name, "link", "set", INTERFACE, "up")
        yield names
    finally:
        for name in [*names, switch]:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def inside(name: str, command: list[str]) -> list[str]:
    """The command line that runs ``command`` on the host of this name."""
    return ["ip", "netns", "exec", name, *command]


def limit_rate(megabits_per_second: float | None) -> None:
    """Limit the sending rate of the calling process's host; None removes the limit. Call it on that host."""
    if megabits_per_second is None:
        subprocess.run(["tc", "qdisc", "delete", "dev", INTERFACE, "root"], capture_output=True, check=False)
        return
    rate = f"{max(1, round(megabits_per_second * 1000))}kbit"
    _run("tc", "qdisc", "replace", "dev", INTERFACE, "root", "tbf", "rate", rate, "burst", "512kb",
         "latency", "100ms")  # fmt: skip


def train(names: list[str], out: Path, *flags: str, megabits_per_second: float | None = None) -> Path:
    """Run ``gnnpipe train`` with one rank on each host and wait for its end; return the run's folder.

    Raises:
        SystemExit: a rank failed; the message names the logs.
    """
    processes = start(names, out, *flags, megabits_per_second=megabits_per_second)
    with none_left(processes):
        codes = [process.wait() for process in processes]
    if any(codes):
        raise SystemExit(f"failed: train {' '.join(flags)}; see {out}.*.log")
    return out


def start(
    names: list[str], out: Path, *flags: str, megabits_per_second: float | None = None
) -> list[subprocess.Popen[bytes]]:
    """Start ``gnnpipe train`` with one rank on each host, as torchrun would.

    The output of rank 1 goes to ``out``.1.log.

    Args:
        names: names of the hosts.
        out: the run's folder.
        flags: flags of train; stages x parts is the number of hosts.
        megabits_per_second: sending rate of each host; None for no limit.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    shape = [sys.executable, "-c", f"from benchmarks.namespaces import *; limit_rate({megabits_per_second})"]
    train = [sys.executable, "-m", "gnnpipe", "train", *flags, "--out", str(out), "--overwrite"]
    common = {"MASTER_ADDR": "10.77.0.1", "MASTER_PORT": "29511", "GLOO_SOCKET_IFNAME": INTERFACE}
    common |= {
        "WORLD_SIZE": str(len(names)),
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
        "OMP_NUM_THREADS": "1",
    }
    processes = []
    for rank, name in enumerate(names):
        subprocess.run(inside(name, shape), check=True)
        environment = os.environ | common | {"RANK": str(rank), "GROUP_RANK": str(rank)}
        with out.with_suffix(f".{rank}.log").open("wb") as log:
            processes.append(
                subprocess.Popen(inside(name, train), stdout=log, stderr=subprocess.STDOUT, env=environment)
            )
    return processes


@contextmanager
def none_left(processes: list[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Kill the processes at the end of the block, however it ends."""
    try:
        yield
    finally:
        for process in processes:
            process.kill()


def set_link(name: str, state: Literal["up", "down"]) -> None:
    """Connect a host, or cut it off: its messages are lost, and no other host is told."""
    _ip("-n", name, "link", "set", INTERFACE, state)


def bytes_on_the_wire() -> int:
    """Bytes that the calling process's host has sent since it was made."""
    for line in Path("/proc/self/net/dev").read_text().splitlines():
        name, _, counts = line.partition(":")
        if name.strip() == INTERFACE:
            return int(counts.split()[8])
    raise NotPossibleError(f"{INTERFACE} is absent: this process runs on no host of `hosts`")


def _ip(*arguments: str) -> None:
    _run("ip", *arguments)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NotPossibleError(f"{' '.join(command)}: {done.stderr.strip()}")
