"""Pages of memory."""

from __future__ import annotations

import os


def ask_for_huge_pages() -> None:
    """Tell PyTorch to ask for huge pages, unless a user has decided.

    Tables of many megabytes are read at random; huge pages spare the processor most look-ups of addresses.
    PyTorch reads this once, when it first allocates; processes that we start inherit it.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
