"""Temporary folders that last as long as their process; folders of dead processes are removed.

A process holds a lock on a file in its folder. The system releases the lock when the process ends, however it
ends. So a folder with a free lock belongs to nobody.
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
# A folder without a lock file is being made; after this time its process must have died in between.
SECONDS_TO_BE_MADE = 3600.0


@contextmanager
def scratch_folder(inside: Path | None = None) -> Iterator[Path]:
    """A new folder, removed at the end. Folders of dead processes are removed first.

    Args:
        inside: folder to make it in, as one on the disk of what will be made of its files; by default the
            folder that TMPDIR names.

    Raises:
        ConfigError: no folder can be made there.
    """
    sweep(inside)
    try:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=inside))
        alive = _make_lock(folder)
    except OSError as error:
        key = "TMPDIR" if inside is None else "out"
        cure = "set TMPDIR to" if inside is None else "choose"
        raise ConfigError(
            f"{key}: no folder can be made for temporary files ({error.strerror or error}); {cure} a folder "
            "that may be written to"
        ) from None
    try:
        yield folder
    finally:
        with suppress(OSError):
            remove(folder)
        os.close(alive)


def sweep(inside: Path | None = None) -> None:
    """Remove the scratch folders of dead processes of this user; links are not followed."""
    try:
        folders = os.scandir(inside or tempfile.gettempdir())
        entries = [entry for entry in folders if entry.name.startswith(PREFIX)]
    except OSError:
        return
    for entry in entries:
        if _is_ours(entry) and _is_dead(Path(entry.path)):
            with suppress(OSError):
                remove(Path(entry.path))


def _make_lock(folder: Path) -> int:
    """Make and lock the lock file, which gets its name only then: a sweep never finds it unlocked."""
    aside = folder / f"{ALIVE}-soon"
    alive = new_file(aside)
    with suppress(OSError):  # on a file system without locks a sweep gets none either, and removes nothing
        fcntl.flock(alive, fcntl.LOCK_EX)
    rename(aside, folder / ALIVE)
    return alive


def _is_ours(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder, not a link, of this user."""
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()


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
