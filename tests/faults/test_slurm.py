"""The Slurm script of the docs, with stubs in place of Slurm's commands that send what Slurm sends."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from tests.cli.commands import BIN
from tests.faults.launches import SMALL, epochs_of, started

ROOT = Path(__file__).parents[2]
JOB = "4711"
# Starts the tasks as srun does; its exit code is the highest of theirs.
SRUN = f"""#!{sys.executable}
import os, subprocess, sys
words = sys.argv[1:]
while words[0].startswith("-"):
    words.pop(0)
tasks = []
for n in range(int(os.environ["SLURM_NTASKS"])):
    os.environ |= {{"SLURM_PROCID": str(n), "SLURM_LOCALID": str(n), "SLURM_NODEID": "0"}}
    tasks.append(subprocess.Popen(words))
with open("tasks", "w") as file:
    file.write(" ".join(str(task.pid) for task in tasks))
codes = [task.wait() for task in tasks]
sys.exit(max(code if code >= 0 else 128 - code for code in codes))
"""
SCONTROL = """#!/bin/sh
case $1 in
show) echo 127.0.0.1 ;;
requeue) echo "$2" >> requeued ;;
esac
"""
ONLY_SAYS = """#!/bin/sh
for word; do :; done
echo "$word"
"""


def script_of_docs() -> str:
    section = (ROOT / "docs/operations.md").read_text().split("## Slurm\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("    ") or not line]
    return textwrap.dedent("\n".join(lines)).strip() + "\n"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def lay_out(folder: Path, epochs: int = 400, srun: str = SRUN) -> tuple[list[str], dict[str, str]]:
    """The script for a small graph, the stubs, and the environment of its job."""
    script = script_of_docs()
    for old, new in {
        "/shared/runs": str(folder / "runs"),
        "--dataset Reddit --stages 2 --parts 4": " ".join([*SMALL, "--epochs", str(epochs), "--stages", "2"]),
        "29500": str(free_port()),
    }.items():
        assert script.count(old) == 1, old
        script = script.replace(old, new)
    (folder / "job.sh").write_text(script)
    stubs = folder / "bin"
    stubs.mkdir()
    for name, content in (("srun", srun), ("scontrol", SCONTROL)):
        (stubs / name).write_text(content)
        (stubs / name).chmod(0o755)
    environ = {
        "PATH": f"{stubs}:{BIN}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "SLURM_JOB_ID": JOB,
        "SLURM_NTASKS": "2",
        "SLURM_NNODES": "1",
        "SLURM_JOB_NODELIST": "here",
    }
    return ["bash", "job.sh"], environ


def test_the_script_asks_for_as_many_tasks_as_its_run_needs() -> None:
    script = script_of_docs()
    numbers = {name: int(number) for name, number in re.findall(r"--([a-z-]+)[= ](\d+)", script)}
    assert numbers["nodes"] * numbers["ntasks-per-node"] == numbers["stages"] * numbers["parts"]
    assert numbers["ntasks-per-node"] == numbers["gpus-per-node"]


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        ([], "--out {out}"),
        (["checkpoints"], "--out {out} --overwrite"),
        (["checkpoints/epoch-00000010.part"], "--out {out} --overwrite"),
        (["checkpoints/epoch-00000010"], "--resume {out}"),
        (["checkpoints/epoch-00000010", "checkpoints/epoch-00000020.part"], "--resume {out}"),
    ],
)
def test_what_has_a_checkpoint_is_never_overwritten(left: list[str], expected: str, tmp_path: Path) -> None:
    command, environ = lay_out(tmp_path, srun=ONLY_SAYS)
    out = tmp_path / "runs" / JOB
    for name in left:
        (out / name).mkdir(parents=True)
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    flags = done.stdout.strip()
    assert flags.endswith(expected.format(out=out))
    assert ("--overwrite" in flags) == ("--overwrite" in expected)
    assert ("--resume" in flags) == ("--resume" in expected)


def run_job(folder: Path, job: tuple[list[str], dict[str, str]], number: int | None) -> tuple[int, str]:
    """Run the job until some epochs later it gets a signal; its exit code, and what it said."""
    out = folder / "runs" / JOB
    command, environ = job
    before = epochs_of(out)
    with started(command, folder, environ, stderr=subprocess.STDOUT) as process:
        while number is not None and epochs_of(out) < before + 5:
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        for task in (folder / "tasks").read_text().split() if number is not None else []:
            os.kill(int(task), number)
        said, _ = process.communicate(timeout=120)
    return process.returncode, said


@pytest.mark.slow
def test_a_job_that_runs_out_of_time_saves_requeues_itself_and_goes_on(tmp_path: Path) -> None:
    job, out = lay_out(tmp_path), tmp_path / "runs" / JOB
    code, said = run_job(tmp_path, job, signal.SIGUSR1)
    assert code == 138, said
    assert (tmp_path / "requeued").read_text() == f"{JOB}\n"
    done = epochs_of(out)
    assert f"goes on from epoch {done}" in said
    code, said = run_job(tmp_path, job, signal.SIGTERM)  # preempted, which Slurm requeues by itself
    assert code == 143, said
    assert f"going on from epoch {done}" in said
    assert (tmp_path / "requeued").read_text() == f"{JOB}\n"
    code, said = run_job(tmp_path, job, None)
    assert code == 0, said
    assert epochs_of(out) == 400
    assert (out / "summary.json").exists()


@pytest.mark.slow
def test_a_job_that_is_killed_before_its_first_checkpoint_begins_again(tmp_path: Path) -> None:
    job = lay_out(tmp_path, epochs=60)
    code, said = run_job(tmp_path, job, signal.SIGKILL)
    assert code == 137, said
    assert not (tmp_path / "requeued").exists()
    code, said = run_job(tmp_path, job, None)
    assert code == 0, said
    assert epochs_of(tmp_path / "runs" / JOB) == 60
