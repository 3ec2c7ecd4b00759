"""A thousand damaged files and folders in every format: an error of ours, or a graph that is right."""

from __future__ import annotations

import gzip
import io
import json
import resource
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.sparse as sp
import torch

from gnnpipe.config.importing import TablesConfig
from gnnpipe.config.run import RunConfig
from gnnpipe.errors import DataError, UserError
from gnnpipe.graph.choices import Choices
from gnnpipe.graph.data import Graph
from gnnpipe.graph.sources import detect
from gnnpipe.graph.sources.detect import read_source
from gnnpipe.graph.sources.raw import RawGraph
from tests.graph.sources import test_formats as formats
from tests.graph.sources import test_ogb as ogb

PER_SOURCE = 60
MOST_KIB = 400 << 10


def write_npz(folder: Path) -> Path:
    np.savez(folder / "a.npz", **formats.named())
    return folder / "a.npz"


def write_packed_npz(folder: Path) -> Path:
    np.savez_compressed(folder / "a.npz", **formats.named())
    return folder / "a.npz"


def write_benchmark(folder: Path) -> Path:
    matrix = sp.coo_matrix((formats.WEIGHT, tuple(formats.EDGES)), (9, 9)).tocsr()
    arrays = {f"adj_{part}": getattr(matrix, part) for part in ("data", "indices", "indptr", "shape")}
    features = sp.csr_matrix(formats.X)
    arrays |= {f"attr_{part}": getattr(features, part) for part in ("data", "indices", "indptr", "shape")}
    np.savez(folder / "a.npz", labels=formats.Y, **arrays)
    return folder / "a.npz"


def write_scipy(folder: Path) -> Path:
    sp.save_npz(
        folder / "a.npz", sp.coo_matrix((formats.WEIGHT, tuple(formats.EDGES)), (9, 9)).tocsc(), False
    )
    return folder / "a.npz"


def write_mtx(folder: Path) -> Path:
    scipy.io.mmwrite(folder / "a.mtx", sp.coo_matrix((formats.WEIGHT, tuple(formats.EDGES)), (9, 9)))
    return folder / "a.mtx"


def write_packed_mtx(folder: Path) -> Path:
    content = io.BytesIO()
    scipy.io.mmwrite(content, sp.coo_matrix((formats.WEIGHT, tuple(formats.EDGES)), (9, 9)))
    (folder / "a.mtx.gz").write_bytes(gzip.compress(content.getvalue()))
    return folder / "a.mtx.gz"


def write_pt(folder: Path) -> Path:
    torch.save(formats.data(), folder / "a.pt")
    return folder / "a.pt"


def write_dict(folder: Path) -> Path:
    torch.save(formats.data().to_dict(), folder / "a.pt")
    return folder / "a.pt"


def write_npy(folder: Path) -> Path:
    return formats.save_npy(folder / "npy", **formats.named())


def write_igb(folder: Path) -> Path:
    formats.save_npy(folder / "igb" / "processed" / "paper", node_feat=formats.X, node_label_19=formats.Y)
    formats.save_npy(folder / "igb" / "processed" / "paper__cites__paper", edge_index=formats.EDGES.T)
    return folder / "igb"


def write_arxiv(folder: Path) -> Path:
    return ogb.ogb(folder, "arxiv", node_year=ogb.YEARS)


def write_products(folder: Path) -> Path:
    return ogb.ogb(folder, "products", "sales_ranking")


def write_proteins(folder: Path) -> Path:
    ogb.proteins(folder)
    return folder / "proteins"


def write_papers(folder: Path) -> Path:
    place = ogb.ogb(folder, "papers100M-bin", **dict.fromkeys(("edge", "node-feat", "node-label")))
    arrays = {"edge_index": ogb.EDGES, "node_feat": ogb.FEATURES, "node_year": np.array(ogb.YEARS)}
    np.savez(place / "raw" / "data.npz", **arrays)
    np.savez(place / "raw" / "node-label.npz", node_label=np.array(ogb.LABELS))
    return place


SOURCES: list[Callable[[Path], Path]] = [
    write_npz, write_packed_npz, write_benchmark, write_scipy, write_mtx, write_packed_mtx, write_pt,
    write_dict, write_npy, write_igb, lambda folder: formats.saint(folder / "saint"),
    lambda folder: formats.graphbolt(folder / "bolt"), write_arxiv, write_products, write_proteins, ogb.mag,
    write_papers,
]  # fmt: skip


def damage(path: Path, rng: np.random.Generator) -> str:
    """Change one file of a source; returns what was done."""
    files = sorted(file for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file())
    file = files[rng.integers(len(files))]
    content = bytearray(file.read_bytes())
    at = int(rng.integers(max(1, len(content))))
    kind = ["flip", "cut", "insert", "repeat", "swap", "remove", "number", "unpacked"][rng.integers(8)]
    if kind == "remove":
        if path.is_file():
            return "nothing"
        file.unlink()
        return f"{file.name}: removed"
    if kind == "swap" and len(files) > 1:
        file.write_bytes(files[rng.integers(len(files))].read_bytes())
        return f"{file.name}: replaced by another"
    if kind == "flip" and content:
        for place in rng.integers(len(content), size=int(rng.integers(1, 9))):
            content[place] ^= 1 << int(rng.integers(8))
    elif kind == "cut":
        del content[at:]
    elif kind == "insert":
        content[at:at] = rng.bytes(int(rng.integers(1, 40)))
    elif kind == "repeat":
        content[at:at] = content[: int(rng.integers(1, 200))]
    else:
        content = changed_inside(file, content, rng)
    file.write_bytes(content)
    return f"{file.name}: {kind} at {at}"


def changed_inside(file: Path, content: bytearray, rng: np.random.Generator) -> bytearray:
    """Damage that a checksum does not give away: an array of another shape, a cell, a value in the text."""
    if file.suffix == ".npz":
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = dict(archive)
        name = sorted(arrays)[rng.integers(len(arrays))]
        arrays[name] = changed_array(arrays[name], rng)
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        return bytearray(buffer.getvalue())
    if file.suffix == ".npy":
        buffer = io.BytesIO()
        np.save(buffer, changed_array(np.load(io.BytesIO(content)), rng))
        return bytearray(buffer.getvalue())
    packed = file.suffix == ".gz"
    text = bytearray(gzip.decompress(content)) if packed else content
    words = [b"-1", b"nan", b"1e400", b"", b"99999999999", b"x", b",", b"\n", b"\0", b"1.5", b'"', b"null"]
    at = int(rng.integers(len(text) + 1))
    text[at : at + int(rng.integers(4))] = words[rng.integers(len(words))]
    return bytearray(gzip.compress(text)) if packed else text


def changed_array(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    kind = int(rng.integers(7))
    if kind == 0 or array.dtype.kind not in "iuf" or not array.size:
        return array.reshape(-1)[: int(rng.integers(array.size + 1))]
    changed = array.copy()
    if kind < 4:
        changed.reshape(-1)[rng.integers(array.size)] = value_of(rng, array.dtype)
        return changed
    if kind == 4:
        return changed.astype(np.float64) + 0.5
    return changed.astype("U8") if kind == 5 else np.stack([changed, changed])


def value_of(rng: np.random.Generator, dtype: np.dtype) -> np.ndarray:
    whole, real = [-1, 10**12, 2**31, 7, 0], [np.nan, np.inf, -1e30, 0.5, -1.0]
    values = np.array(real if dtype.kind == "f" else whole)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # too large for the format
        return values.astype(dtype)[rng.integers(5)]


def check(raw: RawGraph) -> None:
    """What a writer of graph folders relies on: shapes that fit together; ids it checks itself."""
    edge_index = np.asarray(raw.edge_index)
    assert edge_index.ndim == 2
    assert edge_index.shape[0] == 2
    assert edge_index.dtype.kind in "iu"
    assert raw.num_nodes is not None
    assert raw.num_nodes >= 0
    assert raw.weight is None or np.asarray(raw.weight).ndim == 1
    if raw.features is not None:
        assert len(raw.features.shape) == 2
    if raw.labels is not None:
        assert np.asarray(raw.labels).ndim in (1, 2)
    for mask in raw.masks or ():
        assert mask.dtype == torch.bool
        assert mask.shape[0] == raw.num_nodes


def no_table(path: Path, *_: object) -> None:
    raise DataError(f"{path.name}: a table")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Sparse:UserWarning")
def test_a_thousand_damaged_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detect, "_read_tables", no_table)  # tables are damaged in tests of their own
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes = {"read": 0, "refused": 0}
    for number, write in enumerate(SOURCES):
        rng = np.random.default_rng(number)
        (tmp_path / str(number)).mkdir()
        whole = write(tmp_path / str(number))
        for attempt in range(PER_SOURCE):
            path, scratch = tmp_path / "now" / whole.name, tmp_path / "scratch"
            scratch.mkdir()
            if whole.is_dir():
                shutil.copytree(whole, path)
            else:
                path.parent.mkdir()
                shutil.copy(whole, path)
            done = damage(path, rng)
            message = ""
            try:
                raw = read_source(path, TablesConfig(), scratch, lambda _: None)
                if raw.features is not None and raw.labels is not None:
                    Graph.from_raw(raw, whole.name, Choices.of(RunConfig()))
            except UserError as error:
                message = str(error)
            except Exception as error:
                pytest.fail(f"{whole.name}, try {attempt}, {done}: {type(error).__name__}: {error}")
            else:
                check(raw)
            assert "\n" not in message, done
            assert len(message) < 3000, done
            outcomes["refused" if message else "read"] += 1
            shutil.rmtree(tmp_path / "now")
            shutil.rmtree(scratch)
    assert sum(outcomes.values()) == PER_SOURCE * len(SOURCES) >= 1000
    assert min(outcomes.values()) > 200
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_KIB


def test_headers_that_claim_the_world_take_no_memory(tmp_path: Path) -> None:
    huge = str(10**17)
    for name, text in (
        ("a.mtx", f"%%MatrixMarket matrix coordinate real general\n{huge} {huge} 4\n1 1 1\n"),
        ("b.mtx", f"%%MatrixMarket matrix coordinate real general\n5 5 {huge}\n1 1 1\n"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(DataError):
            read_source(tmp_path / name, TablesConfig(), tmp_path, lambda _: None)
    folder = formats.saint(tmp_path / "saint", **{"role.json": {"tr": [10**15], "va": [1], "te": [2]}})
    with pytest.raises(DataError, match="is out of range for 9 nodes"):
        read_source(folder, TablesConfig(), tmp_path, lambda _: None)
    arrays = {"data": [1.0], "indices": [0], "indptr": [0, 1], "shape": [10**11, 10**11]}
    np.savez(folder / "adj_full.npz", **{key: np.array(value) for key, value in arrays.items()})
    with pytest.raises(DataError, match="indptr: 1 rows for a matrix of 100000000000"):
        read_source(folder, TablesConfig(), tmp_path, lambda _: None)
    assert json.loads((folder / "class_map.json").read_text())
