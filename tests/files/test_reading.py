"""Files that claim what they are not cost an error, neither memory nor time."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import struct
import time
import zipfile
from pathlib import Path

import numpy as np
import psutil
import pytest
import scipy.sparse as sp
import torch

from gnnpipe.files.arrays import unzipped
from gnnpipe.files.foreign import PlainUnpickler, safely
from gnnpipe.files.mapped import map_arrays
from gnnpipe.files.plain_yaml import dump_yaml
from gnnpipe.files.reading import (
    map_tensors,
    parse_json,
    parse_yaml,
    read_bytes,
    read_json,
    read_json_lines,
    read_tensor,
    read_yaml_text,
)
from tests.payload import Payload

TEN_GIB = 10 << 30


@pytest.fixture(autouse=True)
def _cheap() -> object:
    """Whatever is refused is refused before its memory is taken."""
    before, began = psutil.Process().memory_info().rss, time.process_time()
    yield
    assert psutil.Process().memory_info().rss - before < 600 << 20
    assert time.process_time() - began < 5
    return None


def aliases(kind: str, levels: int = 30) -> str:
    lines = ["a0: &a0 [x, x]" if kind == "list" else "a0: &a0 {x: 1}"]
    for level in range(1, levels):
        inner = ", ".join([f"*a{level - 1}"] * 9)
        if kind == "list":
            lines.append(f"a{level}: &a{level} [{inner}]")
        elif kind == "merge":
            lines.append(f"a{level}: &a{level} {{<<: [{inner}]}}")
        else:
            names = ", ".join(f"k{n}: *a{level - 1}" for n in range(9))
            lines.append(f"a{level}: &a{level} {{{names}}}")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (aliases("list"), "it holds more than 10,000 values, aliases written out"),
        (aliases("dict"), "it holds more than 10,000 values, aliases written out"),
        (aliases("merge"), "it holds more than 10,000 values, aliases written out"),
        ("a: &a [*a]", "line 1: a value contains itself"),
        ("a: &a {b: {c: *a}}", "line 1: a value contains itself"),
        ("a: 1\nb: &b {<<: *b}", "line 2: a value contains itself"),
        ("[" * 5000, "nested too deeply|expected"),
        ("layers: 2\nlayers: 3", "line 2 gives 'layers' a second time"),
        ("a: !!python/object/apply:os.mkdir [x]", "could not determine a constructor"),
        ("a: !!python/name:os.system", "could not determine a constructor"),
        ("a: " + "9" * 5000, "limit"),
        ("? [a, b]\n: c", "unhashable|expected"),
        ("a: !!timestamp 2024-99-99", "month"),
        ("a: \0", "special characters"),
    ],
)
def test_yaml_that_would_unfold_or_run(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        parse_yaml(text)
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


def test_what_looks_like_a_word_is_one() -> None:
    for word in ("2024-99-99", "2024-01-01", "20:23", "010", "-01.5", "no", "0x10", ".", "1e", "e5"):
        assert parse_yaml(f"a: {word}") == {"a": word}
    for number in ("0", "-3", "+10", "0.5", ".5", "-5.", "1e-3", "1E5", "-.5e+2", "0.0"):
        assert parse_yaml(f"a: {number}") == {"a": float(number)}


def test_what_is_written_is_read_again() -> None:
    words = ("1e5", "-1E5", ".5e3", "5.", "010", "20:23", "no", "null", "~", "1_0", "0x10", "2024-01-01", "")
    values = {"words": list(words), "numbers": [1e5, 1e-7, 0.0, -3, 10**20, True, None], "empty": {}}
    found = parse_yaml(dump_yaml(values))
    assert found == values
    assert [type(value) for value in found["numbers"]] == [type(value) for value in values["numbers"]]


def test_aliases_as_people_use_them() -> None:
    assert parse_yaml("a: &a {x: 1}\nb: *a\nc: [*a, *a]") == {
        "a": {"x": 1},
        "b": {"x": 1},
        "c": [{"x": 1}] * 2,
    }


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a": NaN}', '{"a": 1e999}', "[1]", "3", "{", '{"a": ' + "9" * 5000 + "}"]
)
def test_json_that_is_none_of_ours(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_json(text)


def test_files_without_an_end(tmp_path: Path) -> None:
    sparse, pipe, link = (tmp_path / name for name in ("sparse", "pipe", "link"))
    with sparse.open("wb") as file:
        file.truncate(TEN_GIB)
    os.mkfifo(pipe)
    link.symlink_to("/dev/zero")
    for path, message in (
        (sparse, "more than .* are not read"),
        (pipe, "no ordinary file"),
        (link, "it is a link"),
        (Path("/dev/zero"), "no ordinary file"),
        (tmp_path, "a folder stands there"),
    ):
        for read in (read_json, read_yaml_text, read_json_lines):
            with pytest.raises(OSError, match=message):
                read(path)
    with pytest.raises(OSError, match="claims 10,737,418,240 bytes, of which 0 are there"):
        read_bytes(sparse, 1 << 40)
    with pytest.raises(OSError, match="claims"):
        read_tensor(sparse, "x")


def test_a_line_without_an_end(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_bytes(b'{"epoch": 0}\n' + b" " * (17 << 20))
    with pytest.raises(ValueError, match="line 2 is longer than"):
        read_json_lines(path)
    path.write_bytes(b'{"epoch": 0}\n[1]\n')
    with pytest.raises(ValueError, match="line 2: it holds no JSON object"):
        read_json_lines(path)


def npy(shape: tuple[int, ...], content: bytes, descr: str = "<f8") -> bytes:
    """An array's file, whatever it holds."""
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content


def npz(path: Path, *, compressed: bool = True, **members: bytes) -> Path:
    kind = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", kind) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


def test_arrays_hold_what_their_headers_say(tmp_path: Path) -> None:
    good = np.arange(12.0).reshape(3, 4)
    np.savez_compressed(tmp_path / "good.npz", a=good, b=np.array("text"), c=np.empty((0, 3)))
    with map_arrays(tmp_path / "good.npz", tmp_path) as found:
        assert np.array_equal(found["a"], good)
        assert set(found) == {"a", "b", "c"}
        assert found["c"].shape == (0, 3)
    for name, content, message in (
        ("ten", npy((TEN_GIB // 8,), b"x" * 80), r"takes 10,737,418,240 bytes, but 80 are there"),
        ("huge", npy((10**18, 10**18), b""), "takes .* bytes, but 0 are there"),
        ("negative", npy((-1, -8), b"x" * 64), "shape"),
        ("short", npy((3,), b"x" * 8), "takes 24 bytes, but 8 are there"),
        ("objects", npy((1,), pickle.dumps([1]), "|O"), "Python objects, which would be unpickled"),
        ("none", b"nothing", "can't be read|magic"),
        ("deep", npy((1,), b"", "<f8")[:-20] + b"(" * 20, r"\w"),
    ):
        path = npz(tmp_path / f"{name}.npz", a=content)
        with pytest.raises(ValueError, match=message), map_arrays(path, tmp_path) as found:
            found["a"]
        with safely(), pytest.raises(ValueError, match=message):
            np.load(path, allow_pickle=True)
        if name not in ("none", "deep"):
            (tmp_path / "one.npy").write_bytes(content)
            with safely(), pytest.raises(ValueError, match=message):
                np.load(tmp_path / "one.npy", allow_pickle=True)


def test_a_zip_bomb_is_not_unfolded(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as member:
        member.write(npy(((300 << 20) // 8,), b""))
        for _ in range(300):
            member.write(bytes(1 << 20))
    with (
        pytest.raises(ValueError, match=r"bytes of it would unfold into 314,57\d,\d\d\d"),
        map_arrays(path, tmp_path),
    ):
        pass


def test_a_gzip_bomb_is_not_unfolded(tmp_path: Path) -> None:
    path = tmp_path / "edge.csv.gz"
    with gzip.open(path, "wb") as file:
        file.write(b"0,1\n1,2\n")
    with unzipped(path) as found:
        assert list(found) == [b"0,1\n", b"1,2\n"]
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(300):
            file.write(bytes(1 << 20))
    with unzipped(path) as found, pytest.raises(ValueError, match="would unfold into far more than it is"):
        found.read()
    path.write_bytes(path.read_bytes()[:1000])
    with unzipped(path) as found, pytest.raises(ValueError, match=r"\w"):
        found.read()


def test_a_sparse_file_is_not_filled(tmp_path: Path) -> None:
    path = tmp_path / "feats.npy"
    header = npy((TEN_GIB // 8,), b"")
    path.write_bytes(header)
    os.truncate(path, len(header) + TEN_GIB)
    with safely(), pytest.raises(OSError, match=r"claims 10,737,\d+,\d+ bytes, of which [\d,]+ are there"):
        np.load(path)


def test_tensor_files_hold_what_their_headers_say(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    entry = {"dtype": "F32", "shape": [TEN_GIB // 4], "data_offsets": [0, TEN_GIB]}
    text = json.dumps({"x": entry}).encode()
    for content in (
        struct.pack("<Q", len(text)) + text + bytes(80),
        struct.pack("<Q", TEN_GIB) + text,
        struct.pack("<Q", 2**63) + text,
        b"",
        pickle.dumps({"x": 1}),
    ):
        path.write_bytes(content)
        for read in (lambda: read_tensor(path, "x"), lambda: map_tensors(path)):
            with pytest.raises(ValueError, match=r"\w"):
                read()


def saved(found: object) -> io.BytesIO:
    buffer = io.BytesIO()
    torch.save(found, buffer)
    buffer.seek(0)
    return buffer


def test_tensors_of_others_hold_what_they_say(tmp_path: Path) -> None:
    from torch_geometric.data import Data

    data = Data(x=torch.ones(2, 3), edge_index=torch.tensor([[0, 1], [1, 0]]))
    with safely():
        assert torch.equal(
            torch.load(saved((data.to_dict(), None, Data)), weights_only=False)[0]["x"], data.x
        )
        for found, message in (
            (torch.zeros(1).expand(TEN_GIB), "a tensor of shape .* takes"),
            (Payload(tmp_path / "proof"), "mkdir"),
            ({"x": Payload(tmp_path / "proof")}, "mkdir"),
        ):
            with pytest.raises((pickle.UnpicklingError, ValueError), match=message):
                torch.load(saved(found), weights_only=False)
        (tmp_path / "legacy.pt").write_bytes(pickle.dumps(Payload(tmp_path / "proof")))
        with pytest.raises(ValueError, match="not a zip"):
            torch.load(tmp_path / "legacy.pt")
    assert not (tmp_path / "proof").exists()


def test_pickles_of_arrays_and_nothing_else(tmp_path: Path) -> None:
    matrix = sp.csr_matrix(np.eye(3))
    graph = {0: [1, 2], 1: [0]}
    for good in (np.arange(6).reshape(2, 3), graph, matrix, np.float64(3.0), [1, "a", None]):
        for protocol in (0, 2, 4):
            if protocol == 0 and good is matrix:
                continue
            with safely():
                found = pickle.loads(pickle.dumps(good, protocol=protocol))
            if good is matrix:
                assert np.array_equal(found.toarray(), matrix.toarray())
            else:
                assert np.all(found == good)
    beyond, negative, objects = matrix.copy(), matrix.copy(), np.array([{}], dtype=object)
    beyond.indices[0], negative.indices[0] = 10**6, -1
    shared = [0] * 1000
    wide = sp.csr_matrix(([1.0], [0], [0, 1]), (1, 10**13))
    for bad, message in (
        (Payload(tmp_path / "proof"), "'posix.mkdir', which is not unpickled"),
        ([np.eye(2), Payload(tmp_path / "proof")], "'posix.mkdir', which is not unpickled"),
        (eval, "'builtins.eval', which is not unpickled"),
        (np.load, "not unpickled"),
        (beyond, "indices"),
        (negative, "indices"),
        (objects, "objects"),
        (dict.fromkeys(range(1000), shared), "would unfold into 1,000,000 entries"),
        (wide, "bytes of memory"),
    ):
        content = pickle.dumps(bad)
        with safely(), pytest.raises((pickle.UnpicklingError, ValueError), match=message):
            pickle.load(io.BytesIO(content))
    calls = b"cnumpy\nndarray\n(I%d\ntR." % TEN_GIB
    with pytest.raises(TypeError):
        PlainUnpickler(io.BytesIO(calls)).load()
    assert not (tmp_path / "proof").exists()


def test_all_is_as_before_when_safe_loading_ends() -> None:
    before = (torch.load, np.load, pickle.load, pickle.loads, pickle.Unpickler)
    with safely():
        assert torch.load is not before[0]
        with pytest.raises(pickle.UnpicklingError):
            pickle.Unpickler(io.BytesIO(b""))
    with pytest.raises(OSError, match="gone"), safely():
        torch.load("gone")
    assert (torch.load, np.load, pickle.load, pickle.loads, pickle.Unpickler) == before
