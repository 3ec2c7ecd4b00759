"""Machines to plan for: what a device computes, what links carry, and how much fits."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from gnnpipe.config.run import Device
from gnnpipe.errors import PlanError, not_known, shown
from gnnpipe.files.reading import read_json
from gnnpipe.files.writing import write_file
from gnnpipe.system.resources import cores, total_memory

GIB = 2**30

# The usual time slice of Linux, in seconds.
TURN = 3e-3


@dataclass(frozen=True)
class Link:
    """A way out of a device or a host."""

    latency: float
    """Seconds until a message's first byte arrives."""
    bandwidth: float
    """Bytes a second."""


@dataclass(frozen=True)
class KindRates:
    """What differs from one kind of layer to another, in seconds."""

    start: float
    """A chunk's way forward through a layer, however small it is."""
    entry: float
    """An entry of the output rows, forward, for all that is neither aggregation nor product."""
    start_back: float
    entry_back: float
    """Both backward."""
    entry_whole: float
    """As `entry`, where the graph is one chunk, which needs fewer tables."""
    entry_back_whole: float


@dataclass(frozen=True)
class Rates:
    """What one device computes, in seconds; measured by ``gnnpipe profile``, or from a data sheet."""

    gather: float
    """A number that an aggregation reads (edges x width)."""
    multiply: float
    """A multiplication of rows with weights."""
    sparse_entry: float
    """A non-zero of sparse features that is dropped or not."""
    epoch: float
    """An epoch besides its actions: records, and starting the optimiser's step."""
    weight: float
    """The optimiser's step of one weight."""
    kinds: dict[str, KindRates]
    """By kind of layer: those of `gnnpipe.config.run.Model`, and dense."""


@dataclass(frozen=True)
class Hardware:
    """Hosts with devices. Ranks fill one host after the other, in their order."""

    name: str
    source: str
    """Where the figures are from."""
    devices_per_host: int
    memory: int
    """Bytes of a device, or of a host whose devices are its cores."""
    rates: Rates
    local: Link
    """Between two devices of a host."""
    network: Link
    """Out of a host; its ranks share it."""
    cores_per_host: int | None = None
    """CPU cores that the ranks of a host take turns on; None where each rank has a device of its own."""
    contention: float = 1.0
    """How many times as long a core takes when all cores of the host are busy."""
    crowding: float = 1.0
    """How many times as long work takes, besides, when there are twice as many ranks as cores: they push each
    other's rows out of the caches, and take turns."""
    message_seconds: float = 0.0
    """Seconds of a core for each byte of a message, on either end, where cores carry them."""
    message_start_seconds: float = 0.0
    """Seconds of a core for each message between stages, on either end, however short it is."""
    crowded_message_seconds: float = 0.0
    """The same where ranks outnumber cores."""
    turn_seconds: float = 0.0
    """Where ranks outnumber cores: what a rank waits for another one, besides, until its turn comes."""
    shares_local: bool = True
    """Whether transfers inside a host share one path (a memory bus) or have one each."""
    hosts_per_machine: int = 1
    """Hosts that share cores, as network namespaces of one machine do."""
    torch: str = ""
    """Version of PyTorch that was measured; empty where none was."""

    @property
    def is_cpu(self) -> bool:
        """Whether ranks share cores and memory of a host."""
        return self.cores_per_host is not None

    def host_of(self, rank: int) -> int:
        """The host that a rank is on."""
        return rank // self.devices_per_host

    def machine_of(self, rank: int) -> int:
        """The cores that a rank runs on."""
        return self.host_of(rank) // self.hosts_per_machine

    def save(self, path: Path) -> None:
        """Write as JSON."""
        write_file(path, json.dumps(asdict(self), indent=2) + "\n")


def load_hardware(name: str) -> Hardware:
    """Shipped hardware by its name, or a profile by its path.

    Raises:
        PlanError: there is neither, or the file is no profile.
    """
    if name in SHIPPED:
        return SHIPPED[name]
    path = Path(name)
    try:
        found = path.is_file()
    except (OSError, ValueError):  # no file can have that name
        found = False
    if not found:
        raise PlanError(
            f"hardware: {not_known(name, SHIPPED, 'use')}, or the file that gnnpipe profile --out writes"
        )
    try:
        return _from_json(read_json(path, link=True, finite=False))
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise PlanError(
            f"hardware: '{shown(name)}' is no profile ({shown(str(error))}); make one with gnnpipe profile "
            f"--out {shown(name)}"
        ) from error


def _from_json(content: Any) -> Hardware:
    known = {item.name for item in fields(Hardware)}
    if not isinstance(content, dict) or not known >= set(content):
        raise ValueError("its fields are not those of a profile")
    rates = dict(content["rates"])
    rates["kinds"] = {kind: KindRates(**figures) for kind, figures in dict(rates["kinds"]).items()}
    values = content | {"rates": Rates(**rates), "local": Link(**content["local"])}
    found = Hardware(**(values | {"network": Link(**content["network"])}))
    numbers: list[Any] = [found.memory, found.devices_per_host, found.contention, found.cores_per_host or 1]
    numbers += [found.crowding, found.message_seconds, found.turn_seconds]
    numbers += [found.message_start_seconds, found.crowded_message_seconds]
    numbers += [rate for key, rate in asdict(found.rates).items() if key != "kinds"]
    numbers += [*asdict(found.local).values(), *asdict(found.network).values()]
    numbers += [rate for kind in found.rates.kinds.values() for rate in asdict(kind).values()]
    if not all(type(number) in (int, float) and 0 <= number < float("inf") for number in numbers):
        raise ValueError("a figure is not a positive number")
    if not (found.devices_per_host and found.local.bandwidth and found.network.bandwidth):
        raise ValueError("devices and bandwidths must be above 0")
    if "dense" not in found.rates.kinds:
        raise ValueError("the kind 'dense' is missing")
    return found


def _alike(start: float, entry: float) -> dict[str, KindRates]:
    """Rates where kinds of layers were not told apart."""
    return {"dense": KindRates(start, entry, start, entry, entry, entry)}


# Seconds on two cores of a current server, for where only ratios matter. Measured in full-graph epochs
# (GCNII, 100,000 nodes, 2 M edges, width 128): a pull, a product, and all that goes entry by entry.
REFERENCE = Rates(1.7e-10, 1.6e-11, 5e-8, 5e-3, 4e-9, _alike(1.5e-4, 2e-9))


def _gpu(copy_rate: float, gemm_rate: float, start: float = 4e-5) -> Rates:
    """Rates from a data sheet: aggregation and all that goes entry by entry run at the memory's speed.

    Args:
        copy_rate: bytes a second of the device's memory.
        gemm_rate: float32 operations a second.
        start: of a chunk's layer: about eight kernels at 5 us each.
    """
    number = 4 / (0.6 * copy_rate)  # what kernels usually reach of it
    return Rates(number, 2 / (0.6 * gemm_rate), 4 * number, 1e-3, 9 * number, _alike(start, 6 * number))


_ETHERNET_HOST = Hardware(
    name="cpu-25g",
    source="cores as measured on an AMD EPYC virtual machine (2 cores); 25 Gb/s Ethernet",
    devices_per_host=1,
    memory=256 * GIB,
    rates=replace(REFERENCE, gather=2 * REFERENCE.gather, multiply=2 * REFERENCE.multiply),
    local=Link(5e-5, 2e9),
    network=Link(5e-5, 25e9 / 8),
    cores_per_host=1,
)
SHIPPED: dict[str, Hardware] = {
    hardware.name: hardware
    for hardware in (
        Hardware(
            name="a5000x8",
            source="2 nodes of 4 RTX A5000 (768 GB/s, 27.8 TFLOP/s fp32); links as the authors of GNNPipe "
            "measured them: 102 Gb/s in a node, 56 Gb/s a GPU between nodes",
            devices_per_host=4,
            memory=24 * GIB,
            rates=_gpu(768e9, 27.8e12),
            local=Link(2e-5, 102e9 / 8),
            network=Link(3e-5, 4 * 56e9 / 8),
            shares_local=False,
        ),
        Hardware(
            name="a100",
            source="nodes of 8 A100 SXM 80 GB (2.0 TB/s, 19.5 TFLOP/s fp32; NVIDIA data sheet), NVLink 300 "
            "GB/s each way, 8 x 200 Gb/s InfiniBand",
            devices_per_host=8,
            memory=80 * GIB,
            rates=_gpu(2.0e12, 19.5e12),
            local=Link(1e-5, 250e9),
            network=Link(2e-5, 8 * 200e9 / 8),
            shares_local=False,
        ),
        Hardware(
            name="h100",
            source="nodes of 8 H100 SXM 80 GB (3.35 TB/s, 67 TFLOP/s fp32; NVIDIA data sheet), NVLink 450 "
            "GB/s each way, 8 x 400 Gb/s InfiniBand",
            devices_per_host=8,
            memory=80 * GIB,
            rates=_gpu(3.35e12, 67e12),
            local=Link(1e-5, 380e9),
            network=Link(2e-5, 8 * 400e9 / 8),
            shares_local=False,
        ),
        Hardware(
            name="h200",
            source="as h100, with 141 GB of 4.8 TB/s (NVIDIA data sheet)",
            devices_per_host=8,
            memory=141 * GIB,
            rates=_gpu(4.8e12, 67e12),
            local=Link(1e-5, 380e9),
            network=Link(2e-5, 8 * 400e9 / 8),
            shares_local=False,
        ),
        replace(_ETHERNET_HOST, name="cpu-10g", network=Link(5e-5, 10e9 / 8),
                source=_ETHERNET_HOST.source.replace("25 Gb", "10 Gb")),
        _ETHERNET_HOST,
        replace(_ETHERNET_HOST, name="cpu-100g", network=Link(5e-5, 100e9 / 8),
                source=_ETHERNET_HOST.source.replace("25 Gb", "100 Gb")),
    )
}  # fmt: skip


def outdated(hardware: Hardware) -> str | None:
    """What to say of a profile that was measured elsewhere; None of one that was made here, or is shipped."""
    import torch  # takes seconds, and reading a profile needs none of it

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
    """The hardware of a name, or a description of this host.

    Args:
        name: of shipped hardware, or of a profile's file; None for this host.
        device: that a run is to use.

    Raises:
        PlanError: the hardware is unknown, or the file no profile.
    """
    if name is not None:
        return load_hardware(name)
    import torch

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
