"""Arrays that are mapped, and tables that are read in blocks."""

from __future__ import annotations

import gzip
import os
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnpipe.files import mapped
from gnnpipe.files.mapped import map_array, map_arrays, table_blocks, text_blocks


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Map and spool everything, and read text in tiny blocks."""
    monkeypatch.setattr(mapped, "SMALL_ARRAY", 8)
    monkeypatch.setattr(mapped, "_TEXT_BLOCK", 16)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f2", ">f4", "<i8", "?", "<U3"])
@pytest.mark.usefixtures("small")
def test_npy_files_are_mapped(order: str, dtype: str, tmp_path: Path) -> None:
    array = np.arange(60).reshape(12, 5).astype(dtype, order=order)  # type: ignore[call-overload]
    np.save(tmp_path / "a.npy", array)
    read = map_array(tmp_path / "a.npy")
    assert np.array_equal(read, array)
    assert read.dtype.isnative
    assert isinstance(read, np.memmap) == array.dtype.isnative
    read[0, 0] = read[1, 1]  # a private copy of the page: the file stays as it is
    assert np.array_equal(map_array(tmp_path / "a.npy"), array)
    (tmp_path / "a.npy").unlink()
    assert np.array_equal(read[1:], array[1:])


@pytest.mark.usefixtures("small")
def test_members_are_mapped_where_they_are_stored(tmp_path: Path) -> None:
    a, b = np.arange(40.0).reshape(8, 5), np.arange(7, dtype=np.int32)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for name, array in (("a", a), ("b", b)):
            info = zipfile.ZipInfo(f"{name}.npy")
            info.extra = struct.pack("<HHI", 0x5555, 4, 7)  # an extra field moves the content
            with archive.open(info, "w") as member:
                np.save(member, array)
    with map_arrays(tmp_path / "a.npz", tmp_path / "none") as file:
        arrays = dict(file)
    assert all(isinstance(array, np.memmap) for array in arrays.values())
    assert np.array_equal(arrays["a"], a)
    assert np.array_equal(arrays["b"], b)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), min_size=2, max_size=2), max_size=30),
    st.booleans(),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)
def test_tables_in_blocks(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[list[float | None]],
    packed: bool,
    newline: str,
    ends: bool,
) -> None:
    lines = [",".join("" if cell is None else repr(cell) for cell in row) for row in rows]
    text = (newline.join(lines) + (newline if ends and lines else "")).encode()
    path = tmp_path_factory.mktemp("table") / "t.csv"
    path.write_bytes(gzip.compress(text) if packed else text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mapped, "_TEXT_BLOCK", 16)
        blocks = list(table_blocks(path))
    expected = np.array(
        [[np.nan if cell is None else cell for cell in row] for row in rows], dtype=np.float64
    )
    read = np.concatenate([np.empty((0, 2)), *blocks])
    assert np.array_equal(read, expected.reshape(-1, 2), equal_nan=True)


@pytest.mark.usefixtures("small")
def test_a_column_with_empty_lines(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("\n1\n\n\n2\n3\n\n")
    read = np.concatenate(list(table_blocks(tmp_path / "t.csv")))
    assert np.array_equal(read[:, 0], [np.nan, 1, np.nan, np.nan, 2, 3, np.nan], equal_nan=True)


@pytest.mark.usefixtures("small")
def test_a_line_that_never_ends(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("1," * 100)
    with pytest.raises(ValueError, match="a line is longer than 64 bytes"):
        list(text_blocks(tmp_path / "t.csv"))


@pytest.mark.usefixtures("small")
def test_a_full_disk_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros(1000))
    usage = mapped.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(mapped.shutil, "disk_usage", lambda _: usage._replace(free=100))
    with (
        map_arrays(tmp_path / "a.npz", tmp_path) as file,
        pytest.raises(OSError, match=r"8,128 bytes are to be written to .* and 100 are free; set TMPDIR"),
    ):
        file["a"]


@pytest.mark.slow
def test_memory_stays_bounded(tmp_path: Path) -> None:
    """An array of 200 MiB, compressed and not, and a table of 35 MiB, within 120 MiB above the base."""
    array = np.random.default_rng(0).integers(0, 200, 200 << 20, dtype=np.uint8)
    np.savez(tmp_path / "plain.npz", a=array)
    np.savez_compressed(tmp_path / "packed.npz", a=array)
    np.savetxt(tmp_path / "t.csv", np.arange(5_000_000).reshape(-1, 2), "%d", ",")
    script = """
import re, sys
from pathlib import Path
import numpy as np
from gnnpipe.files.mapped import map_arrays, table_blocks
from gnnpipe.files.spool import Spool
folder = Path(sys.argv[1])
# not ru_maxrss, which a process inherits from the one that started it
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
base = peak()
for name in ("plain", "packed"):
    with map_arrays(folder / f"{name}.npz", folder) as file:
        array = file["a"]
print(peak() - base)
spool = Spool(folder / "rows", np.int64, 2)
for block in table_blocks(folder / "t.csv"):
    spool.append(block)
assert len(spool.mapped()) == 2_500_000
print(peak() - base)
"""
    run = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
    )
    for kib in run.stdout.split():
        assert int(kib) < 120 << 10
