"""The words of ``--features``."""

from __future__ import annotations

import re

from gnnpipe.errors import ConfigError, shown

DEGREE, LAPLACIAN = "degree", "laplacian"
MADE = f"--features {DEGREE} or --features {LAPLACIAN}:16 makes some from the edges"
"""The way out for a graph without features."""


def parse_features(spec: str) -> int:
    """The number of eigenvectors that ``laplacian:16`` asks for; 0 for ``degree``.

    Raises:
        ConfigError: another word.
    """
    found = re.fullmatch(rf"{DEGREE}|{LAPLACIAN}:([1-9]\d{{0,5}})", spec)
    if not found:
        raise ConfigError(
            f"features: '{shown(spec)}' is not known; use {DEGREE}, or {LAPLACIAN}:16 for 16 eigenvectors of "
            "the Laplacian"
        )
    return int(found[1] or 0)
