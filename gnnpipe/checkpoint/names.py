"""Names of checkpoints and weights in a run's folder. Imports no PyTorch."""

from __future__ import annotations

CHECKPOINTS, MODEL = "checkpoints", "model.safetensors"
