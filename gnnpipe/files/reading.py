"""Opening and parsing files that somebody else may have made.

Nothing is unpickled, no YAML tag makes an object, and no header makes us take memory that the file does not
fill. Links are not followed inside a run's folder; a file that a user has named may be one. Everything that
is wrong with a file ends as an OSError or a ValueError with a message of one line; callers add the flag.

`gnnpipe.files.mapped` reads and maps arrays, and `gnnpipe.files.foreign` guards torch_geometric's classes.
"""

from __future__ import annotations

import errno
import itertools
import json
import math
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from gnnpipe.errors import shown
from gnnpipe.files.plain_yaml import load_yaml

if TYPE_CHECKING:  # importing torch takes seconds, and most commands need none of it
    from torch import Tensor

Content = dict[str, Any]
"""A JSON object or a YAML mapping as it was read: nothing is known of its keys and values yet."""
MIB = 1 << 20
# Largest files and lines that are read.
CONFIG_BYTES, JSON_BYTES, LINE_BYTES, RECORDS_BYTES = MIB // 4, 256 * MIB, 16 * MIB, 1024 * MIB
# Largest header of a safetensors file; the bound of its own library.
HEADER_BYTES = 100 * MIB
YAML_DEPTH = 100
SMALL, RATIO = 256 * MIB, 100
"""Content above SMALL bytes is refused if it is more than RATIO times the bytes stored for it."""
LINK = "it is a link, and links are not followed here"


def open_file(path: Path, *, link: bool = False, most: int | None = None) -> BinaryIO:
    """Open an ordinary file.

    Args:
        path: path of the file.
        link: whether it may be a link to an ordinary file.
        most: largest size in bytes; None for any.

    Raises:
        OSError: it can't be opened, is a link, a pipe or a device, is too large, or is little but holes.
    """
    # O_NONBLOCK: opening a pipe that nobody writes to would wait for ever
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        descriptor = os.open(path, flags | (0 if link else getattr(os, "O_NOFOLLOW", 0)))
    except OSError as error:
        if error.errno == errno.ELOOP and not link:
            raise OSError(errno.ELOOP, LINK, str(path)) from None
        raise
    except ValueError as error:  # a zero byte in the name
        raise OSError(errno.EINVAL, str(error), str(path)) from None
    try:
        _check_kind(os.fstat(descriptor), path, most)
    except OSError:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def _check_kind(status: os.stat_result, path: Path, most: int | None) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise OSError(errno.EISDIR, "a folder stands there", str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is no ordinary file", str(path))
    if most is not None and status.st_size > most:
        words = f"it holds {status.st_size:,} bytes, and more than {most:,} are not read"
        raise OSError(errno.EFBIG, words, str(path))
    # a sparse file claims any size, and its holes would be read as zeros
    stored = 512 * getattr(status, "st_blocks", status.st_size)
    if status.st_size > max(SMALL, RATIO * stored):
        words = f"it claims {status.st_size:,} bytes, of which {stored:,} are there"
        raise OSError(errno.EFBIG, words, str(path))


def read_bytes(path: Path, most: int, *, link: bool = False) -> bytes:
    """All bytes of a file; raises OSError as `open_file` does."""
    with open_file(path, link=link, most=most) as file:
        return file.read(os.fstat(file.fileno()).st_size)  # no more, even if the file grows meanwhile


def read_yaml_text(path: Path, *, link: bool = False) -> tuple[str, Content]:
    """The text of a configuration file and the fields in it.

    Raises:
        OSError: the file can't be read.
        ValueError: it is no YAML, holds no fields, or its aliases would unfold into too much.
    """
    text = read_bytes(path, CONFIG_BYTES, link=link).decode()
    fields = parse_yaml(text)
    if not isinstance(fields, dict) or not fields or not all(isinstance(key, str) for key in fields):
        raise ValueError("it holds no fields; write lines such as 'layers: 32'")
    return text, fields


def parse_yaml(text: str) -> Any:
    """Plain values from YAML; raises ValueError."""
    if _depth(text) > YAML_DEPTH:
        raise ValueError("it is nested too deeply")
    try:
        return load_yaml(text)
    except (TypeError, OverflowError, AttributeError, KeyError) as error:  # for odd keys, dates and numbers
        raise ValueError(shown(str(error))) from None


def _depth(text: str) -> int:
    """Depth of nested brackets, roughly: brackets inside quotes count as well.

    PyYAML has a limit of its own, but takes seconds to reach it.
    """
    steps = (1 if letter in "[{" else -1 for letter in re.sub(r"[^][{}]", "", text))
    return max(itertools.accumulate(steps), default=0)


def parse_json(text: str | bytes, *, finite: bool = True) -> Content:
    """The JSON object that ``text`` spells; raises ValueError.

    Args:
        text: text to parse.
        finite: whether to refuse NaN and numbers too large for a float, which no file of ours holds.
    """

    def refuse(word: str) -> float:
        raise ValueError(f"{shown(word)} is no number")

    def number(word: str) -> float:
        return float(word) if math.isfinite(float(word)) else refuse(word)

    try:
        content = json.loads(text, parse_constant=refuse, parse_float=number) if finite else json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(content, dict):
        raise ValueError("it holds no JSON object")
    return content


def read_json(path: Path, *, link: bool = False, finite: bool = True, most: int = JSON_BYTES) -> Content:
    """The JSON object of a file; raises OSError as `open_file` does, and ValueError as `parse_json` does."""
    return parse_json(read_bytes(path, most, link=link), finite=finite)


def read_json_lines(path: Path) -> list[Content]:
    """One JSON object from each complete line of a file; raises OSError or ValueError.

    A last line without its end is left out: its writer was stopped, or is still at it.
    """
    records = []
    with open_file(path, most=RECORDS_BYTES) as file:
        while (line := file.readline(LINE_BYTES)).endswith(b"\n"):
            try:
                records.append(parse_json(line))
            except ValueError as error:
                raise ValueError(f"line {len(records) + 1}: {error}") from None
        if len(line) == LINE_BYTES:
            raise ValueError(f"line {len(records) + 1} is longer than {LINE_BYTES:,} bytes")
    return records


def read_tensor(path: Path, name: str) -> Tensor:
    """A tensor of a safetensors file, copied into memory of its own.

    Raises:
        OSError, ValueError: the file can't be read, or does not hold what its header says.
    """
    from safetensors import SafetensorError, safe_open

    open_file(path).close()
    try:
        with safe_open(path, framework="pt") as file:
            # the file is mapped: without a copy, truncating it later would kill this process
            tensor: Tensor = file.get_tensor(name).clone()
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(shown(str(error))) from None
    return tensor


@dataclass(frozen=True)
class StoredTensors:
    """Content of a safetensors file, as far as it was asked for."""

    metadata: dict[str, str]
    shapes: dict[str, tuple[int, ...]]
    """Of all tensors."""
    kinds: dict[str, str]
    """Types of their numbers, such as F32."""
    tensors: dict[str, Tensor]
    """Those that were asked for, in memory of their own."""


def read_tensors(path: Path, wanted: Mapping[str, tuple[int, ...]], *, link: bool = False) -> StoredTensors:
    """Read those float32 tensors of a safetensors file that are there with the shapes that are wanted.

    Args:
        path: path of the file.
        wanted: shapes by name.
        link: whether it may be a link to an ordinary file.

    Raises:
        OSError, ValueError: the file can't be read, or does not hold what its header says.
    """
    from safetensors import SafetensorError, safe_open

    open_file(path, link=link).close()
    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            shapes = {name: tuple(part.get_shape()) for name, part in slices.items()}
            kinds = {name: str(part.get_dtype()) for name, part in slices.items()}
            good = [name for name in wanted if shapes.get(name) == wanted[name] and kinds[name] == "F32"]
            tensors = {name: file.get_tensor(name).clone() for name in good}
            return StoredTensors(dict(file.metadata() or {}), shapes, kinds, tensors)
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(shown(str(error))) from None


def map_tensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a safetensors file, mapped into memory: pages are read when first used."""
    from safetensors import SafetensorError, safe_open

    open_file(path).close()
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            return dict(file.metadata() or {}), tensors
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(shown(str(error))) from None


def tensor_file_metadata(content: bytes) -> dict[str, str]:
    """Metadata of a safetensors file, from the file's bytes; raises ValueError."""
    # 8 bytes with the header's length, the header (a JSON object), the tensors
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > min(HEADER_BYTES, len(content) - 8):
        raise ValueError("it is no safetensors file")
    metadata = parse_json(content[8 : 8 + length]).get("__metadata__", {})
    if not isinstance(metadata, dict):
        raise ValueError("its metadata is none")
    return {str(key): str(value) for key, value in metadata.items()}
