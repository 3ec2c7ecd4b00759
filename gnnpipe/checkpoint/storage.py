"""Checkpoints on disk: tensors of all ranks, written together, read one by one; nothing is unpickled.

epoch-00000020/
  index.json               where each tensor is, what the run was, a checksum of every file and of itself
  rank-00000.safetensors   tensors of rank 0
  rank-00001.safetensors   tensors of rank 1
  model.safetensors        the best weights so far
"""

from __future__ import annotations

import json
import os
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import xxhash
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.checkpoint.storage import StorageWriter, WriteResult
from torch.futures import Future

from gnnpipe.checkpoint.tensor_file import BLOCK, write_tensors
from gnnpipe.errors import CheckpointError, shown
from gnnpipe.files.reading import open_file, parse_json, read_json, read_tensor
from gnnpipe.files.writing import PART, make_folder, remove, rename, write_file
from gnnpipe.system.failures import reason

INDEX = "index.json"


@dataclass(frozen=True)
class StoredFile:
    """What a file must hold."""

    size: int
    xxh3: str


@dataclass(frozen=True)
class _Written:
    """Where a rank wrote a tensor."""

    name: str
    file: StoredFile


@dataclass(frozen=True)
class StoredCheckpoint:
    """A checkpoint's folder and what its index says."""

    folder: Path
    about: dict[str, Any]
    """What the run was; see `gnnpipe.checkpoint.state`."""
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
            return cls(folder, dict(index["about"]), tensors, files)
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
        group: for what ranks tell each other while they write; used by nobody else.
    """

    def __init__(self, group: dist.ProcessGroup | None) -> None:
        self._group = group
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._copies: dict[str, Tensor] = {}
        self._count = 0

    @property
    def is_first(self) -> bool:
        """Whether what this rank tells of the run counts."""
        return self._group is None or dist.get_rank(self._group) == 0

    def begin(
        self, target: Path, tensors: dict[str, Tensor], about: dict[str, Any], beside: dict[str, bytes]
    ) -> None:
        """Start to write; `finish` must have been called since the last time.

        Args:
            target: folder, which appears when all is written.
            tensors: this rank's, under names that no other rank uses. They are copied at once, into memory
                that is kept for the next time: touching new memory takes longer than copying.
            about: what `StoredCheckpoint.about` is to hold; rank 0's counts.
            beside: small files that belong to it, by name; rank 0's count.
        """
        assert self._thread is None
        self._count += 1  # on all ranks alike: what an attempt has left behind is in nobody's way
        rank = 0 if self._group is None else dist.get_rank(self._group)
        copies = {name: self._copied(name, tensor.detach()) for name, tensor in tensors.items()}
        aside = target.with_name(f"{target.name}-{self._count}{PART}")
        writer = _Writer(target, aside, rank, about, beside)

        def write() -> None:
            try:
                save(copies, storage_writer=writer, process_group=self._group)
            except BaseException as error:
                self._failure = error
                if rank == 0:  # all ranks have come to an end, as they tell each other how it went
                    with suppress(OSError):
                        remove(aside)

        self._thread = threading.Thread(target=write, daemon=True, name="checkpoint")
        self._thread.start()

    def _copied(self, name: str, tensor: Tensor) -> Tensor:
        copy = self._copies.get(name)
        if copy is None or copy.shape != tensor.shape or copy.dtype != tensor.dtype:
            copy = self._copies[name] = torch.empty_like(tensor, device="cpu")
        return copy.copy_(tensor)

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


class _Writer(StorageWriter):
    """A file a rank, an index that is JSON where PyTorch's own writer pickles it, and a rename at the end."""

    def __init__(
        self, target: Path, aside: Path, rank: int, about: dict[str, Any], beside: dict[str, bytes]
    ) -> None:
        self._target, self._aside = target, aside
        self._file = f"rank-{rank:05d}.safetensors"
        self._about, self._beside = about, beside

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """PyTorch asks whether this class is for such names; it was chosen already."""
        return True

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """PyTorch tells that a checkpoint begins, and we know which."""

    def set_up_storage_writer(self, is_coordinator: bool, *_: Any, **__: Any) -> None:
        """PyTorch says who calls `finish`."""

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        """Every rank may come first."""
        make_folder(self._aside.parent)
        make_folder(self._aside)
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """Ranks write what they have."""
        return plans

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """Write this rank's tensors."""
        resolved = ((item.index.fqn, planner.resolve_data(item)) for item in plan.items)
        tensors = {name: tensor for name, tensor in resolved if isinstance(tensor, Tensor)}  # all of them
        results = []
        if tensors:
            written = _Written(self._file, StoredFile(*write_tensors(self._aside / self._file, tensors)))
            results = [WriteResult(item.index, written.file.size, written) for item in plan.items]
        future: Future[list[WriteResult]] = Future()
        future.set_result(results)
        return future

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """On rank 0, when all have written: add the index and give the folder its name."""
        written = {result.index.fqn: result.storage_data for items in results for result in items}
        files = {item.name: item.file for item in written.values()}
        for name, content in self._beside.items():
            write_file(self._aside / name, content)
            files[name] = StoredFile(len(content), checksum(content))
        index = {
            "about": self._about,
            "tensors": {name: item.name for name, item in written.items()},
            "files": {name: asdict(item) for name, item in files.items()},
        }
        text = json.dumps(index)
        whole = json.dumps({"xxh3": checksum(text.encode()), "content": text})
        write_file(self._aside / INDEX, whole, durable=True)
        rename(self._aside, self._target)


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
