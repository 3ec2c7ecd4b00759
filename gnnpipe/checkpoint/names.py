"""Names of checkpoints and weights in a run's folder. Imports no PyTorch."""

from __future__ import annotations

from pathlib import Path

CHECKPOINTS, MODEL = "checkpoints", "model.safetensors"


def weights_file(source: str) -> Path:
    """The file of weights that a user names: the best ones of a run, by its folder, or a file itself."""
    path = Path(source)
    return path / MODEL if path.is_dir() else path
