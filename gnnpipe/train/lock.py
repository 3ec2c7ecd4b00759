"""One run at a time in a folder."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from gnnpipe.base.errors import ConfigError

LOCK, OWNER = ".lock", ".owner.json"


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder while this one goes on; it is made if there is none.

    The system lets go of the lock when the process ends, however that comes about.

    Raises:
        ConfigError: another run holds it, or nothing can be written there.
    """
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        owner = {"host": socket.gethostname(), "pid": os.getpid(), "since": f"{datetime.now():%F %T}"}
        (folder / OWNER).write_text(json.dumps(owner))
    except Timeout:
        raise ConfigError(
            f"out: '{folder}' is in use by {_owner(folder)}; choose another --out, or wait"
        ) from None
    except OSError as error:
        lock.release()
        raise ConfigError(f"out: can't make '{folder}' ({error.strerror}); choose another --out") from None
    try:
        yield
    finally:
        (folder / OWNER).unlink(missing_ok=True)
        lock.release()


def _owner(folder: Path) -> str:
    try:
        owner = json.loads((folder / OWNER).read_text())
        return f"process {owner['pid']} on {owner['host']} since {owner['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another run"
