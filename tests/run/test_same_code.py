"""Whether a model of one's own still makes the layers of the run that goes on."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gnnpipe.config.run import RunConfig
from gnnpipe.errors import ConfigError
from gnnpipe.nn.models import DataSizes, spec_of
from gnnpipe.run.resume import check_same_code

CODE = """
from torch import nn
from torch_geometric.nn import GINEConv

import gnnpipe


def layers(num_features, num_classes):
    yield lambda: gnnpipe.nn.Conv(GINEConv(nn.Linear(num_features, num_classes), edge_dim=2))
"""


def test_buffers_are_kept_apart_from_weights(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(CODE)
    spec = spec_of(RunConfig(model=f"{tmp_path / 'mine.py'}:layers"), DataSizes(4, 3, edge_dim=2))
    before: Any = SimpleNamespace(model_checksum="")
    weights = [
        f"weights.layers.0.conv.{part}.{name}" for part in ("nn", "lin") for name in ("weight", "bias")
    ]
    kept: Any = SimpleNamespace(tensors=[*weights, "buffers.layers.0.conv.eps"])
    assert check_same_code(before, spec, kept) == []
    lacking: Any = SimpleNamespace(tensors=weights)
    with pytest.raises(ConfigError, match=r"conv\.eps: the checkpoint has none"):
        check_same_code(before, spec, lacking)
