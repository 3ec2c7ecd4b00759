"""A link between two hosts that goes down: silence, of which no process is told."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import namespaces
from gnnpipe.run.torchrun import SECONDS_TO_SPEAK
from tests.cli.commands import gnnpipe
from tests.harness import hosts_or_skip

FLAGS = [
    "--synthetic.num_nodes", "400", "--synthetic.blocks_per_class", "2", "--layers", "4", "--hidden", "8",
    "--chunks", "4", "--threads", "1", "--eval-every", "5",
]  # fmt: skip
TIMEOUT = 5
# Nothing comes for the timeout; it takes as long again to find that the other rank can't be told, then a rank
# stays so that rank 0 can speak. Ending a process takes seconds where both cores are in use.
PATIENCE = 2 * TIMEOUT + SECONDS_TO_SPEAK + 10


@pytest.fixture
def hosts() -> Iterator[list[str]]:
    with hosts_or_skip(2) as names:
        yield names


@pytest.mark.slow
@pytest.mark.parametrize("shape", [["--stages", "2"], ["--parts", "2"]], ids=["stages", "parts"])
def test_no_rank_waits_for_ever(hosts: list[str], tmp_path: Path, shape: list[str]) -> None:
    out = tmp_path / "run"
    flags = [*FLAGS, *shape, "--epochs", "100000", "--checkpoint-every", "5", "--timeout", str(TIMEOUT)]
    processes = namespaces.start(hosts, out, *flags)
    with namespaces.none_left(processes):
        end = time.monotonic() + 120
        while len(list((out / "checkpoints").glob("epoch-*"))) < 2:
            assert all(process.poll() is None for process in processes), said(out)
            assert time.monotonic() < end, said(out)
            time.sleep(0.1)
        namespaces.set_link(hosts[1], "down")
        codes = [process.wait(PATIENCE) for process in processes]
    logs = said(out)
    assert all(code > 0 for code in codes), (codes, logs)
    for rank, log in enumerate(logs):
        assert f"rank {rank} waited {TIMEOUT} s (--timeout) in vain for" in log, log
    records = [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]
    epochs = str(len(records) + 5)
    done = gnnpipe(
        "train", "--resume", "run", "--stages", "1", "--parts", "1", "--epochs", epochs, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "going on from epoch" in done.stdout


def said(out: Path) -> list[str]:
    return [out.with_suffix(f".{rank}.log").read_text() for rank in range(2)]
