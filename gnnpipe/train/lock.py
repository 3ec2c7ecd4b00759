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

from gnnpipe.base.errors import ConfigError, shown
from gnnpipe.base.failures import advice, reason
from gnnpipe.base.reading import read_json
from gnnpipe.base.writing import make_folder, open_lock, remove, write_file

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
        make_folder(folder, link=True)
        os.close(open_lock(folder / LOCK))
        lock.acquire()
        owner = {"host": socket.gethostname(), "pid": os.getpid(), "since": f"{datetime.now():%F %T}"}
        write_file(folder / OWNER, json.dumps(owner))
    except Timeout:
        raise ConfigError(
            f"out: '{folder}' is in use by {_owner(folder)}; choose another --out, or wait"
        ) from None
    except OSError as error:
        lock.release()
        raise ConfigError(
            f"out: can't make or hold '{folder}' ({reason(error, str(folder))}); {advice(error)}"
        ) from None
    try:
        yield
    finally:
        remove(folder / OWNER)
        lock.release()


def _owner(folder: Path) -> str:
    try:
        owner = read_json(folder / OWNER)
        return shown(f"process {owner['pid']} on {owner['host']} since {owner['since']}")
    except (OSError, ValueError, KeyError, TypeError):
        return "another run"
