"""Checkpoints on disk: tensors of all ranks, written together, read one by one; nothing is unpickled.

epoch-00000020/
  index.json               where each tensor is, what the run was, a checksum of every file and of itself
  rank-00000.safetensors   tensors of rank 0
  rank-00001.safetensors   tensors of rank 1
  model.safetensors        the best weights so far
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import xxhash
from torch import Tensor

from gnnpipe.checkpoint.tensor_file import BLOCK, write_tensors
from gnnpipe.comm.groups import Talk
from gnnpipe.errors import CheckpointError, shown
from gnnpipe.files.reading import open_file, parse_json, read_json, read_tensor
from gnnpipe.files.writing import PART, make_folder, remove, rename, write_file
from gnnpipe.system.failures import reason

INDEX = "index.json"
FORMAT = 2


@dataclass(frozen=True)
class About:
    """What a checkpoint says of its run."""

    epochs: int
    """That are done."""
    plan: tuple[int, int, int]
    """Numbers of stages, parts and chunks."""
    tables: dict[str, bool] | None
    """Whether the tables in it are ``clean`` and of a ``stale_halo``; None where it holds none."""
    refreshed: bool
    """Whether an exact sweep has filled the tables for the next epoch already."""
    best: dict[str, float] | None = None
    """``epoch`` and ``val`` of the best weights, which lie beside the tensors; None where they don't."""
    says_best: bool = True
    """False of weights whose own file says nothing of them, as one by an older version."""

    @classmethod
    def read(cls, folder: Path, content: Mapping[str, Any]) -> About:
        """From an index.

        Raises:
            CheckpointError: it is of another format, or lacks something.
        """
        if content.get("format") != FORMAT:
            raise CheckpointError(
                f"'{folder}' is of format {content.get('format')}; this version of gnnpipe reads {FORMAT}"
            )
        plan, tables = content.get("plan"), content.get("tables")
        good = (
            all(isinstance(content.get(key), int) for key in ("epochs", "refreshed"))
            and isinstance(plan, list)
            and len(plan) == 3
            and all(isinstance(number, int) for number in plan)
            and (tables is None or (isinstance(tables, dict) and {"clean", "stale_halo"} <= set(tables)))
            and _is_best(content.get("best"))
        )
        if not good:
            raise CheckpointError(f"'{folder}' does not say what run it is of")
        refreshed, best = bool(content["refreshed"]), content.get("best")
        return cls(content["epochs"], tuple(content["plan"]), tables, refreshed, best, "best" in content)

    def content(self) -> dict[str, object]:
        """For an index."""
        content = {"format": FORMAT} | asdict(self)
        if not content.pop("says_best"):
            del content["best"]
        return content


def _is_best(found: object) -> bool:
    if not isinstance(found, dict):
        return found is None
    return type(found.get("epoch")) is int and type(found.get("val")) is float and math.isfinite(found["val"])


@dataclass(frozen=True)
class StoredFile:
    """What a file must hold."""

    size: int
    xxh3: str


@dataclass(frozen=True)
class StoredCheckpoint:
    """A checkpoint's folder and what its index says."""

    folder: Path
    about: About
    tensors: dict[str, str]
    """The file of each tensor."""
    files: dict[str, StoredFile]

    @classmethod
    def open(cls, folder: Path) -> StoredCheckpoint:
        """Read the index.

        Raises:
            CheckpointError: it is absent or damaged.
        """
        try:
            content = read_json(folder / INDEX)
            if "xxh3" not in content:
                raise CheckpointError(
                    f"'{folder / INDEX}' has no checksum that this version of gnnpipe knows; resume with the "
                    "version that wrote it"
                )
            text = content["content"]
            if checksum(text.encode()) != content["xxh3"]:
                raise CheckpointError(f"'{folder / INDEX}' is damaged: its checksum differs")
            index = parse_json(text)
            tensors = dict(index["tensors"])
            files = {name: StoredFile(**item) for name, item in index["files"].items()}
            if any(Path(name).name != name for name in files) or not set(tensors.values()) <= set(files):
                raise CheckpointError(f"'{folder / INDEX}' names places outside of its files or folder")
            return cls(folder, About.read(folder, dict(index["about"])), tensors, files)
        except FileNotFoundError:
            raise CheckpointError(f"'{folder}' is not complete: it has no {INDEX}") from None
        except OSError as error:
            raise CheckpointError(
                f"'{folder / INDEX}' can't be read ({reason(error, str(folder / INDEX))})"
            ) from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(f"'{folder / INDEX}' can't be read ({shown(str(error))})") from None

    def verify(self) -> None:
        """Compare every file with its checksum.

        Raises:
            CheckpointError: a file is absent, too short, or not what was written.
        """
        for name, expected in self.files.items():
            path = self.folder / name
            try:
                found = _described(path)
            except OSError as error:
                raise CheckpointError(f"'{path}' can't be read ({reason(error, str(path))})") from None
            if found.size != expected.size:
                raise CheckpointError(f"'{path}' holds {found.size} bytes instead of {expected.size}")
            if found != expected:
                raise CheckpointError(f"'{path}' is damaged: its checksum differs")

    def read(self, name: str) -> Tensor:
        """Read a tensor into memory.

        Raises:
            CheckpointError: it is not there, or is no tensor.
        """
        if name not in self.tensors:
            raise CheckpointError(f"'{self.folder}' holds no '{name}'; was it written by another model?")
        try:
            return read_tensor(self.folder / self.tensors[name], name)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"'{name}' of '{self.folder}' can't be read ({error})") from None


class Storage:
    """Writes checkpoints beside the training, one at a time; all ranks take part in each.

    Args:
        talk: for what ranks tell each other while they write; used by nobody else.
    """

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self._thread: threading.Thread | None = None
        self._target = Path()  # of what is being written
        self._failure: BaseException | None = None
        self._copies: dict[str, Tensor] = {}
        self._count = 0

    @property
    def is_first(self) -> bool:
        """Whether what this rank tells of the run counts."""
        return self._talk.rank == 0

    def begin(
        self, target: Path, tensors: Mapping[str, Tensor], about: About, beside: Mapping[str, bytes]
    ) -> None:
        """Start to write; `finish` must have been called since the last time.

        Args:
            target: folder, which appears when all is written.
            tensors: this rank's, under names that no other rank uses. They are copied at once, into memory
                that is kept for the next time: touching new memory takes longer than copying.
            about: what the index is to say; rank 0's counts.
            beside: small files that belong to it, by name; rank 0's count.
        """
        assert self._thread is None
        self._count += 1  # on all ranks alike: what an attempt has left behind is in nobody's way
        self._target = target
        aside = target.with_name(f"{target.name}-{self._count}{PART}")
        copies = {name: self._copied(name, tensor.detach()) for name, tensor in tensors.items()}

        def write() -> None:
            try:
                self._write(aside, copies, about, beside)
            except BaseException as error:
                self._failure = error
                if self.is_first:  # all ranks have come to an end, as they tell each other how it went
                    with suppress(OSError):
                        remove(aside)

        self._thread = threading.Thread(target=write, daemon=True, name="checkpoint")
        self._thread.start()

    @property
    def done(self) -> bool:
        """Whether nothing is being written; then `finish` returns at once."""
        return self._thread is None or not self._thread.is_alive()

    def finish(self) -> Path | None:
        """Wait until what was begun is written, and tell where; None if nothing was begun.

        Raises:
            OSError: a rank could not write.
        """
        if self._thread is None:
            return None
        self._thread.join()
        self._thread, failure = None, self._failure
        self._failure = None
        if failure is not None:
            raise failure
        return self._target

    def _copied(self, name: str, tensor: Tensor) -> Tensor:
        copy = self._copies.get(name)
        if copy is None or copy.shape != tensor.shape or copy.dtype != tensor.dtype:
            copy = self._copies[name] = torch.empty_like(tensor, device="cpu")
        return copy.copy_(tensor)

    def _write(
        self, aside: Path, tensors: Mapping[str, Tensor], about: About, beside: Mapping[str, bytes]
    ) -> None:
        shares = self._talk.together(partial(_write_share, aside, self._talk.rank, tensors))
        complete = partial(_complete, aside, self._target, shares, about, beside)
        self._talk.together(complete if self.is_first else lambda: None)


_Share = tuple[list[str], StoredFile | None]
"""Names of a rank's tensors, and the file that holds them if there are any."""


def _file_of(rank: int) -> str:
    return f"rank-{rank:05d}.safetensors"


def _write_share(aside: Path, rank: int, tensors: Mapping[str, Tensor]) -> _Share:
    make_folder(aside.parent)
    make_folder(aside)  # any rank may be the first
    return list(tensors), StoredFile(*write_tensors(aside / _file_of(rank), tensors)) if tensors else None


def _complete(
    aside: Path, target: Path, shares: Sequence[_Share], about: About, beside: Mapping[str, bytes]
) -> None:
    """When all ranks have written: add the index and give the folder its name."""
    files = {_file_of(rank): file for rank, (_, file) in enumerate(shares) if file is not None}
    for name, content in beside.items():
        write_file(aside / name, content)
        files[name] = StoredFile(len(content), checksum(content))
    index = {
        "about": about.content(),
        "tensors": {name: _file_of(rank) for rank, (names, _) in enumerate(shares) for name in names},
        "files": {name: asdict(file) for name, file in files.items()},
    }
    text = json.dumps(index)
    whole = json.dumps({"xxh3": checksum(text.encode()), "content": text})
    write_file(aside / INDEX, whole, durable=True)
    rename(aside, target)


def checksum(content: bytes) -> str:
    """xxh3, as everything in a checkpoint has it."""
    return xxhash.xxh3_64_hexdigest(content)


def _described(path: Path) -> StoredFile:
    size, total = 0, xxhash.xxh3_64()
    with open_file(path) as file:
        while block := file.read(BLOCK):
            size += len(block)
            total.update(block)
    return StoredFile(size, total.hexdigest())
