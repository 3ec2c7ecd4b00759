"""Checkpoints on disk: all ranks write one together, each its tensors; nothing in it is pickled.

epoch-00000020/
  index.json               file of each tensor, facts of the run, checksums of every file and of itself
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

import xxhash
from torch import Tensor

from gnnpipe.checkpoint.tensor_file import BLOCK, write_tensors
from gnnpipe.comm.groups import Talk
from gnnpipe.errors import CheckpointError, shown
from gnnpipe.files.reading import open_file, parse_json, read_json, read_tensor
from gnnpipe.files.writing import PART, make_folder, remove, rename, write_file
from gnnpipe.system.failures import reason
from gnnpipe.system.memory import copy_to_host, host_like

INDEX = "index.json"
FORMAT = 2


@dataclass(frozen=True)
class About:
    """Facts of a run in a checkpoint's index."""

    epochs: int
    """Number of epochs that are done."""
    plan: tuple[int, int, int]
    """Numbers of stages, parts and chunks."""
    tables: dict[str, bool] | None
    """Whether tables are ``clean`` and have a ``stale_halo``; None if the checkpoint holds no tables."""
    refreshed: bool
    """Whether an exact sweep has already filled the tables for the next epoch."""
    best: dict[str, float] | None = None
    """``epoch`` and ``val`` of the best weights, which are beside the tensors; None if there are none yet."""
    says_best: bool = True
    """False if the file of the best weights doesn't hold their score, as files of older versions."""

    @classmethod
    def read(cls, folder: Path, content: Mapping[str, Any]) -> About:
        """Read the facts from an index.

        Raises:
            CheckpointError: the index has another format, or lacks a fact.
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
        """The facts as an index holds them."""
        content = {"format": FORMAT} | asdict(self)
        if not content.pop("says_best"):
            del content["best"]
        return content


def _is_best(best: object) -> bool:
    if not isinstance(best, dict):
        return best is None
    return type(best.get("epoch")) is int and type(best.get("val")) is float and math.isfinite(best["val"])


@dataclass(frozen=True)
class StoredFile:
    """Size and checksum that a file must have."""

    size: int
    """Bytes."""
    xxh3: str
    """Checksum, in hexadecimal."""


@dataclass(frozen=True)
class StoredCheckpoint:
    """A checkpoint on disk: its folder and its index."""

    folder: Path
    about: About
    tensors: dict[str, str]
    """Name of the file of each tensor."""
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
    """Writes checkpoints in a thread beside the training, one at a time; all ranks take part in each.

        # training thread   begin: copy | epoch n + 1 ....................... | finish
        # writing thread                | own file | all ranks done? | index, rename (rank 0)

    Args:
        talk: a group of its own for the writing threads, whose messages must not mix with others.
    """

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self._thread: threading.Thread | None = None
        self._target = Path()  # folder that is being written
        self._failure: BaseException | None = None
        self._copies: dict[str, Tensor] = {}
        self._count = 0

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, which writes the index."""
        return self._talk.rank == 0

    def begin(
        self, target: Path, tensors: Mapping[str, Tensor], about: About, beside: Mapping[str, bytes]
    ) -> None:
        """Begin to write a checkpoint; the one before must be finished.

        Args:
            target: its folder, which appears once everything is written.
            tensors: tensors of this rank, under names that no other rank uses. They are copied before this
                returns, into memory that is kept for the next time: touching new memory takes longer.
            about: facts for the index; those of rank 0 count.
            beside: small files to put beside the tensors, by name; those of rank 0 count.
        """
        assert self._thread is None
        self._count += 1  # the same on all ranks; a new name for each attempt, whatever the last one left
        self._target = target
        aside = target.with_name(f"{target.name}-{self._count}{PART}")
        copies = {name: self._space(name, tensor) for name, tensor in tensors.items()}
        copy_to_host((tensor.detach(), copies[name]) for name, tensor in tensors.items())

        def write() -> None:
            try:
                self._write(aside, copies, about, beside)
            except BaseException as error:
                self._failure = error
                # no rank writes any more: `together` has told them all of each other's failures
                if self.is_first:
                    with suppress(OSError):
                        remove(aside)

        self._thread = threading.Thread(target=write, daemon=True, name="checkpoint")
        self._thread.start()

    @property
    def done(self) -> bool:
        """Whether `finish` would return at once: nothing is being written."""
        return self._thread is None or not self._thread.is_alive()

    def finish(self) -> Path | None:
        """Wait for the checkpoint that was begun; return its folder, or None if none was.

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

    def _space(self, name: str, tensor: Tensor) -> Tensor:
        """Memory for the copy of a tensor."""
        copy = self._copies.get(name)
        if copy is None or copy.shape != tensor.shape or copy.dtype != tensor.dtype:
            copy = self._copies[name] = host_like(tensor)
        return copy

    def _write(
        self, aside: Path, tensors: Mapping[str, Tensor], about: About, beside: Mapping[str, bytes]
    ) -> None:
        shares = self._talk.together(partial(_write_share, aside, self._talk.rank, tensors))
        complete = partial(_complete, aside, self._target, shares, about, beside)
        self._talk.together(complete if self.is_first else lambda: None)


_Share = tuple[list[str], StoredFile | None]
"""Names of a rank's tensors, and size and checksum of its file; None if it has no tensors."""


def _file_of(rank: int) -> str:
    return f"rank-{rank:05d}.safetensors"


def _write_share(aside: Path, rank: int, tensors: Mapping[str, Tensor]) -> _Share:
    make_folder(aside.parent)
    make_folder(aside)  # any rank may be the first
    return list(tensors), StoredFile(*write_tensors(aside / _file_of(rank), tensors)) if tensors else None


def _complete(
    aside: Path, target: Path, shares: Sequence[_Share], about: About, beside: Mapping[str, bytes]
) -> None:
    """Add the small files and the index, then give the folder its name: so no folder of that name is ever
    incomplete, whenever the machine fails.

    Args:
        aside: folder under its name for the time being.
        target: folder under its final name.
        shares: tensors and file of each rank.
        about: facts for the index.
        beside: small files by name.
    """
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
    """The xxh3 checksum, which all files of a checkpoint have."""
    return xxhash.xxh3_64_hexdigest(content)


def _described(path: Path) -> StoredFile:
    size, total = 0, xxhash.xxh3_64()
    with open_file(path) as file:
        while block := file.read(BLOCK):
            size += len(block)
            total.update(block)
    return StoredFile(size, total.hexdigest())
