"""Files that are written past the page cache hold what was written."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from gnnpipe.checkpoint import tensor_file
from gnnpipe.checkpoint.storage import checksum
from gnnpipe.checkpoint.tensor_file import UncachedFile, write_tensors

PAGE = os.sysconf("SC_PAGE_SIZE")


def written(path: Path, pieces: list[bytes]) -> bytes:
    """What a file holds to which pieces were written, after a look at its size and checksum."""
    file = UncachedFile(path)
    try:
        for piece in pieces:
            file.write(piece)
        size, found = file.finish()
    finally:
        file.close()
    content = path.read_bytes()
    assert size == len(content)
    assert found == checksum(content)
    return content


@given(lengths=st.lists(st.integers(0, 3 * PAGE), max_size=6), seed=st.integers(0, 255))
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_pieces(lengths: list[int], seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensor_file, "BLOCK", PAGE)
    pieces = [bytes((seed + 7 * at) % 256 for at in range(length)) for length in lengths]
    assert written(tmp_path / "file", pieces) == b"".join(pieces)


def test_a_file_system_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may refuse to open, or to write a block, or take a part of one only."""
    monkeypatch.setattr(tensor_file, "BLOCK", PAGE)
    monkeypatch.setattr(os, "O_DIRECT", 1 << 14, raising=False)
    pieces = [bytes([at]) * PAGE for at in range(5)]
    open_file, write = os.open, os.write
    refused: list[str] = []

    def without(path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_DIRECT:
            refused.append("open")
            raise OSError(errno.EINVAL, "no such flag")
        return open_file(path, flags, mode)

    monkeypatch.setattr(os, "open", without)
    assert written(tmp_path / "opened", pieces) == b"".join(pieces)

    monkeypatch.setattr(
        os, "open", lambda path, flags, mode=0o777: open_file(path, flags & ~os.O_DIRECT, mode)
    )
    sizes = iter([PAGE, 100, None])

    def awkward(file: int, content: memoryview) -> int:
        size = next(sizes, len(content))
        if size is None:
            refused.append("write")
            raise OSError(errno.EINVAL, "not a whole block")
        return write(file, content[:size])

    monkeypatch.setattr(os, "write", awkward)
    assert written(tmp_path / "written", pieces) == b"".join(pieces)
    assert refused == ["open", "write"]


def test_other_failures_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: int, content: memoryview) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        write_tensors(tmp_path / "file", {"rows": torch.zeros(3)})
    with pytest.raises(FileNotFoundError):
        write_tensors(tmp_path / "gone" / "file", {})


def test_tensors_of_every_type_that_a_checkpoint_has(tmp_path: Path) -> None:
    tensors = {
        "rows": torch.randn(50, 3),
        "half": torch.randn(7, 5).bfloat16(),
        "step": torch.tensor(3.0),
        "node_id": torch.arange(9),
        "fit": torch.randn(2, dtype=torch.float64),
        "turned": torch.randn(4, 6).T,
        "none": torch.empty(0, 4),
    }
    write_tensors(tmp_path / "file", tensors)
    with safe_open(tmp_path / "file", framework="pt") as file:
        assert set(file.keys()) == set(tensors)
        for name, tensor in tensors.items():
            found = file.get_tensor(name)
            assert found.dtype == tensor.dtype
            assert torch.equal(found, tensor), name
