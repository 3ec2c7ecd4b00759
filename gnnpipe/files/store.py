"""A folder of entries, each one file that is made once and then used by many processes.

    FOLDER/
      3f1c.../         an entry; its name stands for all that its content depends on
        .lock          held shared by processes that use it, exclusively by one that makes or removes it
        content        the file, written aside and renamed
        about.json     written last, with the file's size and checksum: without it the entry does not count

The system releases a lock when its process ends, however it ends. So an entry that is in use is never
removed, two processes never make the same one at once, and what a killed one has left is found and removed.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Literal

import xxhash

from gnnpipe.errors import shown
from gnnpipe.files.folder_lock import LOCK, locked
from gnnpipe.files.reading import open_file, read_json
from gnnpipe.files.typed_json import from_object, json_text
from gnnpipe.files.writing import (
    is_leftover,
    remove,
    remove_leftovers,
    write_file,
)
from gnnpipe.system.steps import Say

CONTENT, ABOUT = "content", "about.json"
SECONDS_BETWEEN_TRIES = 0.05
# How long a damaged entry is waited for that somebody uses; it can't be made anew meanwhile.
SECONDS_FOR_DAMAGED = 5.0
_NAME = re.compile(r"[0-9a-f]{32}")
_BLOCK = 1 << 22

Check = Callable[[Path], None]
"""Reads a file and raises ValueError if it does not hold what it should."""


@dataclass(frozen=True)
class Label:
    """An entry in words, for people who list the folder."""

    what: str
    """Kind of its content, such as ``prepared graph``."""
    graph: str
    """The graph that it was made from."""
    cut: str
    """How that is cut."""


@dataclass(frozen=True)
class About:
    """The content of about.json."""

    label: Label
    made: str
    """Date and time."""
    size: int
    """Bytes of the file."""
    checksum: str
    """XXH3 of the file, 128 bits in hexadecimal digits."""


@dataclass(frozen=True)
class Found:
    """An entry that this process uses."""

    path: Path
    """Its file, which stays there as long as the store is open."""
    about: About
    is_new: bool
    """Whether this process has just made it."""


@dataclass(frozen=True)
class Listed:
    """An entry as a folder's list shows it."""

    folder: Path
    about: About | None
    """None where it is not finished, or its about.json can't be read."""
    last_used: float
    """Seconds since 1970."""


class Store:
    """The entries of a folder, and locks on those that this process uses; it releases them as it closes.

    Args:
        folder: made with the first entry.
        waiting: shown while another process makes an entry that is wanted here.
        say: told of a damaged entry.
    """

    def __init__(self, folder: Path, waiting: Callable[[], AbstractContextManager[None]], say: Say) -> None:
        self.folder = folder
        self._waiting, self._say = waiting, say
        self._held = ExitStack()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()

    def use(self, name: str, label: Label, make: Callable[[Path], None], check: Check) -> Found | None:
        """Find an entry, or make it. It stays as long as this store is open.

        Args:
            name: 32 hexadecimal digits.
            label: of an entry that is made here.
            make: writes the file.
            check: checks the content of an entry that was made before.

        Returns:
            The entry; None where it is damaged, but can't be made anew as somebody uses it.

        Raises:
            OSError: the folder can't be used, or the file not be written. Nothing is left then.
        """
        folder = self.folder / name
        deadline = time.monotonic() + SECONDS_FOR_DAMAGED
        told = False
        while True:
            lock = self._wait_for(folder)
            try:
                about = _intact(folder, check)
            except ValueError as error:
                if not told:
                    self._say(f"cache: '{folder}' is damaged ({shown(str(error))}); it is made anew")
                told = True
                if time.monotonic() > deadline:
                    os.close(lock)
                    return None
            else:
                if about is not None:
                    return self._keep(lock, folder, about, is_new=False)
            os.close(lock)
            made = self._made(folder, label, make, check)
            if made is not None:
                return made
            time.sleep(SECONDS_BETWEEN_TRIES)

    def _wait_for(self, folder: Path) -> int:
        """Lock an entry as one of its users, as soon as nobody makes it."""
        lock = locked(folder, fcntl.LOCK_SH)
        if lock is None:
            with self._waiting():
                while lock is None:
                    time.sleep(SECONDS_BETWEEN_TRIES)
                    lock = locked(folder, fcntl.LOCK_SH)
        return lock

    def _made(self, folder: Path, label: Label, make: Callable[[Path], None], check: Check) -> Found | None:
        """Make an entry; None if another process uses or makes it, or has removed it since."""
        lock = locked(folder, fcntl.LOCK_EX)
        if lock is None:
            return None
        try:
            with suppress(ValueError):
                about = _intact(folder, check)
                if about is not None:  # another process was faster
                    return None
            about = _write(folder, label, make)
            # to change the kind of a lock, the system lets go of it for a moment
            fcntl.flock(lock, fcntl.LOCK_SH)
            if not (folder / ABOUT).exists():
                return None
            found = self._keep(os.dup(lock), folder, about, is_new=True)
        finally:
            os.close(lock)
        return found

    def _keep(self, lock: int, folder: Path, about: About, *, is_new: bool) -> Found:
        """Hold the lock until this store closes, and note that the entry is used."""
        self._held.callback(os.close, lock)
        with suppress(OSError):  # the folder may be somebody else's
            os.utime(folder / LOCK)
        return Found(folder / CONTENT, about, is_new)


def entries(folder: Path) -> list[Listed]:
    """All entries of a folder, those used last first; raises OSError."""
    found = []
    for path in folder.iterdir():
        if _NAME.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            try:
                about = _about(path)
            except ValueError:
                about = None
            with suppress(OSError):
                found.append(Listed(path, about, _last_used(path)))
    return sorted(found, key=lambda entry: -entry.last_used)


def remove_entry(folder: Path) -> Literal["removed", "in use", "foreign"]:
    """Remove an entry's files and its folder, unless a process uses it.

    Returns:
        ``in use`` where nothing was removed, ``foreign`` where the folder stays, as others' files are in it.

    Raises:
        OSError: a file can't be removed.
    """
    lock = locked(folder, fcntl.LOCK_EX)
    if lock is None:
        return "in use"
    try:
        # about.json goes first: what is left when this is cut short does not count
        for name in (ABOUT, CONTENT):
            remove(folder / name)
        for path in folder.iterdir():
            if is_leftover(path.name):
                remove(path)
        remove(folder / LOCK)
        if any(folder.iterdir()):
            return "foreign"
        folder.rmdir()
    finally:
        os.close(lock)
    return "removed"


def checksum(path: Path) -> str:
    """XXH3 of a file, 128 bits in hexadecimal digits; raises OSError."""
    digest, block = xxhash.xxh3_128(), bytearray(_BLOCK)
    with open_file(path) as file:
        while size := file.readinto(block):  # type: ignore[attr-defined]
            digest.update(memoryview(block)[:size])
    return digest.hexdigest()


def _write(folder: Path, label: Label, make: Callable[[Path], None]) -> About:
    """Write an entry; its lock is held exclusively."""
    remove_leftovers(folder)  # nobody else writes here now, so these are of processes that were killed
    remove(folder / ABOUT)
    make(folder / CONTENT)
    size = (folder / CONTENT).stat().st_size
    about = About(label, f"{datetime.now():%F %T}", size, checksum(folder / CONTENT))
    write_file(folder / ABOUT, json_text(about, indent=1))
    return about


def _intact(folder: Path, check: Check) -> About | None:
    """The about.json of an entry; None where there is no entry, or it is not finished.

    Raises:
        ValueError: its file is not what about.json says, or what it should be.
    """
    about = _about(folder)
    if about is None:
        return None
    path = folder / CONTENT
    try:
        with open_file(path) as file:
            size = os.fstat(file.fileno()).st_size
        if size != about.size:
            raise ValueError(f"its file has {size:,} bytes instead of {about.size:,}")
        if checksum(path) != about.checksum:
            raise ValueError("its file does not have the checksum that it was written with")
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from None
    check(path)
    return about


def _about(folder: Path) -> About | None:
    """The content of about.json; None if it is absent. Raises ValueError for a damaged one."""
    try:
        return from_object(About, read_json(folder / ABOUT))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from None


def _last_used(folder: Path) -> float:
    """When an entry was last used; when it was made, where its lock file is absent."""
    lock = folder / LOCK
    return (lock if lock.exists() else folder).lstat().st_mtime
