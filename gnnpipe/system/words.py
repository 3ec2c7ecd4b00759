"""Quantities in words."""

from __future__ import annotations


def short_number(text: str) -> str:
    """'0.6630846276' -> '0.6631'; other texts stay as they are."""
    try:
        return f"{float(text):.4g}"
    except ValueError:
        return text


def readable_bytes(count: float) -> str:
    """1536 -> '1.5 KiB'."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
