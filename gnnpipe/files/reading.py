"""Reading what somebody else may have made: the one place where such a file is opened and parsed.

Nothing is unpickled, no YAML tag makes an object, and no number in a header makes memory be taken that the
file does not fill. Inside a run's folder no link is followed; a file that a user has named may be one.
Whatever is wrong ends as an OSError or a ValueError whose words fit into one line; callers say which flag it
is about. Arrays: see `gnnpipe.files.arrays`; torch_geometric's classes, which read by themselves: see
`gnnpipe.files.foreign`.
"""

from __future__ import annotations

import errno
import itertools
import json
import math
import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from gnnpipe.errors import shown
from gnnpipe.files.plain_yaml import load_yaml

if TYPE_CHECKING:  # both take long to import, and most commands begin without them
    from torch import Tensor

Content = dict[str, Any]
"""A JSON object or a YAML mapping as it was read: nothing is known of its keys and values yet."""
MIB = 1 << 20
CONFIG_BYTES, JSON_BYTES, LINE_BYTES, RECORDS_BYTES = MIB // 4, 256 * MIB, 16 * MIB, 1024 * MIB
HEADER_BYTES = 100 * MIB  # of a safetensors file, as its own library has it
YAML_DEPTH = 100
SMALL, RATIO = 256 * MIB, 100
"""Content above SMALL bytes is refused if it is more than RATIO times what is stored."""
LINK = "it is a link, and links are not followed here"


def open_file(path: Path, *, link: bool = False, most: int | None = None) -> BinaryIO:
    """Open an ordinary file.

    Args:
        path: of the file.
        link: whether it may be a link to one.
        most: bytes that it may have.

    Raises:
        OSError: it can't be opened, is a link, a pipe or a device, too large, or little but holes.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        number = os.open(path, flags | (0 if link else getattr(os, "O_NOFOLLOW", 0)))
    except OSError as error:
        if error.errno == errno.ELOOP and not link:
            raise OSError(errno.ELOOP, LINK, str(path)) from None
        raise
    except ValueError as error:  # a zero byte in the name
        raise OSError(errno.EINVAL, str(error), str(path)) from None
    try:
        _check_kind(os.fstat(number), path, most)
    except OSError:
        os.close(number)
        raise
    return os.fdopen(number, "rb")


def _check_kind(found: os.stat_result, path: Path, most: int | None) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise OSError(errno.EISDIR, "a folder stands there", str(path))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is no ordinary file", str(path))
    if most is not None and found.st_size > most:
        words = f"it holds {found.st_size:,} bytes, and more than {most:,} are not read"
        raise OSError(errno.EFBIG, words, str(path))
    stored = 512 * getattr(found, "st_blocks", found.st_size)
    if found.st_size > max(SMALL, RATIO * stored):
        words = f"it claims {found.st_size:,} bytes, of which {stored:,} are there"
        raise OSError(errno.EFBIG, words, str(path))


def read_bytes(path: Path, most: int, *, link: bool = False) -> bytes:
    """All bytes of a file; raises OSError, see `open_file`."""
    with open_file(path, link=link, most=most) as file:
        return file.read(os.fstat(file.fileno()).st_size)  # no more, if it grows meanwhile


def read_yaml_text(path: Path, *, link: bool = False) -> tuple[str, Content]:
    """A config's text, which has been checked, and the fields that it spells out.

    Raises:
        OSError: the file can't be read.
        ValueError: it is no YAML, holds no fields, or its aliases would unfold into too much.
    """
    text = read_bytes(path, CONFIG_BYTES, link=link).decode()
    found = parse_yaml(text)
    if not isinstance(found, dict) or not found or not all(isinstance(key, str) for key in found):
        raise ValueError("it holds no fields; write lines such as 'layers: 32'")
    return text, found


def parse_yaml(text: str) -> Any:
    """Plain values from YAML; raises ValueError."""
    if _depth(text) > YAML_DEPTH:
        raise ValueError("it is nested too deeply")
    try:
        return load_yaml(text)
    except (TypeError, OverflowError, AttributeError, KeyError) as error:  # of odd keys, dates and numbers
        raise ValueError(shown(str(error))) from None


def _depth(text: str) -> int:
    """How deep brackets stand in each other, roughly: PyYAML takes seconds to get as far as its limit."""
    steps = (1 if letter in "[{" else -1 for letter in re.sub(r"[^][{}]", "", text))
    return max(itertools.accumulate(steps), default=0)


def parse_json(text: str | bytes, *, finite: bool = True) -> Content:
    """A JSON object; raises ValueError.

    Args:
        text: to be parsed.
        finite: whether NaN and numbers beyond all bounds are refused, as none is ever written.
    """

    def refuse(word: str) -> float:
        raise ValueError(f"{shown(word)} is no number")

    def number(word: str) -> float:
        return float(word) if math.isfinite(float(word)) else refuse(word)

    try:
        found = json.loads(text, parse_constant=refuse, parse_float=number) if finite else json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError("it holds no JSON object")
    return found


def read_json(path: Path, *, link: bool = False, finite: bool = True) -> Content:
    """A JSON object from a file; raises OSError or ValueError. See `open_file` and `parse_json`."""
    return parse_json(read_bytes(path, JSON_BYTES, link=link), finite=finite)


def read_json_lines(path: Path) -> list[Content]:
    """One JSON object from each complete line of a file; raises OSError or ValueError."""
    found = []
    with open_file(path, most=RECORDS_BYTES) as file:
        while (line := file.readline(LINE_BYTES)).endswith(b"\n"):
            try:
                found.append(parse_json(line))
            except ValueError as error:
                raise ValueError(f"line {len(found) + 1}: {error}") from None
        if len(line) == LINE_BYTES:
            raise ValueError(f"line {len(found) + 1} is longer than {LINE_BYTES:,} bytes")
    return found


def read_tensor(path: Path, name: str) -> Tensor:
    """A tensor of a safetensors file, in memory of its own.

    Raises:
        OSError, ValueError: the file can't be read, or is not as it says.
    """
    from safetensors import SafetensorError, safe_open

    open_file(path).close()
    try:
        with safe_open(path, framework="pt") as file:
            found: Tensor = file.get_tensor(name).clone()  # what was opened is mapped
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(shown(str(error))) from None
    return found


def map_tensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a safetensors file, mapped: pages are read when they are first used."""
    from safetensors import SafetensorError, safe_open

    open_file(path).close()
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            return dict(file.metadata() or {}), tensors
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(shown(str(error))) from None


def tensor_file_metadata(content: bytes) -> dict[str, str]:
    """Metadata of a safetensors file, from its bytes; raises ValueError."""
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > min(HEADER_BYTES, len(content) - 8):
        raise ValueError("it is no safetensors file")
    found = parse_json(content[8 : 8 + length]).get("__metadata__", {})
    if not isinstance(found, dict):
        raise ValueError("its metadata is none")
    return {str(key): str(value) for key, value in found.items()}
