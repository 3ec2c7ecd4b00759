"""One run at a time in a folder."""

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
# Ranks end at once when their launcher is gone, but a host may be busy.
SECONDS_TO_DIE = 15.0


@dataclass(frozen=True)
class Owner:
    """The process that holds a folder, as it says itself."""

    host: str
    pid: int
    started: float | None
    """When, in seconds since 1970: numbers of processes are used again. None where a version did not say."""
    since: str
    """When it took the folder, for the user."""


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
            started, since = psutil.Process().create_time(), f"{datetime.now():%F %T}"
            owner = Owner(socket.gethostname(), os.getpid(), started, since)
            write_file(folder / OWNER, json_text(owner))
            return
        except BlockingIOError:
            other = _owner(folder)
            if time.monotonic() > deadline or other is None or not _is_gone(other):
                who = f"process {other.pid} on {other.host} since {other.since}" if other else "another run"
                raise ConfigError(
                    f"out: '{folder}' is in use by {shown(who)}; choose another --out, or wait"
                ) from None
            time.sleep(0.05)
        except OSError as error:
            raise ConfigError(
                f"out: can't lock '{folder}' ({reason(error, str(folder))}); {advice(error)}"
            ) from None


def _owner(folder: Path) -> Owner | None:
    """Who holds a folder; None if that is not known."""
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
