"""Tables and pictures in a notebook, and tables for pandas."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from gnnpipe.errors import ConfigError
from gnnpipe.files.reading import Content

if TYPE_CHECKING:
    import pandas


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook, which shows HTML and pictures."""
    ipython = sys.modules.get("IPython")  # there already if so
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def display(html: str, picture: Path) -> None:
    """Show a piece of HTML, and below it a picture if the file is there, in the notebook's current cell."""
    from IPython.display import HTML, Image
    from IPython.display import display as show

    show(HTML(html))
    if picture.exists():
        show(Image(filename=str(picture)))


def html_table(title: str, rows: Sequence[Sequence[str]], header: Sequence[str] = ()) -> str:
    """A table in HTML. The first cell of each row names it; two leading blanks indent it."""
    head = _row(header, "th") if header else ""
    body = "".join(_row(row, "td") for row in rows)
    return f"<table><caption>{escape(title)}</caption>{head}{body}</table>"


def _row(cells: Sequence[str], tag: str) -> str:
    name, *values = (escape(cell).replace("  ", "&emsp;") for cell in cells)
    right = "".join(f'<{tag} style="text-align: right">{value}</{tag}>' for value in values)
    return f'<tr><{tag} style="text-align: left">{name}</{tag}>{right}</tr>'


def paragraph(line: str) -> str:
    """A line of text in HTML."""
    return f"<p>{escape(line)}</p>"


def frame(rows: Sequence[Content], index: str) -> pandas.DataFrame:
    """Rows as a DataFrame. Keys of nested objects become columns such as ``bytes_sent.weights``; lists stay.

    Args:
        rows: one object a row; the first may have keys that others lack.
        index: key of the column that names the rows.

    Raises:
        ConfigError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError:
        raise ConfigError("frame: pandas is not installed; pip install 'gnnpipe[frames]'") from None
    if not rows:
        return pandas.DataFrame(columns=[index]).set_index(index)
    return pandas.json_normalize(list(rows)).set_index(index)
