"""pyarrow: where it is imported, and its columns as numbers and texts.

Chosen over polars by ``benchmarks/import``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from gnnpipe.errors import DataError

# Digits in groups or not, a decimal comma or point, and what may stand around them.
_NOTATION = re.compile(r"[-+]?[$€£]?\s?(\d+|\d{1,3}([.,' ]\d{3})+)([.,]\d+)?([eE][-+]?\d+)?\s?[%$€£]?")

Column = Any
"""A pyarrow Array or ChunkedArray: a column of a table, or of a batch of its rows."""
# Cells that stand for no value, in columns of numbers, categories, labels and splits.
MISSING = (
    "", "NA", "N/A", "n/a", "#N/A", "<NA>", "null", "NULL", "Null", "None", "NaN", "nan", "NAN", "-nan",
    "-NaN",
)  # fmt: skip


def arrow() -> Any:
    """The pyarrow package with the modules that are used here; raises DataError where it is absent."""
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.csv
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(
            f"tables: CSV, TSV and Parquet files are read with pyarrow, which can't be imported ({error}); "
            "pip install 'gnnpipe[tables]'"
        ) from None
    return pyarrow


def failures() -> tuple[type[BaseException], ...]:
    """All that reading a damaged file may raise."""
    return (arrow().ArrowException, ValueError, OSError, EOFError)


def as_text(column: Column) -> Column:
    """The cells as text without spaces around them; null where a cell is null."""
    pa = arrow()
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return pa.compute.utf8_trim_whitespace(pa.compute.cast(column, pa.large_string()))


def missing(texts: Column) -> Column:
    """Whether each cell stands for no value."""
    pa = arrow()
    words = pa.array(MISSING, texts.type)
    return pa.compute.or_(pa.compute.is_in(texts, value_set=words), pa.compute.is_null(texts))


def as_numbers(column: Column) -> tuple[np.ndarray, np.ndarray]:
    """The cells as numbers.

    Returns:
        float64 numbers, NaN for missing cells; and whether each cell is neither a number nor missing.
    """
    pa = arrow()
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if _is_number(column.type):
        numbers = pa.compute.cast(column, pa.float64(), safe=False)
        return _numpy(numbers, np.nan), np.zeros(len(column), bool)
    texts = as_text(column)
    absent = missing(texts)
    try:
        cells = pa.compute.if_else(absent, pa.scalar(None, texts.type), texts)
        return _numpy(pa.compute.cast(cells, pa.float64()), np.nan), np.zeros(len(column), bool)
    except pa.ArrowInvalid:
        return _numbers_one_by_one(texts.to_pylist(), _numpy(absent, True))


def _numbers_one_by_one(texts: list[str | None], absent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    numbers, bad = np.full(len(texts), np.nan), np.zeros(len(texts), bool)
    for row in np.flatnonzero(~absent):
        text = (texts[row] or "").lower()
        try:
            numbers[row] = (
                {"true": 1.0, "false": 0.0}.get(text) if text in ("true", "false") else _float(text)
            )
        except ValueError:
            bad[row] = True
    return numbers, bad


def _float(text: str) -> float:
    """A number as files write it; Python alone would take 1_000, and digits of other scripts."""
    if "_" in text or not text.isascii():
        raise ValueError(text)
    return float(text)


def as_whole(column: Column) -> tuple[np.ndarray, np.ndarray]:
    """The cells as ids that are whole numbers: 17, and also 17.0 and 1e3.

    Returns:
        int64 numbers; and the kind of each cell: 0 a whole number, 1 text, 2 a number that is not whole,
        3 too large for int64, 4 missing.
    """
    pa = arrow()
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_signed_integer(column.type):
        kinds = np.where(_numpy(column.is_null(), True), 4, 0)
        return _numpy(column.cast(pa.int64()), 0), kinds
    if pa.types.is_floating(column.type):
        column = pa.compute.cast(column, pa.float64())
        return _whole_floats(_numpy(column, np.nan), _numpy(column.is_null(), True))
    texts = as_text(column)
    try:
        return _numpy(pa.compute.cast(texts, pa.int64()), 0), np.where(_numpy(texts.is_null(), True), 4, 0)
    except pa.ArrowInvalid:
        cells = [_whole(text) for text in texts.to_pylist()]
        return np.array([value for value, _ in cells], np.int64), np.array([kind for _, kind in cells])


def _whole_floats(numbers: np.ndarray, absent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    absent = absent | np.isnan(numbers)
    kinds = np.zeros(len(numbers), np.int64)
    kinds[numbers != np.trunc(numbers)] = 2
    kinds[np.abs(numbers) > 2**53] = 3  # beyond, floats tell neighbouring ids no longer apart
    kinds[absent] = 4
    return np.where(kinds == 0, numbers, 0).astype(np.int64), kinds


def _whole(text: str | None) -> tuple[int, int]:
    """Value and kind of one cell, as in `as_whole`."""
    if not text:
        return 0, 4
    try:
        value: float = int(text) if text.lstrip("+-").isdigit() and len(text) < 30 else _float(text)
    except ValueError:
        return 0, 1
    if value != value:  # the text nan
        return 0, 1
    if isinstance(value, float) and abs(value) <= 2**53 and value == int(value):
        return int(value), 0
    if isinstance(value, float):
        return 0, 3 if abs(value) > 2**53 else 2
    return (value, 0) if -(2**63) <= value < 2**63 else (0, 3)


def _is_number(kind: Any) -> bool:
    types = arrow().types
    return (
        types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_decimal(kind)
    )


def _numpy(column: Column, null: Any) -> np.ndarray:
    """A column without its nulls, as NumPy's array."""
    pa = arrow()
    if column.null_count:
        column = pa.compute.fill_null(column, pa.scalar(null, column.type))
    array: np.ndarray = column.to_numpy() if isinstance(column, pa.ChunkedArray) else column.to_numpy(False)
    return array


def other_notation(texts: Sequence[str]) -> str:
    """The first of some texts, if all are numbers as people and spreadsheets write them (0,5 or 1.234,56 or
    12 %): none is text in the sense of a category. Empty otherwise."""
    return texts[0] if texts and all(map(_NOTATION.fullmatch, texts)) else ""
