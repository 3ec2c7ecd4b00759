"""Folders for what a process needs only while it lives; those of the dead are swept.

Whoever makes a folder holds a lock on a file in it, which the system lets go of when that process ends,
however that comes about. So a folder whose lock is free is nobody's.
"""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gnnpipe.errors import ConfigError
from gnnpipe.files.writing import new_file, remove, rename

PREFIX, ALIVE = "gnnpipe-scratch-", "alive"
# A folder without a lock file is one that is being made; or its maker died meanwhile.
SECONDS_TO_BE_MADE = 3600.0


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A new folder, which is removed at the end; first those that dead processes left are.

    Raises:
        ConfigError: there is no place for one.
    """
    sweep()
    try:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        alive = _make_lock(folder)
    except OSError as error:
        raise ConfigError(
            f"TMPDIR: no folder can be made for temporary files ({error.strerror or error}); set TMPDIR to a "
            "folder that may be written to"
        ) from None
    try:
        yield folder
    finally:
        with suppress(OSError):
            remove(folder)
        os.close(alive)


def sweep() -> None:
    """Remove what dead processes of this user left among the temporary files; links are not followed."""
    try:
        entries = [entry for entry in os.scandir(tempfile.gettempdir()) if entry.name.startswith(PREFIX)]
    except OSError:
        return
    for entry in entries:
        if _is_ours(entry) and _is_dead(Path(entry.path)):
            with suppress(OSError):
                remove(Path(entry.path))


def _make_lock(folder: Path) -> int:
    """Make the lock's file, which gets its name when it is held."""
    aside = folder / f"{ALIVE}-soon"
    alive = new_file(aside)
    with suppress(OSError):  # on a file system without locks nobody can take it, and nothing is swept
        fcntl.flock(alive, fcntl.LOCK_EX)
    rename(aside, folder / ALIVE)
    return alive


def _is_ours(entry: os.DirEntry[str]) -> bool:
    try:
        found = entry.stat(follow_symlinks=False)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()


def _is_dead(folder: Path) -> bool:
    """Whether no process holds a folder's lock."""
    try:
        alive = os.open(folder / ALIVE, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        try:
            return time.time() - folder.lstat().st_mtime > SECONDS_TO_BE_MADE
        except OSError:
            return False
    except OSError:
        return False
    try:
        fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(alive)
    return True
