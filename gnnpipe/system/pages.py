"""Huge pages of memory."""

from __future__ import annotations

import os


def ask_for_huge_pages() -> None:
    """Tell PyTorch to ask for huge pages, unless the user has set its environment variable.

    Tables of many megabytes are read at random, and huge pages spare most misses of the processor's TLB.
    PyTorch reads the variable at its first allocation; processes that this one starts inherit it.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
