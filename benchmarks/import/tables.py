"""pyarrow against polars: seconds and peak memory to stream 20 million edges from CSV and Parquet.

python -m benchmarks.import.tables                # writes tables.json beside this file
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import write

ROWS, NODES = 20_000_000, 2_000_000
BATCH = 1_000_000
RESULT = Path(__file__).with_name("tables.json")
FORMS = ("integers.csv", "text.csv", "integers.parquet")


def make_files(folder: Path, rows: int) -> None:
    """Write the three tables: random edges with numbers, and with text such as ``user_17``, as ids."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.csv
    import pyarrow.parquet

    generator = np.random.default_rng(0)
    edges = pa.table({name: generator.integers(NODES, size=rows) for name in ("source", "target")})
    pa.csv.write_csv(edges, folder / "integers.csv")
    pa.parquet.write_table(edges, folder / "integers.parquet")
    named = {
        name: pc.binary_join_element_wise("user", edges[name].cast("string"), "_")
        for name in ("source", "target")
    }
    pa.csv.write_csv(pa.table(named), folder / "text.csv")


def with_pyarrow(path: Path) -> Iterator[list[np.ndarray]]:
    """Columns of each batch: numbers, or for text the lengths of the ids."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.csv
    import pyarrow.parquet

    kind = pa.string() if path.stem == "text" else pa.int64()
    with path.open("rb") as file:
        if path.suffix == ".csv":
            types = {"source": kind, "target": kind}
            batches = pa.csv.open_csv(
                file,
                read_options=pa.csv.ReadOptions(block_size=4 << 20),
                convert_options=pa.csv.ConvertOptions(column_types=types),
            )
        else:
            batches = pa.parquet.ParquetFile(file).iter_batches(BATCH)
        for batch in batches:
            columns = [
                pc.binary_length(column) if kind == pa.string() else column for column in batch.columns
            ]
            yield [column.to_numpy() for column in columns]


def with_polars(path: Path) -> Iterator[list[np.ndarray]]:
    """As `with_pyarrow`."""
    import polars as pl

    kind = pl.String if path.stem == "text" else pl.Int64
    scan = (
        pl.scan_csv(path, schema={"source": kind, "target": kind})
        if path.suffix == ".csv"
        else pl.scan_parquet(path)
    )
    for batch in scan.collect_batches(chunk_size=BATCH, maintain_order=True):
        columns = [column.str.len_bytes() if kind == pl.String else column for column in batch.get_columns()]
        yield [column.to_numpy() for column in columns]


READERS: dict[str, Callable[[Path], Iterator[list[np.ndarray]]]] = {
    "pyarrow": with_pyarrow,
    "polars": with_polars,
}


def measure(library: str, path: Path) -> dict[str, Any]:
    """Seconds, rows and peak memory above that of the imported library; run in a process of its own."""
    __import__(library)
    base = _resident()
    peak, done = [base], threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            peak[0] = max(peak[0], _resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    began, rows, total = time.perf_counter(), 0, 0
    for columns in READERS[library](path):
        rows += len(columns[0])
        total += sum(int(column.sum()) for column in columns)
    seconds = time.perf_counter() - began
    done.set()
    watcher.join()
    cpu = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "seconds": seconds, "cpu_seconds": cpu.ru_utime + cpu.ru_stime, "peak_mib": (peak[0] - base) / 2**20,
        "rows": rows, "checksum": total,
    }  # fmt: skip


def _resident() -> int:
    """Anonymous and mapped memory of this process, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--one", nargs=2, metavar=("LIBRARY", "FILE"), help="measure here, print JSON")
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.one[0], Path(given.one[1]))))
        return
    result: dict[str, Any] = {
        "rows": given.rows, "cores": os.cpu_count(), "load_average": os.getloadavg(),
        "versions": {library: version(library) for library in READERS},
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        make_files(Path(folder), given.rows)
        for name in FORMS:
            for library in READERS:
                runs = []
                for _ in range(3):
                    command = [
                        sys.executable,
                        "-m",
                        "benchmarks.import.tables",
                        "--one",
                        library,
                        f"{folder}/{name}",
                    ]
                    done = subprocess.run(command, capture_output=True, text=True, check=True)
                    runs.append(json.loads(done.stdout))
                result[f"{name} {library}"] = min(runs, key=lambda run: run["seconds"])
    write(RESULT, result)


if __name__ == "__main__":
    main()
