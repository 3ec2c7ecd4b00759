"""Writing to disk: the one place where files are made, extended or removed.

A folder may be somebody else's, with links in it that lead elsewhere. So nothing here follows a link: a file
is written under a random name that must not exist (O_EXCL, O_NOFOLLOW), and then renamed. Readers see the
whole file or the one before it, and a write that fails leaves nothing behind:

    .gnnpipe-<random>.part  --- write ---> complete  --- rename ---> model.safetensors
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from gnnpipe.files.reading import LINK, open_file

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

PREFIX, PART = ".gnnpipe-", ".part"
# Bytes that a copy reads at once.
_BLOCK = 1 << 20
# Flags for a file that must not exist yet, and for one that must exist and be no link.
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_OLD = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
_BINARY = getattr(os, "O_BINARY", 0)
# Names of number formats in safetensors files.
_KINDS = {
    "torch.float64": "F64", "torch.float32": "F32", "torch.float16": "F16", "torch.bfloat16": "BF16",
    "torch.int64": "I64", "torch.int32": "I32", "torch.uint8": "U8", "torch.bool": "BOOL",
}  # fmt: skip


def new_file(path: Path, flags: int = 0) -> int:
    """Make a file that must not exist yet, not even as a link; its mode follows the umask.

    Args:
        path: path of the file.
        flags: further flags for `os.open`.

    Returns:
        A descriptor, which the caller closes.
    """
    return os.open(path, _NEW | _BINARY | flags, 0o666)


def write_all(file: int, content: bytes | memoryview) -> None:
    """Write all of ``content`` to a descriptor; one call of `os.write` may stop short."""
    left = memoryview(content)
    while len(left):
        left = left[os.write(file, left) :]


@contextmanager
def aside(path: Path) -> Iterator[Path]:
    """A new name beside ``path``; the file written there replaces ``path`` at the end.

    Raises:
        OSError: it can't be written, or something else than a file or a link stands at ``path``. The error
            names ``path``, and no file is left behind.
    """
    unfinished = path.with_name(f"{PREFIX}{secrets.token_hex(8)}{PART}")
    try:
        _check_replaceable(path)
        yield unfinished
        unfinished.replace(path)
    except BaseException as error:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        if isinstance(error, OSError):  # the user knows nothing of the random name
            error.filename, error.filename2 = str(path), None
        raise


def write_file(path: Path, content: str | bytes, *, durable: bool = False) -> None:
    """Write a file whole or not at all.

    Args:
        path: path of the file; a file or a link there is replaced.
        content: bytes, or text that is written as UTF-8.
        durable: whether to wait until the disk has it.
    """
    with aside(path) as unfinished:
        file = new_file(unfinished)
        try:
            write_all(file, content.encode() if isinstance(content, str) else content)
            if durable:
                os.fsync(file)
        finally:
            os.close(file)


def copy_file(source: Path, target: Path) -> None:
    """Copy a file whole or not at all; neither end may be a link."""
    with open_file(source) as reader, aside(target) as unfinished:
        file = new_file(unfinished)
        try:
            while block := reader.read(_BLOCK):
                write_all(file, block)
        finally:
            os.close(file)


def append_text(path: Path, text: str) -> None:
    """Append to an existing file, all of ``text`` or nothing; the system has it when this returns.

    Raises:
        OSError: it can't be written, does not exist, or is a link.
    """
    file = _open_old(path, _OLD)
    try:
        end = os.lseek(file, 0, os.SEEK_END)
        try:
            write_all(file, text.encode())
        except OSError as error:  # as on a full disk: take back the part that was written
            os.ftruncate(file, end)
            error.filename = str(path)
            raise
    finally:
        os.close(file)


def open_lock(path: Path, *, own: bool = False) -> int:
    """Open a lock file; make it if it does not exist.

    Args:
        path: path of the file.
        own: whether this user must own it, as in a folder where everybody may put files.

    Returns:
        A descriptor, which the caller closes.

    Raises:
        OSError: it can't be made, is a link, or belongs to somebody else.
    """
    with suppress(FileExistsError):
        os.close(new_file(path))
    file = _open_old(path, _OLD)
    if own and hasattr(os, "getuid") and os.fstat(file).st_uid != os.getuid():
        os.close(file)
        raise OSError(errno.EPERM, "it belongs to another user", str(path))
    return file


def open_read_lock(path: Path) -> int:
    """Open the lock file of a folder that may not be written to; raises OSError as `open_lock` does."""
    return _open_old(path, _OLD & ~os.O_RDWR | os.O_RDONLY)


def make_folder(path: Path, *, link: bool = False) -> None:
    """Make a folder, and those above it, unless it exists.

    Args:
        path: path of the folder.
        link: whether it may be a link to a folder, which is fine where a user has named it.

    Raises:
        OSError: it can't be made, or is a link.
    """
    path.mkdir(parents=True, exist_ok=True)
    if not link and path.is_symlink():
        raise OSError(errno.ELOOP, LINK, str(path))


def remove(path: Path) -> None:
    """Remove a file, a link (not its target), or a folder with its content, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)  # follows no links either
    else:
        path.unlink(missing_ok=True)


def rename(path: Path, target: Path) -> None:
    """Rename a file or a folder, replacing whatever stands at ``target``."""
    remove(target)
    path.rename(target)


def replace_folder(path: Path, target: Path, aside: Path) -> None:
    """Rename a folder that is complete; a folder that stands at ``target`` is first renamed to ``aside``."""
    if target.exists():
        target.rename(aside)
    path.rename(target)


def is_leftover(name: str) -> bool:
    """Whether it is the name of an unfinished file, whose process was killed before the rename."""
    return name.startswith(PREFIX) and name.endswith(PART)


def remove_leftovers(folder: Path) -> None:
    """Remove the unfinished files of killed processes from a folder."""
    for path in folder.iterdir():
        if is_leftover(path.name):
            remove(path)


def _check_replaceable(path: Path) -> None:
    """Raise OSError unless ``path`` is free, a file or a link: a rename would even replace ``/dev/null``."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
        kind = "a folder stands there" if stat.S_ISDIR(mode) else "it is no ordinary file"
        raise OSError(errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL, kind, str(path))


def _open_old(path: Path, flags: int) -> int:
    """Open an ordinary file that exists; raises OSError for a link, a pipe or a device."""
    try:
        file = os.open(path, flags | _BINARY)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, LINK, str(path)) from None
        raise
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(errno.EINVAL, "it is no ordinary file", str(path))
    return file


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file whole or not at all, through the page cache: it is read soon.

    Args:
        path: path of the file; a file or a link there is replaced.
        tensors: named tensors on the CPU.
        metadata: texts for the file's header.
    """
    with new_tensors(path, tensors, metadata) as file:
        for name, tensor in tensors.items():
            file.append(name, tensor)


class TensorWriter:
    """A safetensors file whose tensors are written block by block; they may take turns."""

    def __init__(self, file: int, spans: Mapping[str, tuple[int, int]]) -> None:
        self._file = file
        self._next = {name: start for name, (start, _) in spans.items()}
        self._stop = {name: stop for name, (_, stop) in spans.items()}

    def append(self, name: str, block: Tensor) -> None:
        """Write the numbers of a tensor that follow those written before; ``block`` is on the CPU."""
        content = tensor_bytes(block)
        if self._next[name] + len(content) > self._stop[name]:
            raise RuntimeError(f"tensor '{name}' is longer than the header says")
        os.lseek(self._file, self._next[name], os.SEEK_SET)
        write_all(self._file, content)
        self._next[name] += len(content)

    def check(self) -> None:
        """Raise RuntimeError unless all tensors are complete."""
        short = [name for name, stop in self._stop.items() if self._next[name] != stop]
        if short:
            raise RuntimeError(f"tensors {short} are shorter than the header says")


@contextmanager
def new_tensors(
    path: Path, shapes: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> Iterator[TensorWriter]:
    """Write a safetensors file block by block; it stands at ``path`` when the context closes.

    Args:
        path: path of the file; a file or a link there is replaced.
        shapes: shapes and number formats of the tensors; their content does not matter, so they may be on
            the device ``meta``.
        metadata: texts for the file's header.

    Raises:
        OSError: it can't be written; as `aside`.
    """
    header, ordered = tensor_header(shapes, metadata)
    spans, stop = {}, len(header)
    for name, tensor in ordered.items():
        start, stop = stop, stop + tensor.nbytes
        spans[name] = (start, stop)
    with aside(path) as unfinished:
        file = new_file(unfinished)
        try:
            write_all(file, header)
            writer = TensorWriter(file, spans)
            yield writer
            writer.check()
        finally:
            os.close(file)


def write_arrays(path: Path, arrays: Iterable[np.ndarray]) -> None:
    """Write the bytes of arrays, one after the other, whole or not at all."""
    with aside(path) as unfinished:
        file = new_file(unfinished)
        try:
            for array in arrays:
                write_all(file, array.reshape(-1).view("u1").data)
        finally:
            os.close(file)


def tensor_header(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> tuple[bytes, dict[str, Tensor]]:
    """Header of a safetensors file, and the tensors in the order in which they follow it.

        8 bytes: length of the text | JSON text, spaces up to a multiple of 8 | tensors, widest numbers first

    Each number then stands at a multiple of its size, also in memory when the file is mapped.
    """
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    end, ordered = 0, dict(sorted(tensors.items(), key=lambda named: -named[1].element_size()))
    for name, tensor in ordered.items():
        begin, end = end, end + tensor.nbytes
        kind = _KINDS[str(tensor.dtype)]
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, ordered


def tensor_bytes(tensor: Tensor) -> memoryview:
    """A tensor's numbers as they lie in memory, row by row."""
    import torch  # not above: commands that only write text start without it

    if not tensor.numel():  # NumPy gives empty arrays strides of 0, and a view as bytes refuses those
        return memoryview(b"")
    content: memoryview = tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().data
    return content
