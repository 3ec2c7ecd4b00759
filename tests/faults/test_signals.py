"""Signals that tell a run to end: the epoch is finished and saved, and the run goes on from there."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from gnnpipe.checkpoint.state import latest
from gnnpipe.cli.main import main
from gnnpipe.comm.launch import launch_local
from gnnpipe.engine.engine import Engine, EpochUnderWay
from gnnpipe.errors import StoppedError
from gnnpipe.report.console import ConsoleReporter
from gnnpipe.run import session
from gnnpipe.run.job import Job
from gnnpipe.system.interruption import STOPS
from tests.faults.launches import started
from tests.faults.runs import Run, local_rank_main

EPOCHS = 150
SMALL = [
    "train", "--synthetic.num_nodes", "400", "--synthetic.blocks_per_class", "2", "--layers", "4",
    "--hidden", "8", "--epochs", str(EPOCHS), "--threads", "1", "--stages", "2",
]  # fmt: skip


def epochs_of(folder: Path) -> int:
    try:
        return (folder / "records.jsonl").read_bytes().count(b"\n")
    except OSError:
        return 0


@contextmanager
def beside(act: Callable[[], Any], folder: Path, epochs: int = 3) -> Iterator[None]:
    """Act as soon as a run has so many epochs more, from a thread."""
    over, enough = threading.Event(), epochs_of(folder) + epochs

    def watch() -> None:
        while epochs_of(folder) < enough:
            if over.wait(0.005):
                return
        act()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def tell(number: int) -> None:
    os.kill(os.getpid(), number)


def rank_processes() -> list[psutil.Process]:
    """Of the run that this process has started; the server that they come from is its child."""
    here = psutil.Process()
    return sorted(
        (process for process in here.children(recursive=True) if process.ppid() != here.pid),
        key=lambda process: process.pid,
    )


@pytest.fixture(autouse=True)
def _a_late_signal_is_survived() -> Iterator[None]:
    """One that comes when the run is over fails the test, not all tests."""
    before = {number: signal.signal(number, lambda *_: None) for number in STOPS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that nobody disturbed."""
    where = tmp_path_factory.mktemp("whole") / "run"
    return Run.prepare(where, stages=2, epochs=EPOCHS, checkpoint_every="10min").train()


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        *(pytest.param(number, marks=pytest.mark.slow) for number in (signal.SIGUSR1, signal.SIGHUP)),
    ],
)
def test_a_signal_finishes_the_epoch_and_saves_it(number: int, tmp_path: Path, whole: Run) -> None:
    """No checkpoint would have been due for ten minutes."""
    run = Run.prepare(tmp_path / "run", stages=2, epochs=EPOCHS, checkpoint_every="10min")
    with beside(lambda: tell(number), run.folder.path), pytest.raises(StoppedError) as stopped:
        session._launch(run.job, run.folder, ConsoleReporter())
    done = epochs_of(run.folder.path)
    assert stopped.value.number == number
    assert 3 <= done < EPOCHS
    assert f"gnnpipe train --resume {run.folder.path} goes on from epoch {done}" in str(stopped.value)
    again = run.again()
    assert again.job.start is not None
    assert again.job.start.epochs == done
    again.train()
    assert again.losses() == whole.losses()


def test_a_signal_to_one_rank_stops_all_after_the_same_epoch(tmp_path: Path) -> None:
    run = Run.prepare(tmp_path / "run", stages=2, epochs=100_000, checkpoint_every="10min")
    with beside(lambda: rank_processes()[1].terminate(), run.folder.path), pytest.raises(StoppedError):
        run.train()
    stored = latest(run.folder.path, print)
    assert stored is not None
    assert stored.about.epochs == epochs_of(run.folder.path)


def test_ctrl_c_reaches_all_processes_of_a_terminal_and_counts_once(tmp_path: Path) -> None:
    """The terminal sends it to the ranks too, and the launcher passes it on."""

    def press() -> None:
        for process in [*rank_processes(), psutil.Process()]:
            process.send_signal(signal.SIGINT)

    run = Run.prepare(tmp_path / "run", stages=2, epochs=100_000, checkpoint_every="10min")
    with beside(press, run.folder.path), pytest.raises(StoppedError, match="interrupted; saved in"):
        session._launch(run.job, run.folder, ConsoleReporter())
    assert run.again().job.start is not None


def test_without_checkpoints_nothing_is_said_to_go_on(tmp_path: Path) -> None:
    run = Run.prepare(tmp_path / "run", stages=1, epochs=100_000, checkpoint_every=0)
    with (
        beside(lambda: tell(signal.SIGTERM), run.folder.path),
        pytest.raises(StoppedError, match="no checkpoint, so --resume can't go on"),
    ):
        session._launch(run.job, run.folder, ConsoleReporter())
    assert latest(run.folder.path, print) is None


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    """The first one can't be obeyed: a rank is stopped, so that the epoch never ends."""
    run = Run.prepare(tmp_path / "run", stages=2, epochs=100_000, timeout=300.0)
    ranks: list[psutil.Process] = []

    def twice() -> None:
        ranks.extend(rank_processes())
        ranks[1].suspend()
        tell(signal.SIGTERM)
        time.sleep(0.5)
        assert all(rank.is_running() for rank in ranks)
        tell(signal.SIGTERM)

    began = time.monotonic()
    with beside(twice, run.folder.path), pytest.raises(StoppedError):
        run.train()
    assert time.monotonic() - began < 60
    assert len(ranks) == 2
    assert not [rank for rank in ranks if rank.is_running()]


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGTERM, 143, "stopped"), (signal.SIGUSR1, 138, "stopped"), (signal.SIGINT, 130, "interrupted")],
)
def test_the_exit_code_tells_the_signal(
    number: int, code: int, word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, before = tmp_path / "run", signal.getsignal(number)
    with beside(lambda: tell(number), out):
        assert main([*SMALL, "--out", str(out)]) == code
    said = capsys.readouterr().err
    assert f"{word}; saved in {out}: {epochs_of(out)} epochs in records.jsonl" in said
    assert f"goes on from epoch {epochs_of(out)}" in said
    assert "Traceback" not in said
    assert signal.getsignal(number) == before


def test_while_the_graph_is_loaded_a_signal_ends_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def loads_for_ever(*_: object, **__: object) -> None:
        tell(signal.SIGTERM)
        time.sleep(60)

    monkeypatch.setattr("gnnpipe.run.job.load_dataset", loads_for_ever)
    assert main([*SMALL, "--out", str(tmp_path / "run")]) == 143
    assert capsys.readouterr().err == "\nstopped; nothing was saved yet\n"
    assert not (tmp_path / "run").exists()


CUTS_FOR_EVER = """
import sys
from gnnpipe.cli.main import main
from gnnpipe.graph.cut import partition

class Metis:
    Options = CSRAdjacency = staticmethod(lambda *_, **__: None)

    def part_graph(self, *_, **__):
        print("cutting", flush=True)
        sum(range(10**12))  # holds Python's lock, as METIS does

class KaMinPar:
    GraphFileFormat = type("Format", (), {"PARHIP": 0})
    __getattr__ = lambda self, name: lambda *_: self

    def compute_partition(self, *_):
        print("cutting", flush=True)
        sum(range(10**12))

partition._import_pymetis, partition._import_kaminpar = Metis, KaMinPar
partition.LEAST_KAMINPAR_ENTRIES = {least}
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("least", [0, 10**9], ids=["kaminpar", "metis"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_while_the_graph_is_cut_a_signal_ends_at_once(number: int, least: int, tmp_path: Path) -> None:
    program = CUTS_FOR_EVER.replace("{least}", str(least))
    command = [sys.executable, "-c", program, *SMALL, "--parts", "2", "--out", "run"]
    with started(command, tmp_path) as process:
        assert process.stdout is not None
        while "cutting" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(number)
        assert process.wait(timeout=10) == -number  # to a shell 128 + number
    assert not (tmp_path / "run").exists()


def _told_in_the_last_epoch(job: Job, store: str) -> None:
    run_epoch = Engine.run_epoch

    def told(self: Engine, number: int, order: list[int]) -> EpochUnderWay:
        if number + 1 == job.config.epochs:
            tell(signal.SIGTERM)
        return run_epoch(self, number, order)

    Engine.run_epoch = told  # type: ignore[method-assign]
    local_rank_main(job, store)


def test_a_signal_in_the_last_epoch_lets_the_run_finish(tmp_path: Path) -> None:
    run = Run.prepare(tmp_path / "run", stages=2)
    launch_local(_told_in_the_last_epoch, (run.job,), 2)
    assert (run.folder.path / "summary.json").exists()


@pytest.mark.slow
def test_what_was_stopped_many_times_ends_as_if_it_never_was(tmp_path: Path, whole: Run) -> None:
    run = Run.prepare(tmp_path / "run", stages=2, epochs=EPOCHS, checkpoint_every="10min")
    for epochs in (1, 20, 40):
        with beside(lambda: tell(signal.SIGTERM), run.folder.path, epochs), pytest.raises(StoppedError):
            run.train()
        run = run.again()
    run.train()
    assert run.losses() == whole.losses()
    found, expected = (item.folder.summary() for item in (run, whole))
    assert (found.best, found.epochs) == (expected.best, expected.epochs)
