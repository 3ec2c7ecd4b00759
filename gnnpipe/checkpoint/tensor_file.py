"""Writing tensors to a safetensors file past the page cache, without a second copy in memory."""

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
    """A new file, written past the page cache where the system and the file system allow it (``O_DIRECT``).

    The training beside it needs the cores and the memory: 1.6 GB take 3.6 s of a core through the cache, and
    0.2 s past it. Direct writes must be whole blocks at aligned addresses, so bytes pass through one block:

        # write(header) write(tensor) ...   -> | block, full | -> disk, directly
        # finish()                          -> | block, part | -> disk, through the cache

    Args:
        path: path of the file; what is there is replaced.
    """

    def __init__(self, path: Path) -> None:
        remove(path)  # of a link the link itself, not its target
        self._direct = getattr(os, "O_DIRECT", 0)
        try:
            self._file = new_file(path, self._direct)
        except OSError as error:
            if not self._direct or error.errno != errno.EINVAL:
                raise
            remove(path)  # some file systems create the file before they refuse
            self._file, self._direct = new_file(path), 0
        self._block = np.frombuffer(mmap.mmap(-1, BLOCK), np.uint8)  # mmap starts at a page, so it is aligned
        self._filled = self._size = 0
        self._hash = xxhash.xxh3_64()

    def write(self, content: memoryview | bytes) -> None:
        """Append; raises OSError."""
        left = np.frombuffer(content, np.uint8)
        while len(left):
            fits = min(len(left), BLOCK - self._filled)
            # copyto lets other Python threads run
            np.copyto(self._block[self._filled : self._filled + fits], left[:fits])
            self._filled += fits
            left = left[fits:]
            if self._filled == BLOCK:
                self._flush()

    def finish(self) -> tuple[int, str]:
        """Write the last bytes and wait until the disk has everything; raises OSError.

        Returns:
            size in bytes and xxh3 checksum.
        """
        self._go_on_cached(0)  # the last block is not a whole one
        self._flush()
        os.fsync(self._file)
        return self._size, self._hash.hexdigest()

    def close(self) -> None:
        """Close the file, finished or not."""
        os.close(self._file)

    def _flush(self) -> None:
        self._hash.update(self._block[: self._filled].data)  # while the block is in the core's cache
        done = 0
        while done < self._filled:
            try:
                done += os.write(self._file, self._block[done : self._filled].data)
            except OSError as error:
                # EINVAL: the file system wants blocks of another size, or has taken a part of this one
                if not self._direct or error.errno != errno.EINVAL:
                    raise
                self._go_on_cached(done)
        self._size += self._filled
        self._filled = 0

    def _go_on_cached(self, done: int) -> None:
        """Write through the page cache from now on.

        Args:
            done: bytes of the block that are on the disk already.
        """
        if self._direct:
            import fcntl  # doesn't exist on Windows, which has no O_DIRECT either

            flags = fcntl.fcntl(self._file, fcntl.F_GETFL)
            fcntl.fcntl(self._file, fcntl.F_SETFL, flags & ~self._direct)
        self._direct = 0
        os.lseek(self._file, self._size + done, os.SEEK_SET)


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> tuple[int, str]:
    """Write tensors one after the other, as the safetensors format wants them.

    Args:
        path: path of the file.
        tensors: tensors by name, on the CPU.

    Returns:
        The file's size in bytes and its xxh3 checksum.

    Raises:
        OSError: the disk is full, or the folder gone.
    """
    header, ordered = tensor_header(tensors)
    file = UncachedFile(path)
    try:
        file.write(header)
        for tensor in ordered.values():
            file.write(tensor_bytes(tensor))
        return file.finish()
    finally:
        file.close()
