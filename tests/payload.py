"""A stand-in for the code that a hostile pickle would run."""

from __future__ import annotations

import os
from pathlib import Path


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self._path),)
