"""One error for all files of a run that are not as ``gnnpipe train`` wrote them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from gnnpipe.errors import DataError, GnnpipeError, shown


@contextmanager
def as_written(paths: Sequence[Path]) -> Iterator[None]:
    """Turn any failure to read runs' folders, inside the block, into an error that names them.

    Raises:
        DataError: a file lacks a value, or holds something else in its place.
    """
    try:
        yield
    except GnnpipeError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, ArithmeticError, OSError) as error:
        names = ", ".join(f"'{path}'" for path in paths)
        raise DataError(
            f"run: {names}: a file is not as train wrote it ({type(error).__name__}: "
            f"{shown(str(error))}); bring it "
            "back, or run it anew"
        ) from error
