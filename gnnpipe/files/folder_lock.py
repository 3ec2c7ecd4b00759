"""The lock of a folder that many processes use and one at a time may change, or remove."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from gnnpipe.files.writing import make_folder, open_lock, open_read_lock

LOCK = ".lock"


def locked(folder: Path, kind: int) -> int | None:
    """Lock a folder; None if a process that has it does not allow that.

    Args:
        folder: it is made if it does not exist.
        kind: ``fcntl.LOCK_SH`` or ``fcntl.LOCK_EX``.

    Returns:
        A descriptor, which the caller closes.

    Raises:
        OSError: nothing can be locked there.
    """
    while True:
        lock = _lock_file(folder, read_only=kind == fcntl.LOCK_SH)
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
            # the file may have been removed between opening and locking: others then lock a new one
            if os.path.samestat(os.fstat(lock), (folder / LOCK).stat()):
                return lock
        except BlockingIOError:
            os.close(lock)
            return None
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)


def _lock_file(folder: Path, *, read_only: bool) -> int:
    """Open a folder's lock file; raises OSError.

    Args:
        folder: it is made if it does not exist.
        read_only: whether a file that may only be read will do, as in somebody else's folder.
    """
    while True:
        try:
            make_folder(folder.parent, link=True)
            make_folder(folder)
            return open_lock(folder / LOCK)
        except FileNotFoundError:  # the folder has just been removed
            continue
        except OSError:
            if not read_only or not (folder / LOCK).exists():
                raise
            return open_read_lock(folder / LOCK)
