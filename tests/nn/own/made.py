"""Functions of models for tests, written to files."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

from gnnpipe.nn.own.arguments import OwnModel
from gnnpipe.nn.own.code import checksum_of

HEAD = """
import torch
from torch import nn

import gnnpipe


class Gin(gnnpipe.nn.Layer):
    def __init__(self, in_features, out_features):
        super().__init__()
        self.in_features = self.width = in_features
        self.out_features = out_features
        self.first = nn.Linear(in_features, out_features)

    def message(self, h, drop):
        rows = drop(h)
        return rows, rows

    def update(self, z, carry, h0):
        return self.first(carry + z).relu()


class EdgeSum(gnnpipe.nn.BlockLayer):
    def __init__(self, columns):
        super().__init__()
        self.in_features = self.out_features = self.width = columns
        self.mlp = nn.Linear(2 * columns, columns)

    def combine(self, referenced, own, edges):
        source, target = edges.edge_index
        rows = self.mlp(torch.cat([referenced[source], own[target]], dim=1)).tanh()
        return own + rows.new_zeros(own.shape).index_add(0, target, rows)
"""

DEEP = """
def layers(num_features, num_classes, hidden=8, depth=3):
    yield lambda: gnnpipe.nn.Rows(nn.Linear(num_features, hidden), nn.ReLU())
    for index in range(depth):
        yield lambda: Gin(hidden, hidden) if index % 2 else EdgeSum(hidden)
        yield lambda: nn.LayerNorm(hidden)
    yield lambda: gnnpipe.nn.Rows(nn.Linear(hidden, num_classes), dropout=0.25)
"""
"""Convolutions of two kinds, with rows between them."""


def written(folder: Path, code: str = DEEP, name: str = "mine.py") -> str:
    """Write a module; return the place of its function."""
    (folder / name).write_text(HEAD + dedent(code))
    return f"{folder / name}:layers"


def own_model(place: str, *arguments: str, features: int = 5, classes: int = 3) -> OwnModel:
    return OwnModel(place, checksum_of(place), arguments, features, classes)
