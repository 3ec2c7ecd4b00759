"""Starting the ranks of a run on this host, with torch's elastic launcher."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import socket
import tempfile
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import torch
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from gnnpipe.base.errors import CheckpointError, LostRankError, TrainingError
from gnnpipe.base.resources import LAUNCHED_WITH_CORES, cores
from gnnpipe.runtime.interruption import end_on_signal
from gnnpipe.runtime.waiting import WaitTimeoutError

PRELOADED = ["torch", "torch.distributed", "gnnpipe.model.metrics", "gnnpipe.cli.run"]

# Names of the files that ranks leave: before their number.
FAILED, TOLD_TO_END = "failed-", "told-to-end-"
OUR_ERRORS = tuple(error.__name__ for error in (TrainingError, CheckpointError, WaitTimeoutError))
SIGNS_OF_A_LOST_PEER = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "Timed out waiting",
)


def warm_up() -> None:
    """Start importing in the server that ranks are forked from, while this process loads the graph."""
    _set_local_environment()
    torch.set_num_threads(cores())
    multiprocessing.set_forkserver_preload(PRELOADED)
    with _one_thread_at_first():
        forkserver.ensure_running()


def launch_local(
    function: Callable[..., None],
    arguments: tuple[Any, ...],
    num_ranks: int,
    farewell: Callable[..., None],
) -> None:
    """Run ``function(*arguments, store)`` in ``num_ranks`` processes of this host.

    ``store`` is the file through which they find each other; everything stays on the loopback interface.
    When the processes are told to end, ``farewell(how, *arguments)`` is called in that of rank 0.

    Raises:
        TrainingError: a rank failed; it says which failed first and why.
        LostRankError: the same, where a process died or gave no answer.
        KeyboardInterrupt: the run was interrupted; all ranks have ended.
    """
    _set_local_environment()
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    allotted = cores()
    with tempfile.TemporaryDirectory(prefix="gnnpipe-ranks-") as folder:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=num_ranks,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint=str(Path(folder) / "rendezvous"),
            rdzv_configs={"store_type": "file"},
            local_addr="127.0.0.1",
            max_restarts=0,
            monitor_interval=0.1,
            start_method="forkserver",
        )
        try:
            with _one_thread_at_first():
                elastic_launch(config, _recorded)(function, arguments, folder, farewell, allotted)
        except ChildFailedError:
            raise _first_failure(Path(folder), num_ranks) from None
        except SignalException:
            raise KeyboardInterrupt from None


def _recorded(
    function: Callable[..., None],
    arguments: tuple[Any, ...],
    folder: str,
    farewell: Callable[..., None],
    allotted: int,
) -> None:
    """Call; an error is on file before this process ends and its sockets close."""
    rank = int(os.environ["RANK"])
    os.environ[LAUNCHED_WITH_CORES] = str(allotted)

    def end(how: str) -> None:
        (Path(folder) / f"{TOLD_TO_END}{rank}").touch()
        if rank == 0:
            farewell(how, *arguments)

    end_on_signal(end)
    try:
        function(*arguments, str(Path(folder) / "ranks"))
    except BaseException:
        report = {"rank": rank, "seconds": time.monotonic(), "traceback": traceback.format_exc()}
        _leave(json.dumps(report), Path(folder) / f"{FAILED}{rank}")
        raise


def _leave(text: str, path: Path) -> None:
    """Write a file that is whole or absent, as the launcher may end this process meanwhile."""
    half = path.with_name(f"half-{path.name}")
    half.write_text(text)
    half.replace(path)


def _set_local_environment() -> None:
    """Sockets on loopback only."""
    loopback = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), None)
    if loopback:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)


@contextmanager
def _one_thread_at_first() -> Iterator[None]:
    """Processes that start now have one thread until a rank decides on its number."""
    asked = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if asked is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = asked


def _first_failure(folder: Path, num_ranks: int) -> TrainingError:
    """Who failed first and why: one line for errors that were raised on purpose, else the traceback.

    A rank that gave no answer makes all that wait for it fail. The launcher reports one of the ranks that it
    found dead, which may well have died of another one's end; so every rank leaves a file of its own.
    """
    reports = [json.loads(path.read_text()) for path in folder.glob(f"{FAILED}*")]
    late = [report for report in reports if WaitTimeoutError.__name__ in report["traceback"]]
    causes = [report for report in reports if not _is_echo(report["traceback"]) and report not in late]
    told = {int(path.name.removeprefix(TOLD_TO_END)) for path in folder.glob(f"{TOLD_TO_END}*")}
    silent = sorted(set(range(num_ranks)) - told - {report["rank"] for report in reports})
    if not causes and late:
        first = min(late, key=lambda report: float(report["seconds"]))
        text = _words(first["traceback"])
        mute = f"; nothing was heard of rank {silent[0]}, which is stopped or cut off" if silent else ""
        return LostRankError(text + mute)
    if not causes and silent:
        return LostRankError(
            f"rank {silent[0]} failed first: it ended without a word; somebody killed it, or the system did "
            "because memory ran out"
        )
    first = min(causes or reports, key=lambda report: float(report["seconds"]))
    text = first["traceback"].strip()
    ours = any(f"{error}: " in text for error in OUR_ERRORS)
    return TrainingError(_words(text) if ours else f"rank {first['rank']} failed first:\n{text}")


def _words(text: str) -> str:
    """What an error of ours says, without its traceback."""
    text = text.strip()
    return max((text.rsplit(f"{error}: ", 1) for error in OUR_ERRORS), key=len)[-1]


def _is_echo(text: str) -> bool:
    """Whether a rank only failed because another one was gone."""
    return any(sign in text for sign in SIGNS_OF_A_LOST_PEER)
