"""Names in a run's folder that checkpoints are about. Imports no PyTorch."""

from __future__ import annotations

CHECKPOINTS, MODEL = "checkpoints", "model.safetensors"
