"""One run at a time in a folder."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from gnnpipe.errors import ConfigError, shown
from gnnpipe.files.reading import read_json
from gnnpipe.files.writing import make_folder, open_lock, remove, write_file
from gnnpipe.system.failures import advice, reason

LOCK, OWNER = ".lock", ".owner.json"
# Ranks end at once when their launcher is gone, but a host may be busy.
SECONDS_TO_DIE = 15.0


@contextmanager
def held(folder: Path) -> Iterator[int]:
    """Keep other runs out of a folder while this one goes on; it is made if there is none.

    Yields the open file that is locked. Processes that write there keep a copy of it: the system lets go of
    the lock when the last of them has ended, however that comes about.

    Raises:
        ConfigError: another run holds it, or nothing can be written there.
    """
    try:
        make_folder(folder, link=True)
        lock = open_lock(folder / LOCK)
    except OSError as error:
        raise ConfigError(
            f"out: can't make or hold '{folder}' ({reason(error, str(folder))}); {advice(error)}"
        ) from None
    try:
        _take(lock, folder)
        try:
            yield lock
        finally:
            with suppress(OSError):
                remove(folder / OWNER)
    finally:
        os.close(lock)


def _take(lock: int, folder: Path) -> None:
    """Lock, and say who did; waits for the ranks of a run whose launcher is gone."""
    deadline = time.monotonic() + SECONDS_TO_DIE
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            started = psutil.Process().create_time()
            owner = {"host": socket.gethostname(), "pid": os.getpid(), "started": started}
            write_file(folder / OWNER, json.dumps(owner | {"since": f"{datetime.now():%F %T}"}))
            return
        except BlockingIOError:
            owner = _owner(folder)
            if time.monotonic() > deadline or not _is_gone(owner):
                who = "process {pid} on {host} since {since}".format(**owner) if owner else "another run"
                raise ConfigError(
                    f"out: '{folder}' is in use by {shown(who)}; choose another --out, or wait"
                ) from None
            time.sleep(0.05)
        except OSError as error:
            raise ConfigError(
                f"out: can't lock '{folder}' ({reason(error, str(folder))}); {advice(error)}"
            ) from None


def _owner(folder: Path) -> dict[str, Any]:
    """Who holds a folder; empty if that is not known."""
    try:
        owner = read_json(folder / OWNER)
        return owner if {"pid", "host", "since"} <= set(owner) else {}
    except (OSError, ValueError, TypeError):
        return {}


def _is_gone(owner: dict[str, Any]) -> bool:
    """Whether the process that took a lock has ended, as far as this host knows."""
    if owner.get("host") != socket.gethostname() or not isinstance(owner.get("pid"), int):
        return False
    try:
        process = psutil.Process(owner["pid"])
        reused = abs(process.create_time() - float(owner.get("started", process.create_time()))) > 1.0
        return reused or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
    except (psutil.Error, TypeError, ValueError, OverflowError):
        return False
