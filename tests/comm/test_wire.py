"""The bytes that ranks count are those that their network interfaces send."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import namespaces
from tests.comm import wire_rank
from tests.harness import hosts_or_skip

# Ethernet, IP and TCP headers and acknowledgements; 0.1 % for large messages, more for small ones
OVERHEAD = 0.05


@pytest.fixture(scope="module")
def four_hosts() -> Iterator[list[str]]:
    with hosts_or_skip(4) as names:
        yield names


@pytest.mark.slow
@pytest.mark.parametrize(("stages", "parts"), [(4, 1), (1, 4), (2, 2)])
def test_counters_agree_with_the_interfaces(
    stages: int, parts: int, four_hosts: list[str], tmp_path: Path
) -> None:
    module = [sys.executable, "-m", wire_rank.__name__, str(tmp_path), str(stages), str(parts)]
    environment = os.environ | {"GLOO_SOCKET_IFNAME": namespaces.INTERFACE, "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            namespaces.inside(name, [*module, str(rank)]), env=environment, stderr=subprocess.PIPE, text=True
        )
        for rank, name in enumerate(four_hosts)
    ]
    errors = [process.communicate(timeout=120)[1] for process in ranks]
    assert [process.returncode for process in ranks] == [0] * len(ranks), "\n".join(errors)
    found = [json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in range(len(ranks))]
    for rank in found:
        counted = sum(rank["counted"].values())
        assert counted <= rank["on_the_wire"] <= (1 + OVERHEAD) * counted + rank["small_talk"], rank
    counted, wire = (sum(rank[key] for rank in found) for key in ("total", "on_the_wire"))
    assert counted > 10 * 2**20
    assert counted <= wire <= (1 + OVERHEAD) * counted
