"""Starting the ranks of a run on this host, with torch's elastic launcher."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import tempfile
import uuid
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure, record
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from gnnpipe.base.errors import TrainingError

PRELOADED = ["torch", "torch.distributed", "gnnpipe.model.metrics", "gnnpipe.cli.run"]

SIGNS_OF_A_LOST_PEER = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "Timed out waiting",
)


def warm_up() -> None:
    """Start importing in the server that ranks are forked from, while this process loads the graph."""
    _set_local_environment()
    multiprocessing.set_forkserver_preload(PRELOADED)
    forkserver.ensure_running()


def launch_local(function: Callable[..., None], arguments: tuple[Any, ...], num_ranks: int) -> None:
    """Run ``function(*arguments, store)`` in ``num_ranks`` processes of this host.

    ``store`` is the file through which they find each other; everything stays on the loopback interface.

    Raises:
        TrainingError: a rank failed; it says which failed first and why.
        KeyboardInterrupt: the run was interrupted; all ranks have ended.
    """
    _set_local_environment()
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
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
            elastic_launch(config, _recorded)(function, *arguments, str(Path(folder) / "ranks"))
        except ChildFailedError as error:
            raise TrainingError(_first_failure(error)) from None
        except SignalException:
            raise KeyboardInterrupt from None


def _recorded(function: Callable[..., None], *arguments: Any) -> None:
    """Call, leaving the traceback of an error where the launcher finds it."""
    record(function)(*arguments)


def _set_local_environment() -> None:
    """Sockets on loopback only, and one thread until a rank decides on its number."""
    loopback = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), None)
    if loopback:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def _first_failure(error: ChildFailedError) -> str:
    """One line for errors that were raised on purpose, else the traceback of the rank that failed first."""
    rank, failure = min(error.failures.items(), key=lambda item: (_is_echo(item[1]), item[1].timestamp))
    text = _traceback(failure)
    marker = f"{TrainingError.__name__}: "
    if marker in text:
        return text.rsplit(marker, 1)[1].strip()
    if failure.exitcode < 0:
        return (
            f"rank {rank} failed first: killed by {signal.Signals(-failure.exitcode).name} "
            "(SIGKILL often means that the host ran out of memory)"
        )
    return f"rank {rank} failed first (exit code {failure.exitcode}):\n{text}"


def _is_echo(failure: ProcessFailure) -> bool:
    """Whether a rank only failed because another one was gone, or was told to end by the launcher."""
    told_to_end = failure.exitcode in (-signal.SIGTERM, 128 + signal.SIGTERM)
    return told_to_end or any(sign in _traceback(failure) for sign in SIGNS_OF_A_LOST_PEER)


def _traceback(failure: ProcessFailure) -> str:
    message = failure.message
    if isinstance(message, dict):
        return str(message.get("extraInfo", {}).get("py_callstack", message))
    return str(message)
