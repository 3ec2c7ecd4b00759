"""Tables and pictures in a notebook, and tables for pandas."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from gnnpipe.errors import ConfigError
from gnnpipe.files.reading import Content
from gnnpipe.report.console import WIDE

if TYPE_CHECKING:
    import pandas


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook, which shows HTML and pictures."""
    ipython = sys.modules.get("IPython")  # there already if so
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def present(write: Callable[[Console], None], console: Console, pictures: Sequence[Path]) -> None:
    """Show what ``write`` prints: on a console, or in a notebook's cell, which has the pictures below.

    Args:
        write: prints, and draws the pictures.
        console: where there is no notebook.
        pictures: files; one that is not there is left out.
    """
    if not in_notebook():
        write(console)
        return
    from IPython.display import HTML, Image, display

    display(HTML(as_html(write)))
    for picture in pictures:
        if picture.exists():
            display(Image(filename=str(picture)))


def as_html(write: Callable[[Console], None]) -> str:
    """Output of ``write`` in HTML: a notebook's tables are those of the command line."""
    text = io.StringIO()
    console = Console(
        file=text, record=True, highlight=False, soft_wrap=True, width=WIDE, force_terminal=False,
        force_jupyter=False,
    )  # fmt: skip
    write(console)
    style = "white-space: pre; overflow-x: auto; line-height: normal; font-family: monospace"
    return console.export_html(inline_styles=True, code_format=f'<pre style="{style}">{{code}}</pre>')


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
