"""The lock of a run's folder: one run at a time."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psutil

from gnnpipe.errors import ConfigError, shown
from gnnpipe.files.reading import read_json
from gnnpipe.files.typed_json import from_object, json_text
from gnnpipe.files.writing import make_folder, open_lock, remove, write_file
from gnnpipe.system.failures import advice, reason

LOCK, OWNER = ".lock", ".owner.json"
# Ranks end when their launcher is gone; a busy host may take a while to run them.
SECONDS_TO_DIE = 15.0


@dataclass(frozen=True)
class Owner:
    """The process that holds a folder, as .owner.json has it."""

    host: str
    pid: int
    started: float | None
    """Start time of the process, in seconds since 1970: it tells the process from a later one of the same
    number. None in files of older versions."""
    since: str
    """Date and time at which it took the folder; shown to users."""


@contextmanager
def held(folder: Path) -> Iterator[int]:
    """Keep other runs out of a folder as long as the context is open. A missing folder is made.

    Yields the descriptor of the locked file. The ranks inherit it, as they write there too: the system
    unlocks the file when the last process that has it open has ended, also after a crash.

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
    """Lock the file and write its owner. Waits for ranks that outlive their launcher, as they soon end."""
    deadline = time.monotonic() + SECONDS_TO_DIE
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            started, since = psutil.Process().create_time(), f"{datetime.now():%F %T}"
            owner = Owner(socket.gethostname(), os.getpid(), started, since)
            write_file(folder / OWNER, json_text(owner))
            return
        except BlockingIOError:
            holder = _owner(folder)
            if time.monotonic() > deadline or holder is None or not _is_gone(holder):
                who = (
                    f"process {holder.pid} on {holder.host} since {holder.since}" if holder else "another run"
                )
                raise ConfigError(
                    f"out: '{folder}' is in use by {shown(who)}; choose another --out, or wait"
                ) from None
            time.sleep(0.05)
        except OSError as error:
            raise ConfigError(
                f"out: can't lock '{folder}' ({reason(error, str(folder))}); {advice(error)}"
            ) from None


def _owner(folder: Path) -> Owner | None:
    """The process that holds a folder; None if the file does not tell."""
    try:
        return from_object(Owner, {"started": None, **read_json(folder / OWNER)})
    except (OSError, ValueError):
        return None


def _is_gone(owner: Owner) -> bool:
    """Whether the process that took a lock has ended, as far as this host knows."""
    if owner.host != socket.gethostname():
        return False
    try:
        process = psutil.Process(owner.pid)
        reused = owner.started is not None and abs(process.create_time() - owner.started) > 1.0
        return reused or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
    except (psutil.Error, ValueError, OverflowError):
        return False
