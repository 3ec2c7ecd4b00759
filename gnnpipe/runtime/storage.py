"""Checkpoints on disk: tensors of all ranks, written together, read one by one; nothing is unpickled.

epoch-00000020/
  index.json          where each tensor is, what the run was, a checksum of every file and of itself
  __0_0.distcp        tensors of rank 0
  __1_0.distcp        tensors of rank 1
  model.safetensors   the best weights so far
"""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import threading
import zlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future

from gnnpipe.base.errors import CheckpointError

INDEX, ASIDE = "index.json", ".part"
_BLOCK = 1 << 22


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor is."""

    file: str
    offset: int
    length: int


@dataclass(frozen=True)
class StoredFile:
    """What a file must hold."""

    size: int
    crc32: int


@dataclass(frozen=True)
class _Written:
    """What a rank tells about a tensor that it wrote."""

    tensor: StoredTensor
    file: StoredFile


@dataclass(frozen=True)
class StoredCheckpoint:
    """A checkpoint's folder and what its index says."""

    folder: Path
    about: dict[str, Any]
    """What the run was; see `gnnpipe.train.checkpoint`."""
    tensors: dict[str, StoredTensor]
    files: dict[str, StoredFile]

    @classmethod
    def open(cls, folder: Path) -> StoredCheckpoint:
        """Read the index.

        Raises:
            CheckpointError: it is absent or damaged.
        """
        try:
            content = json.loads((folder / INDEX).read_bytes())
            text = content["content"]
            if zlib.crc32(text.encode()) != content["crc32"]:
                raise CheckpointError(f"'{folder / INDEX}' is damaged: its checksum differs")
            index = json.loads(text)
            tensors = {name: StoredTensor(**item) for name, item in index["tensors"].items()}
            files = {name: StoredFile(**item) for name, item in index["files"].items()}
            if not all(map(_sound, tensors.values())) or not all(map(_sound, files.values())):
                raise CheckpointError(
                    f"'{folder / INDEX}' says where things are in something else than numbers"
                )
            if any(Path(name).name != name for name in files) or not all(
                item.file in files and item.offset + item.length <= files[item.file].size
                for item in tensors.values()
            ):
                raise CheckpointError(f"'{folder / INDEX}' names places outside of its files or folder")
            return cls(folder, dict(index["about"]), tensors, files)
        except FileNotFoundError:
            raise CheckpointError(f"'{folder}' is not complete: it has no {INDEX}") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(f"'{folder / INDEX}' can't be read ({error})") from None

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
                raise CheckpointError(f"'{path}' can't be read ({error.strerror})") from None
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
        place = self.tensors[name]
        try:
            with (self.folder / place.file).open("rb") as file:
                file.seek(place.offset)
                content = file.read(place.length)
            tensor = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except (OSError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise CheckpointError(f"'{name}' of '{self.folder}' can't be read ({error})") from None
        if not isinstance(tensor, Tensor):
            raise CheckpointError(f"'{name}' of '{self.folder}' is no tensor")
        return tensor


class Storage:
    """Writes checkpoints beside the training, one at a time; all ranks take part in each.

    Args:
        group: for what ranks tell each other while they write; used by nobody else.
    """

    def __init__(self, group: dist.ProcessGroup | None) -> None:
        self._group = group
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    def begin(self, target: Path, tensors: dict[str, Tensor], about: dict[str, Any], beside: Path) -> None:
        """Start to write; `finish` must have been called since the last time.

        Args:
            target: folder, which appears when all is written.
            tensors: this rank's, under names that no other rank uses; they must not change any more.
            about: what `StoredCheckpoint.about` is to hold; rank 0's counts.
            beside: a small file to copy as it is now, if it exists; rank 0's counts.
        """
        assert self._thread is None
        try:
            copied = {beside.name: beside.read_bytes()}
        except OSError:
            copied = {}
        writer = _Writer(target, about, copied)

        def write() -> None:
            try:
                save(tensors, storage_writer=writer, process_group=self._group)
            except BaseException as error:
                self._failure = error

        self._thread = threading.Thread(target=write, daemon=True, name="checkpoint")
        self._thread.start()

    @property
    def done(self) -> bool:
        """Whether nothing is being written; then `finish` returns at once."""
        return self._thread is None or not self._thread.is_alive()

    def finish(self) -> bool:
        """Wait until what was begun is written; False if nothing was.

        Raises:
            OSError: a rank could not write.
        """
        if self._thread is None:
            return False
        self._thread.join()
        self._thread, failure = None, self._failure
        self._failure = None
        if isinstance(failure, CheckpointException):
            causes = [error for error, _ in failure.failures.values()]
            raise next((error for error in causes if isinstance(error, OSError)), causes[0]) from None
        if failure is not None:
            raise failure
        return True


class _Writer(FileSystemWriter):
    """PyTorch's writer with an index that is JSON instead of a pickle, checksums, and a rename at the end."""

    def __init__(self, target: Path, about: dict[str, Any], beside: dict[str, bytes]) -> None:
        self._aside = target.with_name(target.name + ASIDE)
        super().__init__(self._aside)
        self._target, self._about, self._beside = target, about, beside

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """Write this rank's tensors, and read the file back for its checksum."""
        results = super().write_data(plan, planner).wait()
        names = {result.storage_data.relative_path for result in results}
        files = {name: _described(self._aside / name) for name in names}
        future: Future[list[WriteResult]] = Future()
        future.set_result([_with_checksum(result, files) for result in results])
        return future

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """On rank 0, when all have written: add the index and give the folder its name."""
        written = [(result.index.fqn, result.storage_data) for items in results for result in items]
        files = {item.tensor.file: item.file for _, item in written}
        for name, content in self._beside.items():
            (self._aside / name).write_bytes(content)
            files[name] = _described(self._aside / name)
        index = {
            "about": self._about,
            "tensors": {name: asdict(item.tensor) for name, item in written},
            "files": {name: asdict(item) for name, item in files.items()},
        }
        text = json.dumps(index)
        whole = json.dumps({"crc32": zlib.crc32(text.encode()), "content": text})
        with (self._aside / INDEX).open("w") as file:
            file.write(whole)
            file.flush()
            os.fsync(file.fileno())
        if self._target.exists():
            shutil.rmtree(self._target)
        self._aside.rename(self._target)


def _sound(item: StoredTensor | StoredFile) -> bool:
    """Whether all is of the type that it should be."""
    values = asdict(item)
    return isinstance(values.pop("file", ""), str) and all(
        type(number) is int and number >= 0 for number in values.values()
    )


def _with_checksum(result: WriteResult, files: dict[str, StoredFile]) -> WriteResult:
    place = result.storage_data
    tensor = StoredTensor(place.relative_path, place.offset, place.length)
    return replace(result, storage_data=_Written(tensor, files[tensor.file]))


def _described(path: Path) -> StoredFile:
    size = crc = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            size += len(block)
            crc = zlib.crc32(block, crc)
    return StoredFile(size, crc)
