"""Arrays that grow in a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gnnpipe.files.spool import Spool, new_mapped, release


def test_rows_come_back(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "rows", np.int32, 2)
    spool.append(np.array([[1, 2], [3, 4]]))
    spool.append(np.zeros((0, 2)))
    spool.append(np.array([[5, 6]], np.int64)[:, ::-1])
    assert len(spool) == 3
    mapped = spool.mapped()
    assert mapped.tolist() == [[1, 2], [3, 4], [6, 5]]
    assert mapped.dtype == np.int32
    release(mapped)
    assert mapped.T[1].tolist() == [2, 4, 5]
    with pytest.raises(ValueError, match="read-only"):
        mapped[0] = 0


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("there", "link"):
        with pytest.raises(FileExistsError):
            Spool(tmp_path / name, np.int32)
        with pytest.raises(FileExistsError):
            new_mapped(tmp_path / name, np.int32, (3,))
    assert not (tmp_path / "elsewhere").exists()


def test_empty_arrays(tmp_path: Path) -> None:
    assert Spool(tmp_path / "a", np.float32, 2).mapped().shape == (0, 2)
    assert new_mapped(tmp_path / "b", np.float32, (0, 3)).shape == (0, 3)


def test_what_is_written_stays_when_pages_are_released(tmp_path: Path) -> None:
    array = new_mapped(tmp_path / "a", np.float32, (1000, 7))
    array[5] = 3
    release(array)
    assert array[5].tolist() == [3] * 7
    assert not array[6].any()
    release(np.zeros(3))


def test_a_disk_without_room(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"No space left|File too large|Invalid argument"):
        new_mapped(tmp_path / "a", np.float32, (1 << 50,))
