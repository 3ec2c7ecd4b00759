"""Tensors into a safetensors file, straight to the disk: no second copy in memory, none in the page cache."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import xxhash
from torch import Tensor

from gnnpipe.files.writing import new_file, remove, tensor_bytes, tensor_header

BLOCK = 1 << 20  # stays in a core's cache


class UncachedFile:
    """A new file that is written past the page cache, where system and file system allow it.

    Filling the cache takes cores and memory that training next to it needs: 3.6 s of a core for 1.6 GB, where
    writing past it takes 0.2. That wants whole blocks at aligned addresses, so bytes pass through a block of
    our own.

    Args:
        path: is replaced if it exists.
    """

    def __init__(self, path: Path) -> None:
        remove(path)  # a link itself, not what it leads to
        self._direct = getattr(os, "O_DIRECT", 0)
        try:
            self._file = new_file(path, self._direct)
        except OSError as error:
            if not self._direct or error.errno != errno.EINVAL:
                raise
            remove(path)  # some file systems make it, then refuse
            self._file, self._direct = new_file(path), 0
        self._block = np.frombuffer(mmap.mmap(-1, BLOCK), np.uint8)  # at a page's begin
        self._filled = self._size = 0
        self._hash = xxhash.xxh3_64()

    def write(self, content: memoryview | bytes) -> None:
        """Append; raises OSError."""
        left = np.frombuffer(content, np.uint8)
        while len(left):
            fits = min(len(left), BLOCK - self._filled)
            np.copyto(self._block[self._filled : self._filled + fits], left[:fits])  # others may run
            self._filled += fits
            left = left[fits:]
            if self._filled == BLOCK:
                self._flush()

    def finish(self) -> tuple[int, str]:
        """Write what is left, wait until the disk has all, and tell size and checksum; raises OSError."""
        self._go_on_cached(0)  # what is left is no whole block
        self._flush()
        os.fsync(self._file)
        return self._size, self._hash.hexdigest()

    def close(self) -> None:
        """Let go of the file, whatever is in it."""
        os.close(self._file)

    def _flush(self) -> None:
        self._hash.update(self._block[: self._filled].data)  # while it is in the cache
        done = 0
        while done < self._filled:
            try:
                done += os.write(self._file, self._block[done : self._filled].data)
            except OSError as error:
                # a file system that wants other blocks, or has taken part of one
                if not self._direct or error.errno != errno.EINVAL:
                    raise
                self._go_on_cached(done)
        self._size += self._filled
        self._filled = 0

    def _go_on_cached(self, done: int) -> None:
        """Go on through the page cache, behind so many bytes of the block."""
        if self._direct:
            import fcntl  # not on Windows, where there is no such flag

            flags = fcntl.fcntl(self._file, fcntl.F_GETFL)
            fcntl.fcntl(self._file, fcntl.F_SETFL, flags & ~self._direct)
        self._direct = 0
        os.lseek(self._file, self._size + done, os.SEEK_SET)


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> tuple[int, str]:
    """Write tensors one after the other, as the safetensors format wants them.

    Args:
        path: of the file.
        tensors: on the CPU.

    Returns:
        The file's size in bytes and its xxh3 checksum.

    Raises:
        OSError: the disk is full, or the folder gone.
    """
    header, ordered = tensor_header(tensors)
    file = UncachedFile(path)
    try:
        file.write(header)
        for tensor in ordered:
            file.write(tensor_bytes(tensor))
        return file.finish()
    finally:
        file.close()
