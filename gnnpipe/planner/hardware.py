"""Machines to plan for: speed of a device, latency and bandwidth of links, bytes of memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from gnnpipe.config.run import Device
from gnnpipe.errors import PlanError, not_known, shown
from gnnpipe.files.reading import read_json
from gnnpipe.files.typed_json import from_object
from gnnpipe.files.writing import write_file
from gnnpipe.system.resources import cores, total_memory

GIB = 2**30

# Seconds of the usual time slice of Linux: where ranks outnumber cores, one may have to wait that long.
TURN = 3e-3


@dataclass(frozen=True)
class Link:
    """A link between two devices, or from a host to the others."""

    latency: float
    """Seconds until a message's first byte arrives."""
    bandwidth: float
    """Bytes a second."""


@dataclass(frozen=True)
class KindRates:
    """Rates of one kind of layer, in seconds."""

    start: float
    """Overhead of one chunk in one layer, forward: the time that does not shrink with the chunk."""
    entry: float
    """One number of the output rows, forward, in everything that is neither aggregation nor a product with
    weights: dropout, activation, norm."""
    start_back: float
    entry_back: float
    """`start` and `entry`, backward."""
    entry_whole: float
    """`entry` where the graph is one chunk, which needs fewer tables."""
    entry_back_whole: float
    """`entry_back`, likewise."""
    gather: float | None = None
    """One number that the aggregation reads along an edge, forward; None where nobody measured the kind."""
    gather_back: float | None = None
    """The same backward."""


# Seconds of a number that is read along an edge, forward and backward, over those of a linear aggregation:
# for kinds of layers that a profile has not measured. Attention makes a score for every edge, and pulls twice
# and three times; pushed layers go through autograd, edge by edge. Estimates: by these a
# layer of benchmarks/attention takes about as long as measured.
EDGE_FACTORS = {"gat": (2.0, 4.0), "gatv2": (8.0, 20.0), "push": (8.0, 20.0)}


@dataclass(frozen=True)
class Rates:
    """Seconds of one device for one unit of each kind of work; from ``gnnpipe profile`` or a data sheet."""

    gather: float
    """One number that an aggregation reads; it reads edges x width of them."""
    multiply: float
    """One multiplication in a product of rows and weights."""
    sparse_entry: float
    """Dropout of one non-zero of sparse features."""
    epoch: float
    """Fixed overhead of an epoch: writing records, starting the optimiser's step."""
    weight: float
    """The optimiser's step of one weight."""
    kinds: dict[str, KindRates]
    """By kind of layer, see `gnnpipe.nn.layer.Layer.cost_kind`; ``dense`` for layers that read no neighbours,
    and for those that nobody measured."""

    def of(self, kind: str) -> KindRates:
        """The rates of a kind of layer."""
        return self.kinds.get(kind) or self.kinds["dense"]

    def edge(self, kind: str) -> float:
        """Seconds of a number that a layer of a kind reads along an edge, forward."""
        measured = self.of(kind).gather
        return self.gather * EDGE_FACTORS.get(kind, (1.0, 1.0))[0] if measured is None else measured

    def edge_back(self, kind: str) -> float:
        """The same backward."""
        measured = self.of(kind).gather_back
        return self.gather * EDGE_FACTORS.get(kind, (1.0, 1.0))[1] if measured is None else measured


@dataclass(frozen=True)
class Hardware:
    """Hosts with devices. Ranks fill the hosts in order: the first `devices_per_host` ranks share host 0."""

    name: str
    source: str
    """Source of the figures, for people to read."""
    devices_per_host: int
    memory: int
    """Bytes of one device; of the whole host where its devices are cores."""
    rates: Rates
    local: Link
    """Between two devices of a host."""
    network: Link
    """From a host to the others; its ranks share it."""
    cores_per_host: int | None = None
    """CPU cores that the ranks of a host share; None where each rank has a device of its own."""
    contention: float = 1.0
    """Slowdown of a core when all cores of the host are busy, over one that is busy alone."""
    crowding: float = 1.0
    """Slowdown at two ranks per core (oversubscription), on top of `contention` and of taking turns: ranks
    push each other's rows out of the caches."""
    message_seconds: float = 0.0
    """Seconds of a core per byte of a message, at either end, where cores copy messages."""
    message_start_seconds: float = 0.0
    """Seconds of a core per message between stages, at either end, whatever its size."""
    crowded_message_seconds: float = 0.0
    """`message_start_seconds` where ranks outnumber cores."""
    turn_seconds: float = 0.0
    """Seconds until a rank whose message has arrived gets a core again, where ranks outnumber cores."""
    shares_local: bool = True
    """Whether transfers inside a host share one path (a memory bus) or have one each."""
    hosts_per_machine: int = 1
    """Number of hosts that share one set of cores, as network namespaces of one machine do."""
    torch: str = ""
    """Version of PyTorch that the figures were measured with; empty if they were not measured."""

    @property
    def is_cpu(self) -> bool:
        """Whether ranks share cores and memory of a host."""
        return self.cores_per_host is not None

    def host_of(self, rank: int) -> int:
        """Number of the host that runs a rank."""
        return rank // self.devices_per_host

    def machine_of(self, rank: int) -> int:
        """Number of the machine, that is the set of cores, that runs a rank."""
        return self.host_of(rank) // self.hosts_per_machine

    def save(self, path: Path) -> None:
        """Write as JSON, as `load_hardware` reads it."""
        write_file(path, json.dumps(asdict(self), indent=2) + "\n")


def load_hardware(name: str) -> Hardware:
    """Return shipped hardware by its name, or a profile by its path.

    Raises:
        PlanError: the name is neither shipped hardware nor a file, or the file is no profile.
    """
    if name in SHIPPED:
        return SHIPPED[name]
    path = Path(name)
    try:
        is_file = path.is_file()
    except (OSError, ValueError):  # no file can have that name
        is_file = False
    if not is_file:
        raise PlanError(
            f"hardware: {not_known(name, SHIPPED, 'use')}, or the file that gnnpipe profile --out writes"
        )
    try:
        return _from_json(read_json(path, link=True, finite=False))
    except (ValueError, OSError) as error:
        raise PlanError(
            f"hardware: '{shown(name)}' is no profile ({shown(str(error))}); make one with gnnpipe profile "
            f"--out {shown(name)}"
        ) from error


def _from_json(content: Any) -> Hardware:
    """Hardware as `Hardware.save` wrote it; ValueError where it did not."""
    known = {field.name for field in fields(Hardware)}
    if not isinstance(content, dict) or not known >= set(content):
        raise ValueError("its fields are not those of a profile")
    hardware = from_object(Hardware, content)
    if min(_figures(asdict(hardware))) < 0:
        raise ValueError("a figure is not a positive number")
    counts = hardware.devices_per_host, hardware.hosts_per_machine, hardware.cores_per_host
    if 0 in (*counts, hardware.local.bandwidth, hardware.network.bandwidth):
        raise ValueError("devices, hosts, cores and bandwidths must be above 0")
    if "dense" not in hardware.rates.kinds:
        raise ValueError("the kind 'dense' is missing")
    return hardware


def _figures(values: dict[str, Any]) -> Iterator[float]:
    """Every number that the planner computes with."""
    for value in values.values():
        if isinstance(value, dict):
            yield from _figures(value)
        elif isinstance(value, int | float):  # a rate that nobody measured is None
            yield value


def _alike(start: float, entry: float) -> dict[str, KindRates]:
    """Return one set of rates for all kinds of layers and both directions."""
    return {"dense": KindRates(start, entry, start, entry, entry, entry)}


# Rates of two cores of a current server, for uses in which only their ratios matter. Measured in full-graph
# epochs (GCNII, 100,000 nodes, 2 M edges, width 128) of aggregation, products, and elementwise work.
REFERENCE = Rates(1.7e-10, 1.6e-11, 5e-8, 5e-3, 4e-9, _alike(1.5e-4, 2e-9))


def _gpu(copy_rate: float, gemm_rate: float, start: float = 4e-5) -> Rates:
    """Rates from a data sheet: aggregation and elementwise work are bound by the memory's bandwidth.

    Args:
        copy_rate: bytes a second of the device's memory.
        gemm_rate: float32 operations a second.
        start: seconds to start a chunk's layer: about eight kernels at 5 us each.
    """
    # kernels usually reach 60 % of what a data sheet promises
    number = 4 / (0.6 * copy_rate)
    # counted in float32 numbers moved: 4 to drop a non-zero, 9 to step a weight, 6 for an entry of the rows
    return Rates(number, 2 / (0.6 * gemm_rate), 4 * number, 1e-3, 9 * number, _alike(start, 6 * number))


# Measured by benchmarks/gpu. A gathered number costs the time of the L2 cache: pulls of 64 to 128 columns on
# five kinds of graph take 0.5 to 1.1 ps a number on an H100, and 0.8 times as long on an H200. Passes over
# rows take the memory's time, 1.5 times as long on an H100 as on an H200. A chunk and layer takes twelve
# kernels, forward and backward together, of 8 us each to launch.
_H100 = Rates(6e-13, 6e-14, 8e-12, 1e-3, 1.8e-11, _alike(4.8e-5, 8e-12))
_H200 = Rates(5e-13, 6e-14, 6e-12, 1e-3, 1.2e-11, _alike(4.8e-5, 5.4e-12))

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
            source="nodes of 8 H100 SXM 80 GB, whose rates were measured (benchmarks/gpu); NVLink 450 GB/s "
            "each way, 8 x 400 Gb/s InfiniBand (NVIDIA data sheet)",
            devices_per_host=8,
            memory=80 * GIB,
            rates=_H100,
            local=Link(1e-5, 380e9),
            network=Link(2e-5, 8 * 400e9 / 8),
            shares_local=False,
        ),
        Hardware(
            name="h200",
            source="as h100, with 141 GB, and rates measured on one (benchmarks/gpu)",
            devices_per_host=8,
            memory=141 * GIB,
            rates=_H200,
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
    """Warning for a profile that was measured on another host or PyTorch; None for any other hardware."""
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
    """Return the hardware of that name, or describe this host by usual figures.

    Args:
        name: shipped hardware, or the file of a profile; None for this host.
        device: the device that a run is to use.

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
