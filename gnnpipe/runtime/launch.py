"""Starting the ranks of a run on this host, with torch's elastic launcher."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import socket
import tempfile
import uuid
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, record
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from gnnpipe.base.errors import TrainingError

PRELOADED = ["torch", "torch.distributed", "gnnpipe.model.metrics", "gnnpipe.cli.run"]


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
    rank, failure = error.get_first_failure()
    try:
        message = json.loads(failure.message) if isinstance(failure.message, str) else failure.message
        lines = message["extraInfo"]["py_callstack"] if isinstance(message, dict) else str(message)
    except (KeyError, ValueError):
        lines = str(failure.message)
    marker = "TrainingError: "
    if marker in lines:
        return lines.rsplit(marker, 1)[1].strip()
    return f"rank {rank} failed first (exit code {failure.exitcode}):\n{lines}"
